"""An encoder and an experiment that train in a second or two."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from fairkd.demo import corpus

DEPTH = 4


def write_encoder(folder: Path) -> Path:
    """A BERT encoder with random weights: four layers, width 16, the demo corpus's words."""
    rows = corpus.generate(500, seed=0, negation_rates=(0.5, 0.5, 0.5))
    words = sorted({word for row in rows for word in f"{row['premise']} {row['hypothesis']}".split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **special)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def small_parameters(encoder: Path) -> dict[str, Any]:
    """Of an experiment whose student has two layers."""
    return {
        "train_examples": 240,
        "evaluation_per_group": 10,
        "validation_examples": 12,
        "teacher_model": str(encoder),
        "student_model": None,
        "students": ["kd", "laplace@2"],
        "teacher_epochs": 1,
        "student_epochs": 3,
        "report_to": "none",
    }
