"""What many tests need: a project root of their own, a very small encoder, an experiment of seconds."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from fairkd import Experiment
from fairkd.demo import corpus
from tests.predictions import table

DEPTH = 4


@pytest.fixture(scope="module")
def one_thread():
    """For tiny problems, where threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root in which runs are made and found; relative paths start here."""
    monkeypatch.setenv("FAIRKD_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """The folder of a BERT encoder with random weights: four layers, width 16, the demo corpus's words."""
    folder = tmp_path_factory.mktemp("encoder")
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


@pytest.fixture
def small(project, encoder):
    """An experiment that trains in a second or two; its student has two layers."""
    return Experiment(
        train_examples=240,
        evaluation_per_group=10,
        validation_examples=12,
        teacher_model=str(encoder),
        student_model=None,
        aux_layer=1,
        students=["kd", "laplace@2"],
        teacher_epochs=1,
        student_epochs=3,
        report_to="none",
    )


@pytest.fixture(scope="session")
def tables():
    """{student: {seed: predictions table}}: four seeds of two students, the second better in one group."""
    rng = np.random.default_rng(0)
    return {
        "kd": {s: table(rng, [0.9, 0.5, 0.9, 0.8]) for s in range(4)},
        "laplace@3": {s: table(rng, [0.9, 0.9, 0.9, 0.8]) for s in range(4)},
    }
