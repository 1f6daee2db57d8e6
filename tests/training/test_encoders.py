"""Every family of encoder as teacher and as student; what cannot serve is refused before any training."""

import datasets
import pytest
import torch
from tokenizers import processors
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartModel,
    GPT2Config,
    GPT2Model,
    T5Config,
    T5Model,
)

from fairkd import Experiment, ParameterError, distil, fine_tune
from fairkd.evaluation import class_probabilities
from fairkd.training import models
from fairkd.training.features import logits, pooled_states
from fairkd.training.models import check, label_order, layer_stack, load_student, load_teacher
from tests.training.tiny_encoders import FAMILIES, POSITIONS, save, sentences, tokenizer

LABELS = ("entailment", "neutral", "contradiction")
OTHER_ORDER = ("neutral", "CONTRADICTION", "entailment")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folder of an encoder of each family."""
    root = tmp_path_factory.mktemp("encoders")
    return {family: save(family, root / family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def rows(folder, n=40):
    """The tokenizer of a folder, and `n` pairs of the sentences in its tokens."""
    own = AutoTokenizer.from_pretrained(folder)
    tokens = dict(own(*map(list, zip(*sentences()[:n], strict=True))))
    return own, datasets.Dataset.from_dict(tokens | {"length": [len(ids) for ids in tokens["input_ids"]]})


def given(own, tokens, row):
    """One row, not padded, as a model takes it."""
    return {name: torch.tensor([tokens[row][name]]) for name in own.model_input_names}


def test_the_tokenizers_differ(folders):
    pair = sentences()[0]
    assert len({tuple(AutoTokenizer.from_pretrained(folder)(*pair)["input_ids"]) for folder in folders.values()}) == 4


def test_pooled_states_are_the_models_own_hidden_states(folders, family):
    own, tokens = rows(folders[family])
    model = AutoModelForSequenceClassification.from_pretrained(folders[family], num_labels=3).train()
    depth = model.config.num_hidden_layers
    layers = list(range(1, depth + 1))
    alone = {layer: pooled_states(model, tokens, own, [layer])[layer] for layer in layers}
    states = {pooling: pooled_states(model, tokens, own, layers, pooling) for pooling in ("cls", "mean")}
    said = logits(model, tokens, own)
    assert model.training  # as it was
    assert len(set(tokens["length"])) > 1  # or nothing was padded
    model.eval()
    for row in (0, 7, 39):
        with torch.no_grad():
            out = model(**given(own, tokens, row), output_hidden_states=True)
        assert len(out.hidden_states) == depth + 1  # the stack is whole
        torch.testing.assert_close(said[row], out.logits[0], atol=1e-5, rtol=1e-4)
        for layer in layers:
            state = out.hidden_states[layer][0]
            torch.testing.assert_close(states["cls"][layer][row], state[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(states["mean"][layer][row], state.mean(0), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(alone[layer][row], state[0], atol=1e-5, rtol=1e-4)


def test_the_forward_pass_stops_at_the_deepest_layer_asked_for(folders, family):
    own, tokens = rows(folders[family], 5)
    model = AutoModelForSequenceClassification.from_pretrained(folders[family], num_labels=3)
    stack, ran = layer_stack(model.base_model), []
    assert len(stack) == model.config.num_hidden_layers
    for layer, block in enumerate(stack, start=1):
        block.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    hooks = [len(block._forward_pre_hooks) for block in stack]
    pooled_states(model, tokens, own, [1, 2])
    assert ran == [1, 2]
    logits(model, tokens, own)
    assert ran == [1, 2, *range(1, len(stack) + 1)]
    assert [len(block._forward_pre_hooks) for block in stack] == hooks


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_checkpoints_labels_in_another_order_are_mapped(small, tmp_path, family, role):
    folder = save(family, tmp_path / "ready", OTHER_ORDER)
    load = load_teacher if role == "teacher" else load_student
    mapped = load(small.vary(**{f"{role}_model": str(folder)}), LABELS)
    assert label_order(mapped.config, LABELS, role) == [0, 1, 2]
    own, tokens = rows(folder)
    expected = logits(AutoModelForSequenceClassification.from_pretrained(folder), tokens, own)[:, [2, 0, 1]]
    torch.testing.assert_close(logits(mapped, tokens, own), expected)
    assert not torch.allclose(expected, expected[:, [2, 0, 1]], atol=1e-3)


def test_alternate_layers_are_taken_of_bert_only(small, folders, family):
    pair = small.vary(teacher_model=str(folders[family]), student_model=None, students=["kd"])
    if family in ("bert", "minilm"):
        assert check(pair, LABELS) == 2
    else:
        with pytest.raises(ParameterError, match="student_model = None: alternate layers are taken of BERT.*Name a"):
            check(pair, LABELS)


OTHERS = {
    "albert": (AlbertModel, AlbertConfig(embedding_size=8, **FAMILIES["bert"][1]), "ALBERT runs through one of them"),
    "gpt2": (GPT2Model, GPT2Config(n_embd=16, n_layer=2, n_head=2), "'gpt2' is a decoder"),
    "bart": (
        BartModel,
        BartConfig(d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32),
        "'bart' is an encoder-decoder",
    ),
    "t5": (T5Model, T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2), "'t5' is an encoder-decoder"),
    "decoding bert": (AutoModel, FAMILIES["bert"][0](is_decoder=True, **FAMILIES["bert"][1]), "'bert' is a decoder"),
}


@pytest.mark.parametrize("parameter", ["teacher_model", "student_model"])
@pytest.mark.parametrize("other", OTHERS)
def test_what_has_no_layers_to_stop_at_is_refused(small, tmp_path, other, parameter):
    kind, config, message = OTHERS[other]
    config.vocab_size = 400
    model = kind.from_config(config) if kind is AutoModel else kind(config)
    model.save_pretrained(tmp_path / "other")
    tokenizer("wordpiece").save_pretrained(tmp_path / "other")
    with pytest.raises(ParameterError, match=f"{parameter} = '.*other': .*{message}.*name an encoder, such as BERT"):
        check(small.vary(**{parameter: str(tmp_path / "other")}), LABELS)


def test_albert_whose_layers_share_nothing_serves(small, tmp_path):
    config = AlbertConfig(embedding_size=8, num_hidden_groups=3, **FAMILIES["bert"][1])
    AlbertModel(config).save_pretrained(tmp_path / "other")
    tokenizer("wordpiece").save_pretrained(tmp_path / "other")
    assert check(small.vary(student_model=str(tmp_path / "other")), LABELS) == 3


def without(folder, *patterns):
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink()
    return folder


def pickled(folder):
    torch.save(AutoModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    return without(folder, "*.safetensors")


BROKEN = {
    "no configuration": (lambda f: without(f, "config.json"), "there is no config.json in"),
    "no weights": (lambda f: without(f, "*.safetensors"), "has no weights .*save_pretrained"),
    "pickled": (pickled, "has pickled weights only.*allowed are safetensors.*save_pretrained"),
    "no tokenizer": (lambda f: without(f, "tokenizer*"), "has no tokenizer, that is none of tokenizer.json"),
    "tokenizer_config.json alone": (lambda f: without(f, "tokenizer.json"), "has no tokenizer"),
    "spoilt": (lambda f: (f / "tokenizer.json").write_text("{}"), "does not load .*save_pretrained"),
    "spoilt configuration": (lambda f: (f / "config.json").write_text('{"model_type": "no"}'), "does not load"),
    "spoilt model": (lambda f: (f / "config.json").write_text("[]"), "does not load"),
}


@pytest.mark.parametrize("parameter", ["teacher_model", "student_model"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_folder_that_lacks_something_is_refused(small, tmp_path, broken, parameter):
    spoil, message = BROKEN[broken]
    folder = save("bert", tmp_path / "broken")
    spoil(folder)
    with pytest.raises(ParameterError, match=f"(?s){parameter} = '.*broken': .*{message}"):
        check(small.vary(**{parameter: str(folder)}), LABELS)


def test_of_a_loaders_many_lines_the_first_is_told():
    with pytest.raises(ParameterError, match=r"\(OSError: no such file\)"), models._loading("a/b", "teacher_model"):
        raise OSError("no such file\nDid you\tmean c?")


@pytest.mark.parametrize("parameter", ["teacher_model", "student_model"])
def test_more_tokens_than_positions_are_refused(small, folders, tmp_path, family, parameter):
    longer = {"max_position_embeddings": 2 * POSITIONS}
    models = {name: str(save("bert", tmp_path / name, **longer)) for name in ("teacher_model", "student_model")}
    pair = small.vary(**(models | {parameter: str(folders[family])}))
    check(pair.vary(max_length=POSITIONS), LABELS)
    message = f"max_length = {POSITIONS + 1}: {parameter} = .* for {POSITIONS} tokens; set max_length to {POSITIONS} or"
    with pytest.raises(ParameterError, match=message):
        check(pair.vary(max_length=POSITIONS + 1), LABELS)


def test_a_token_too_many_positions_is_an_error_of_the_model(folders):
    """Of the families with a table of positions; that `check` counts them as the model does, RoBERTa's two fewer."""
    for family in ("bert", "distilbert", "electra", "roberta"):
        model = AutoModel.from_pretrained(folders[family])
        assert model(input_ids=torch.full((1, POSITIONS), 7)).last_hidden_state.shape[1] == POSITIONS
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, POSITIONS + 1), 7))


