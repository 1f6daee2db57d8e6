"""A student that stops early answers as the tables say, and leaves out the layers that it does not use."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from fairkd import Experiment, distil, early_exit, fine_tune
from fairkd.data import load
from fairkd.evaluation import early
from fairkd.evaluation.groups import importance_of
from fairkd.training.early import EarlyExit
from fairkd.training.models import layer_stack
from tests.training.tiny_encoders import FAMILIES, save, sentences

LABELS = ("entailment", "neutral", "contradiction")


@pytest.fixture(scope="module")
def student(tmp_path_factory, encoder):
    """A finished student of four layers, and its experiment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRKD_ROOT", str(tmp_path_factory.mktemp("early")))
        experiment = Experiment(
            train_examples=240, evaluation_per_group=10, validation_examples=30, teacher_model=str(encoder),
            student_model=str(encoder), method="kd", students=["kd"], teacher_epochs=1, student_epochs=1,
            learning_rate=3e-3, report_to="none",
        )  # fmt: skip
        yield distil(experiment), experiment


def pairs(experiment, ids):
    """What a pipeline is given of evaluation rows."""
    rows = load(experiment).evaluation.set_index("id").loc[ids]
    return [{"text": p, "text_pair": h} for p, h in zip(rows["premise"], rows["hypothesis"], strict=True)]


def stored(run, criterion, depth):
    """The answers to the evaluation rows that the run's tables give."""
    validation, evaluation = run.table("validation"), run.table("predictions")
    threshold = early.threshold_for(early.sureness(validation, criterion), importance_of(validation), depth)
    return early.answers(evaluation, criterion, threshold)


@pytest.mark.parametrize("criterion", early.CRITERIA)
def test_answers_are_those_of_the_tables_and_layers_are_left_out(student, criterion):
    run, experiment = student
    expected = stored(run, criterion, 0.6)
    answer = early_exit(run, criterion, depth=0.6, batch_size=17)
    entered = []
    for block in layer_stack(answer._model.base_model):
        block.register_forward_hook(lambda block, args, output: entered.append(len(args[0])))
    found = answer(pairs(experiment, expected["id"]))
    assert [one["layer"] for one in found] == expected["layer"].tolist()
    probs = expected[[f"student_prob_{c}" for c in range(3)]].to_numpy()
    assert [one["label"] for one in found] == [LABELS[c] for c in probs.argmax(1)]
    np.testing.assert_allclose([one["score"] for one in found], probs.max(1), atol=1e-5)
    # Every block computes for the rows that wait for it, and for no others.
    assert sum(entered) == expected["layer"].sum() < 4 * len(found)


def test_at_full_depth_it_is_the_students_pipeline(student):
    run, experiment = student
    given = pairs(experiment, run.table("predictions")["id"])
    found = early_exit(run, "entropy", depth=1.0)(given)
    plain = pipeline("text-classification", model=str(run.model_folder), device="cpu")
    given.append({"text": "some nurse sleeps " * 99, "text_pair": "a nurse sleeps"})
    found += early_exit(run, "entropy", depth=1.0)(given[-1])
    assert plain.tokenizer.model_max_length == experiment.max_length
    theirs = [plain(one, truncation=True) for one in given]
    assert {one["layer"] for one in found} == {4}
    assert [one["label"] for one in found] == [one["label"] for one in theirs]
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in theirs], atol=1e-5)


def test_one_text_is_asked_as_many_are(student):
    answer = early_exit(student[0], "margin", depth=0.5)
    pair = {"text_pair": "a nurse sleeps", "text": "some nurse sleeps"}
    assert answer(pair) == answer([pair]) and answer([]) == []
    for wrong in (3, "a", [pair, "a"], [pair, 3], {"txt": "a"}, [None], {"text": "a"}, pair | {"text_pair": None}):
        with pytest.raises((ValueError, TypeError), match="the student was trained on pairs, {'text': .*|not iterable"):
            answer(wrong)
    answer._names = ["text"]  # as of a data set with one text
    assert answer("some nurse sleeps") == answer(["some nurse sleeps"]) == answer({"text": "some nurse sleeps"})
    with pytest.raises(ValueError, match="the student was trained on single texts"):
        answer(pair)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_without_a_text_is_refused(student, size):
    with pytest.raises(ValueError, match=f"batch_size is {size}; it must be at least 1"):
        early_exit(student[0], batch_size=size)


