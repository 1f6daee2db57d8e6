"""Encoders of every family: three or four layers of width 16, random weights, a tokenizer of the family's own kind."""

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from fairkd.demo import corpus

POSITIONS = 96
SHAPE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SHAPE |= {"max_position_embeddings": POSITIONS}
# As of deberta-v3-base; deberta-v2-xlarge has a convolution after its first layer besides.
DEBERTA = {"relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0}

FAMILIES: dict[str, tuple[type[PretrainedConfig], dict, str]] = {
    "bert": (BertConfig, SHAPE, "wordpiece"),
    "minilm": (BertConfig, SHAPE | {"num_hidden_layers": 4, "hidden_size": 24, "num_attention_heads": 12}, "wordpiece"),
    "distilbert": (
        DistilBertConfig,
        {"dim": 16, "hidden_dim": 32, "n_layers": 3, "n_heads": 2, "max_position_embeddings": POSITIONS},
        "wordpiece",
    ),
    "electra": (ElectraConfig, SHAPE | {"embedding_size": 8}, "wordpiece"),
    "roberta": (RobertaConfig, SHAPE | {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}, "bytes"),
    "deberta-v2": (DebertaV2Config, SHAPE | DEBERTA | {"conv_kernel_size": 3, "conv_act": "gelu"}, "unigram"),
    "deberta-v3": (DebertaV2Config, SHAPE | DEBERTA, "unigram"),
    # Four layers: global, two that see 4 tokens to each side, global.
    "modernbert": (ModernBertConfig, SHAPE | {"num_hidden_layers": 4, "local_attention": 8}, "bytes, [CLS]"),
}


@cache
def sentences() -> list[tuple[str, str]]:
    """Premises and hypotheses of the demo corpus."""
    rows = corpus.generate(300, seed=0, negation_rates=(0.5, 0.5, 0.5))
    return [(row["premise"], row["hypothesis"]) for row in rows]


@cache
def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of a kind, trained on the sentences."""
    bert = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    special = (
        {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"} if kind == "bytes" else bert
    )
    train = {"vocab_size": 300, "special_tokens": list(special.values()), "show_progress": False}
    pair = f"{special['cls']} $A {special['sep']} $B:1 {special['sep']}:1"
    names = ["input_ids", "attention_mask"]
    if kind == "wordpiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer, names = trainers.WordPieceTrainer(**train), ["input_ids", "token_type_ids", "attention_mask"]
    elif kind == "unigram":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer, names = trainers.UnigramTrainer(unk_token="[UNK]", **train), [*names, "token_type_ids"]
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **train)
    if kind == "bytes":  # RoBERTa's has two separators between the texts, and one type of token
        pair = "<s> $A </s> </s> $B </s>"
    made.train_from_iterator([text for both in sentences() for text in both], trainer)
    numbers = [(token, made.token_to_id(token)) for token in (special["cls"], special["sep"])]
    made.post_processor = processors.TemplateProcessing(
        single=f"{special['cls']} $A {special['sep']}", pair=pair, special_tokens=numbers
    )
    named = {f"{name}_token": token for name, token in special.items()}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=names, **named)


def save(family: str, folder: Path, labels: tuple[str, ...] | None = None, **changes) -> Path:
    """Write an encoder of a family, or a classifier over `labels`, with its tokenizer; `changes` are its config's."""
    kind, shape, tokens = FAMILIES[family]
    own = tokenizer(tokens)
    config = kind(**({"vocab_size": len(own), "pad_token_id": own.pad_token_id} | shape | changes))
    torch.manual_seed(0)
    if labels is None:
        model = AutoModel.from_config(config)
    else:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        model = AutoModelForSequenceClassification.from_config(config)
    for weights in model.parameters():  # far enough from one another that rows and layers are told apart
        weights.data += 0.1 * torch.randn_like(weights)
    model.save_pretrained(folder)
    own.save_pretrained(folder)
    return folder