def test_a_tokenizer_of_another_model_is_refused(small, tmp_path, folders):
    ids = len(tokenizer("bytes"))
    tokenizer("bytes").save_pretrained(save("bert", tmp_path / "mixed", vocab_size=ids - 1))
    message = f"teacher_model = '.*mixed': its tokenizer numbers tokens up to {ids - 1}, .* 0 to {ids - 2};"
    with pytest.raises(ParameterError, match=message):
        check(small.vary(teacher_model=str(tmp_path / "mixed")), LABELS)


def no_padding(folder):
    own = AutoTokenizer.from_pretrained(folder)
    own.pad_token = None
    own.save_pretrained(folder)


def no_first_token(folder):
    own = AutoTokenizer.from_pretrained(folder)
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    own.save_pretrained(folder)


def no_words(folder):
    without(folder, "tokenizer*")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_padding, "its tokenizer has no padding token; set pad_token"),
        (no_first_token, r"its tokenizer puts no special token \(\[CLS\], <s>\) first"),
        (no_words, r"its tokenizer knows no word, every text would be \[UNK\]"),
    ],
)
def test_a_tokenizer_without_padding_first_token_or_words_is_refused(small, tmp_path, spoil, message):
    folder = save("bert", tmp_path / "bare")
    spoil(folder)
    with pytest.raises(ParameterError, match=f"teacher_model = '.*bare': {message}"):
        check(small.vary(teacher_model=str(folder)), LABELS)


