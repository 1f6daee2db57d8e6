import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
)

from fairkd import Experiment, ParameterError
from fairkd.data import load, tokenize
from fairkd.training.features import logits, pooled_states
from fairkd.training.halving import alternate_layers
from fairkd.training.models import check, load_student, load_teacher, load_tokenizer
from tests.tiny import small_parameters

LABELS = ("entailment", "neutral", "contradiction")


def classifier(encoder, folder, names):
    """Save a classifier over `names` made from the encoder."""
    ids = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(names), **ids)
    torch.nn.init.normal_(model.classifier.bias)
    model.save_pretrained(folder)
    load_tokenizer(str(encoder), "teacher_model").save_pretrained(folder)
    return model.eval()


@pytest.fixture
def rows(small):
    """The evaluation rows of the small experiment, with their tokens and tokenizer."""
    tokenizer = load_tokenizer(small.teacher_model, "teacher_model")
    splits = load(small)
    return tokenize(splits.evaluation, splits.entry, tokenizer, small.max_length), tokenizer


def test_a_checkpoints_labels_in_another_order_are_mapped(small, encoder, project, rows):
    other = classifier(encoder, project / "ready", ["CONTRADICTION", "entailment", "neutral"])
    mapped = load_teacher(small.vary(teacher_model="./ready"), LABELS)
    assert mapped.config.id2label == dict(enumerate(LABELS))
    assert mapped.config.problem_type == "single_label_classification"  # before any batch, see `_declare`
    tokens, tokenizer = rows
    torch.testing.assert_close(logits(mapped, tokens, tokenizer), logits(other, tokens, tokenizer)[:, [1, 2, 0]])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["entailment", "not_entailment"], "has 2 labels, the data set 3"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "its labels are label_0, label_1, label_2.*correct id2label"),
    ],
)
@pytest.mark.parametrize("parameter", ["teacher_model", "student_model"])
def test_a_checkpoint_with_other_labels_is_refused(small, encoder, project, names, message, parameter):
    classifier(encoder, project / "ready", names)
    with pytest.raises(ParameterError, match=f"(?s){parameter} = .*{message}"):
        check(small.vary(**{parameter: "./ready"}), LABELS)


def test_an_aux_layer_beyond_the_student_is_refused(small, encoder):
    assert check(small, LABELS) == 2
    with pytest.raises(ParameterError, match="aux_layer = 3: the student has layers 1 to 2"):
        check(small.vary(aux_layer=3), LABELS)
    assert check(small.vary(students=["kd", "laplace@4"]), LABELS) == 2  # which nobody asks this one for
    standing = Experiment.of_students(small_parameters(encoder) | {"students": ["kd", "laplace@4"]})
    for asked in (standing, standing.vary(seed=1)):
        with pytest.raises(ParameterError, match=r"students \(laplace@4\): aux_layer = 4"):
            check(asked, LABELS)
    assert check(standing.student("kd"), LABELS) == 2


def test_a_model_that_cannot_be_had_is_one_message(small):
    with pytest.raises(ParameterError, match="teacher_model = './nowhere'.*HF_HUB_OFFLINE=1"):
        check(small.vary(teacher_model="./nowhere"), LABELS)


def test_a_teacher_that_is_not_trained_needs_epochs(small):
    with pytest.raises(ParameterError, match="teacher_epochs = 0"):
        check(small.vary(teacher_epochs=0), LABELS)


def test_the_student_of_alternate_layers_is_those_layers_of_the_teacher(small, encoder, rows):
    student = load_student(small, LABELS)
    assert AutoConfig.from_pretrained(encoder).num_hidden_layers == 4
    assert student.config.num_hidden_layers == 2
    bert = AutoModel.from_pretrained(encoder).eval()
    bert.encoder.layer = torch.nn.ModuleList([bert.encoder.layer[0], bert.encoder.layer[2]])
    batch = rows[1]("the nurse helped the pilot", return_tensors="pt")
    with torch.no_grad():
        expected = bert(**batch).last_hidden_state
        batch.pop("token_type_ids", None)
        actual = student.distilbert.eval()(**batch).last_hidden_state
    torch.testing.assert_close(actual, expected)


def test_alternate_layers_are_distilberts():
    assert alternate_layers(12) == (0, 2, 4, 7, 9, 11)
    assert alternate_layers(6) == (0, 2, 4) and alternate_layers(5) == (0, 2, 4)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_pooled_states_are_the_models_own_hidden_states(small, rows, name):
    tokens, tokenizer = rows
    model = (load_teacher if name == "teacher" else load_student)(small, LABELS).train()
    states = {p: pooled_states(model, tokens, tokenizer, [1, 2], p) for p in ("cls", "mean")}
    assert model.training  # as it was, and the same answer each time: dropout is off
    torch.testing.assert_close(pooled_states(model, tokens, tokenizer, [2])[2], states["cls"][2])
    depth = model.config.num_hidden_layers
    assert len(model.base_model(**tokenizer("a", return_tensors="pt")).last_hidden_state) == 1
    for row in (0, 7, 59):
        inputs = {n: torch.tensor([tokens[row][n]]) for n in tokenizer.model_input_names if n in tokens.column_names}
        with torch.no_grad():
            hidden = model.eval().base_model(**inputs, output_hidden_states=True).hidden_states
        assert len(hidden) == depth + 1  # the whole stack is back
        for layer in (1, 2):
            torch.testing.assert_close(states["cls"][layer][row], hidden[layer][0, 0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(states["mean"][layer][row], hidden[layer][0].mean(0), atol=1e-5, rtol=1e-4)


def test_states_on_disk_are_those_in_memory_and_outlive_the_next_reading(small, rows, tmp_path):
    tokens, tokenizer = rows
    first, second = load_student(small, LABELS), load_teacher(small, LABELS)
    kept = [pooled_states(model, tokens, tokenizer, [1], folder=tmp_path)[1] for model in (first, second)]
    for model, states in zip((first, second), kept, strict=True):
        assert torch.equal(states, pooled_states(model, tokens, tokenizer, [1])[1])


def test_the_forward_pass_stops_at_the_deepest_layer_asked_for(small, rows):
    tokens, tokenizer = rows
    model = load_teacher(small, LABELS)
    ran = []
    for depth, layer in enumerate(model.bert.encoder.layer, start=1):
        layer.register_forward_hook(lambda *_, depth=depth: ran.append(depth))
    pooled_states(model, tokens, tokenizer, [1, 2])
    assert set(ran) == {1, 2}