def test_exits_below_hidden_layers_are_asked_through_them(student):
    _, experiment = student
    run = distil(experiment.vary(finished_exits={"exit_hidden": [8], "pooling": "mean"}))
    for criterion in ("margin", "laplace_margin"):
        expected = stored(run, criterion, 0.6)
        found = early_exit(run, criterion, depth=0.6)(pairs(experiment, expected["id"]))
        assert [one["layer"] for one in found] == expected["layer"].tolist()


def test_the_exits_of_a_refitted_student_are_the_plain_ones_and_its_own_answer_is_last(student):
    _, experiment = student
    run = distil(experiment.vary(method="refit"))
    expected = stored(run, "laplace_margin", 0.7)
    found = early_exit(run, "laplace_margin", depth=0.7)(pairs(experiment, expected["id"]))
    probs = expected[[f"student_prob_{c}" for c in range(3)]].to_numpy()
    assert [one["label"] for one in found] == [LABELS[c] for c in probs.argmax(1)]


def test_what_cannot_answer_early_says_why(student):
    run, experiment = student
    with pytest.raises(ValueError, match="criterion is 'sure'; choose one of margin"):
        early_exit(run, "sure")
    with pytest.raises(ValueError, match="depth is 0.2; a student of 4 layers answers at depths 0.25 to 1"):
        early_exit(run, depth=0.2)
    with pytest.raises(ValueError, match="has no exits; give the run that fairkd.distil"):
        early_exit(fine_tune(experiment))
    dense = distil(experiment.vary(finished_exits={"posterior": "dense"}))
    assert early_exit(dense, "margin")({"text": "some nurse sleeps", "text_pair": "a nurse"})[0]["label"] in LABELS
    with pytest.raises(ValueError, match="runs keep no posterior = 'dense'; choose kronecker"):
        early_exit(dense, "laplace_margin")
    with pytest.raises(ValueError, match="no validation rows .*validation_examples above 0"):
        early_exit(distil(experiment.vary(validation_examples=0)))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_leave_a_batch_of_every_family_without_a_change_to_the_others(family, tmp_path):
    """Against each text by itself, through all layers, with exits that draw lots."""
    folder = save(family, tmp_path / family, LABELS)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    depth, width = model.config.num_hidden_layers, model.config.hidden_size
    weights = torch.randn(depth - 1, 3, width, generator=torch.Generator().manual_seed(0))
    run = SimpleNamespace(
        model_folder=folder,
        of=SimpleNamespace(config={"max_length": 96, "bf16": False, "entry": {"text": ["premise", "hypothesis"]}}),
        config={"pooling": "mean"},
    )
    exits = [lambda phi, w=w: (phi @ w.T).softmax(-1) for w in weights]
    given = [{"text": one, "text_pair": other} for one, other in sentences()[:16]]
    tokenizer, expected = AutoTokenizer.from_pretrained(folder), []
    for text in given:
        with torch.no_grad():
            output = model(**tokenizer(**text, return_tensors="pt"), output_hidden_states=True)
        states = [output.hidden_states[layer].mean(1) for layer in range(1, depth)]
        expected.append([*(exit(phi) for exit, phi in zip(exits, states, strict=True)), output.logits.softmax(-1)])
    used = early.layers_used(early.draws(16, depth - 1), 0.6)
    found = EarlyExit(run, early.CRITERIA["random"].sure, exits, 0.6, 16)(given)
    assert [one["layer"] for one in found] == used.tolist() and {1, depth} <= set(used)
    scores = [row[layer - 1].max().item() for row, layer in zip(expected, used, strict=True)]
    np.testing.assert_allclose([one["score"] for one in found], scores, atol=1e-4)