def test_nothing_is_trained_before_a_student_is_refused(bare, project, tmp_path):
    folder = save("bert", tmp_path / "broken")
    with pytest.raises(ParameterError, match="student_model = .* has pickled weights only"):
        distil(bare.vary(student_model=str(pickled(folder))))
    assert not list(project.glob("reports/runs/*"))


# Every family in either place, each time with another tokenizer.
PAIRS = [
    ("bert", "roberta"),
    ("roberta", "distilbert"),
    ("distilbert", "deberta-v3"),
    ("deberta-v3", "electra"),
    ("electra", "modernbert"),
    ("modernbert", "minilm"),
    ("minilm", "deberta-v2"),
    ("deberta-v2", "bert"),
]


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_every_family_teaches_and_is_taught(project, folders, teacher, student):
    pair = Experiment(
        method="laplace",
        teacher_model=str(folders[teacher]),
        student_model=str(folders[student]),
        aux_layer=2,
        students=["laplace@2"],
        train_examples=90,
        evaluation_examples=12,
        evaluation_per_group=4,
        validation_examples=6,
        teacher_epochs=1,
        student_epochs=2,
        warm_start_epochs=1,
        batch_size=30,
        report_to="none",
    )
    run = distil(pair)
    table = run.table("predictions")
    depth = AutoModel.from_pretrained(folders[student]).config.num_hidden_layers
    exits = [f"exit{layer}{kind}" for layer in range(1, depth + 1) for kind in ("", "_laplace")]
    for name in ("teacher", "student", *exits):
        probs = class_probabilities(table, name)
        assert abs(probs.sum(axis=1) - 1).max() < 1e-5
        assert probs.std(axis=0).max() > 1e-5  # the rows differ, so they were read
    weights = run.table("weights")["weight"]
    assert len(weights) == 90
    assert weights.std() > 0
    pair_of_texts = sentences()[0]
    read = []
    for who, folder, made in (("teacher", teacher, fine_tune(pair)), ("student", student, run)):
        tokens = AutoTokenizer.from_pretrained(made.model_folder)(*pair_of_texts)["input_ids"]
        assert tokens == AutoTokenizer.from_pretrained(folders[folder])(*pair_of_texts)["input_ids"], who
        read.append(tokens)
    assert read[0] != read[1]
