import hashlib
import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback, pipeline

import fairkd
from fairkd import LinearExit, MissingRunError, ParameterError, confidence_margin, distil, fine_tune, runs
from fairkd.benchmark import students
from fairkd.data import load
from fairkd.evaluation import class_probabilities
from fairkd.training import callbacks, features, models, task, trainer
from fairkd.training.student import student_name, train_student


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_leaves_what_the_analysis_reads(small, student):
    predictions = student.table("predictions")
    assert len(predictions) == predictions["id"].nunique() == 60
    models = ["teacher", "student", *(f"exit{d}{kind}" for d in (1, 2) for kind in ("", "_laplace"))]
    for model in models:
        probs = class_probabilities(predictions, model)
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
        margin = confidence_margin(torch.tensor(probs))
        np.testing.assert_allclose(predictions[f"{model}_margin"], margin, atol=1e-12)
    assert student.metrics.keys() == {"dropped", *models}
    report = fairkd.group_report(predictions)
    assert student.metrics["student"]["average"]["value"] == pytest.approx(report["value"]["average"], abs=1e-12)
    history = student.table("history")
    assert {"train_loss", "loss", "average", "worst_group", "neutral, negation"} <= set(history["metric"])
    assert sorted(history["epoch"].unique()) == [1, 2, 3]
    last = history[history["epoch"] == 3].set_index("metric")["value"]
    for row in ("average", "worst_group", "neutral, negation"):
        assert last[row] == pytest.approx(report["value"][row]), row
    assert student.of.config["method"] == "laplace"
    epochs = student.table("epochs")
    assert epochs.groupby(["epoch", "split"]).size().tolist() == [60, 12] * 3
    final = epochs[(epochs["epoch"] == 3) & (epochs["split"] == "evaluation")].set_index("id")
    probs = class_probabilities(final.loc[predictions["id"]], "student")
    np.testing.assert_allclose(probs, class_probabilities(predictions, "student"), atol=1e-6)
    assert not list(student.of.folder.glob("checkpoint-*"))


def test_the_saved_student_is_an_ordinary_classifier(student):
    classify = pipeline("text-classification", model=str(student.model_folder), top_k=None)
    row = student.table("predictions").iloc[0]
    text = (
        load(fairkd.Experiment(train_examples=240, evaluation_per_group=10, validation_examples=0))
        .evaluation.set_index("id")
        .loc[row["id"]]
    )
    answer = classify({"text": text["premise"], "text_pair": text["hypothesis"]})
    scores = {a["label"]: a["score"] for a in (answer[0] if isinstance(answer[0], list) else answer)}
    expected = [row[f"student_prob_{c}"] for c in range(3)]
    assert list(map(scores.get, ("entailment", "neutral", "contradiction"))) == pytest.approx(expected, abs=1e-5)
    assert not list(student.of.folder.rglob("*.bin"))


def test_the_exits_lie_in_their_run(student):
    tensors = load_file(student.folder / "exits.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"exit1", "exit2"}
    exit = LinearExit(tensors["exit1.weight"], tensors["exit1.bias"])
    assert exit.weight.shape == (3, 16)


def test_a_second_student_does_not_retrain_the_teacher(small, student, monkeypatch):
    monkeypatch.setattr(models, "load_teacher", lambda *_: pytest.fail("the teacher was trained again"))
    other = distil(small.vary(method="kd"))
    assert other.folder != student.folder
    assert not other.path("weights.parquet").exists()
    monkeypatch.setattr(models, "load_student", lambda *_: pytest.fail("the student was trained again"))
    assert distil(small.vary(students=["kd"], report_to="none")).folder == student.folder


@pytest.mark.parametrize(
    "changes",
    [
        {"finished_exits": {"likelihood_temperature": 50.0}},
        {"finished_exits": {"pooling": "mean"}},
        {"finished_exits": {"posterior": "dense"}},
        {"finished_exits": {"predictive": "mc", "n_samples": 10}},
        {"evaluation_examples": 30},
    ],
    ids=str,
)
def test_another_reading_of_the_exits_trains_nothing(small, student, monkeypatch, changes):
    for name in ("load_teacher", "load_student"):
        monkeypatch.setattr(models, name, lambda *_: pytest.fail("trained again"))
    other = fairkd.student_run(small.vary(**changes))  # what the analysis calls
    assert other.of.folder == student.of.folder and other.folder != student.folder
    assert distil(small.vary(**changes)).folder == other.folder
    ours, theirs = (run.table("predictions").set_index("id") for run in (other, student))
    assert len(ours) == changes.get("evaluation_examples", 60)
    theirs = theirs.loc[ours.index]
    student_columns = [f"student_prob_{c}" for c in range(3)]
    pd.testing.assert_frame_equal(ours[student_columns], theirs[student_columns])
    if "finished_exits" in changes:
        assert not np.allclose(ours["exit1_laplace_margin"], theirs["exit1_laplace_margin"], rtol=0, atol=1e-9)


def test_exits_of_a_student_that_does_not_read_them_in_training_are_free(small, monkeypatch):
    kd = small.vary(method="kd")
    first = distil(kd)
    monkeypatch.setattr(models, "load_student", lambda *_: pytest.fail("trained again"))
    assert distil(kd.vary(likelihood_temperature=9.0, pooling="mean")).of.folder == first.of.folder


def test_the_same_parameters_give_the_same_numbers(small, student, project, monkeypatch):
    monkeypatch.setenv("FAIRKD_ROOT", str(project / "again"))
    again = distil(small)
    assert again.folder != student.folder and again.folder.name == student.folder.name
    for name in ("metrics.json", "predictions.parquet", "history.parquet", "weights.parquet"):
        assert digest(again.path(name)) == digest(student.path(name)), name
    assert digest(distil(small.vary(seed=1)).folder / "metrics.json") != digest(again.folder / "metrics.json")


def test_weights_are_kept_of_every_epoch_that_something_follows(small):
    weights = distil(small.vary(method="dedier")).table("weights")
    assert sorted(weights["epoch"].unique()) == [1, 2] and len(weights) == 2 * 240


def test_the_loss_sees_the_weights(small, monkeypatch):
    """With beta 0 every weight is exp(0) = 1, which is plain distillation to the last digit."""
    flat, plain = distil(small.vary(beta=0.0)), distil(small.vary(method="kd"))
    columns = [f"student_prob_{c}" for c in range(3)]
    pd.testing.assert_frame_equal(flat.table("predictions")[columns], plain.table("predictions")[columns])
    weighted = distil(small)
    assert not weighted.table("predictions")[columns].equals(plain.table("predictions")[columns])


def test_the_early_model_of_jtt_is_a_run_of_its_own_and_its_errors_are_the_weights(small):
    jtt = small.vary(method="jtt", jtt_epochs=1)
    weights = distil(jtt).table("weights")
    early = runs.find(student_name(jtt.early()))
    assert weights["epoch"].unique().tolist() == [0]
    splits = load(small)
    tokenizer = models.load_tokenizer(str(early.model_folder), "student_model")
    tokens = task.Task.prepare(splits, small.max_length, tokenizer).train
    guesses = features.logits(models.reopen(early.model_folder), tokens, tokenizer).argmax(1).numpy()
    wrong = guesses != splits.train["label"]
    assert 0.1 < wrong.mean() < 0.9
    np.testing.assert_array_equal(weights["weight"], np.where(wrong, 6.0, 1.0))


def test_group_dro_weighs_by_group_alone_and_lifts_the_group_of_larger_loss(small):
    student = distil(small.vary(method="group_dro", group_step_size=0.5, learning_rate=1e-6))
    weights = student.table("weights")
    last = weights[weights["epoch"] == weights["epoch"].max()]
    spread = last.groupby("group", observed=True)["weight"].agg(["min", "max"])
    assert (spread["min"] == spread["max"]).all() and spread["max"].max() > spread["max"].min()
    assert last["weight"].mean() == pytest.approx(1, rel=1e-4)


def test_warm_start_and_interval_of_refits(small):
    base = small.vary(method="dedier", student_epochs=5)
    for changes, epochs in (
        ({}, [1, 2, 3, 4]),
        ({"warm_start_epochs": 3}, [3, 4]),
        ({"reweight_every": 2}, [1, 3]),
    ):
        assert distil(base.vary(**changes)).table("weights")["epoch"].unique().tolist() == epochs


class Interrupt(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if round(state.epoch) == 2:
            raise KeyboardInterrupt


def interrupted(*_, **__):
    raise KeyboardInterrupt


def weights_alone(*args, load=torch.load, **kwargs):
    """Like `torch.load`, which must not be let run what a pickle says."""
    assert kwargs.get("weights_only") is True
    return load(*args, **kwargs)


ALL_FILES = ("metrics.json", "predictions.parquet", "validation.parquet", "epochs.parquet", "history.parquet")


@pytest.mark.parametrize(
    ("method", "stage"),
    [
        ("laplace", "in an epoch"),
        ("laplace", "as the model is saved"),
        ("laplace", "as the checkpoint is written"),
        ("group_dro", "in an epoch"),
        ("avcs", "as the model is saved"),
        ("jtt", "in an epoch"),
        ("confreg", "in an epoch"),
        ("poe", "as the model is saved"),
    ],
)
def test_an_interrupted_training_resumes_to_the_same_files(small, project, monkeypatch, method, stage):
    small = small.vary(method=method)
    whole = distil(small)
    monkeypatch.setenv("FAIRKD_ROOT", str(project / "again"))
    fine_tune(small)
    if method == "jtt":
        train_student(small.early())
    with monkeypatch.context() as patch:
        if stage == "as the model is saved":
            patch.setattr("fairkd.training.student.saved", interrupted)
        else:
            patch.setattr(callbacks._EveryInstance, "on_epoch_begin", Interrupt.on_epoch_begin)
        with pytest.raises(KeyboardInterrupt):
            distil(small)
    assert runs.find(student_name(small)) is None
    checkpoints = sorted(runs.runs_folder().glob(f"{method}-*.partial/checkpoint-*"), key=lambda p: p.stat().st_mtime)
    assert len(checkpoints) == 2
    if stage == "as the checkpoint is written":
        state = checkpoints[-1] / "optimizer.pt"
        state.write_bytes(state.read_bytes()[:100])
    monkeypatch.setattr(torch, "load", weights_alone)
    resumed = distil(small)
    of_rows = "reader.parquet" if method in ("confreg", "poe") else "weights.parquet"
    for name in (*ALL_FILES, of_rows, "exits.safetensors", "posteriors.safetensors", "model/model.safetensors"):
        assert digest(resumed.path(name)) == digest(whole.path(name)), name


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "erm"},
        {"normalize_weights": True, "stale_weights": True, "reweight": "kd", "exponent": "product"},
        {"pooling": "mean", "prior": "factored", "predictive": "mc", "likelihood_temperature": 240.0},
        {"prior_precision": "evidence", "reweight_every": 2},
        {"posterior": "dense", "exit_hidden": [8], "signal": "mutual_information"},
        {"method": "jtt", "jtt_epochs": 1, "use_teacher": False},
        {"method": "group_dro", "use_teacher": False},
        {"warm_start_epochs": 2, "weight_cap": 2.0, "permute_weights": True},
        {"method": "jtt", "jtt_epochs": 1},
        {"method": "avcs", "aux_layer": 2},
        {"method": "tempered"},
        {"method": "group_dro"},
    ],
)
def test_every_knob_changes_the_student_and_leaves_a_full_run(small, student, changes):
    other = distil(small.vary(**changes))
    assert other.metrics["student"] != student.metrics["student"] or other.metrics["exit1"] != student.metrics["exit1"]
    assert other.path("weights.parquet").exists() == (changes.get("method") != "erm")


def test_bad_parameters_stop_before_any_training(small, monkeypatch):
    monkeypatch.setattr(trainer, "DistillationTrainer", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ParameterError, match="aux_layer = 3"):
        distil(small.vary(aux_layer=3))


def test_an_analysis_without_its_run_says_how_to_make_it(bare):
    with pytest.raises(MissingRunError, match="02_student.ipynb out.ipynb -r student laplace@1 -p seed 0"):
        fairkd.student_run(bare)
    with pytest.raises(MissingRunError, match="01_teacher.ipynb"):
        fairkd.teacher_run(bare)


def test_metrics_are_plain_json_without_nan(small, student):
    json.loads((student.folder / "metrics.json").read_text(), parse_constant=lambda c: pytest.fail(c))


class Asked(TorchDispatchMode, TrainerCallback):
    """How often the host asks a tensor for a number, which on a GPU it would wait for, from one step to the next."""

    def __init__(self):
        super().__init__()
        self.count, self.at_step = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))

    def on_step_begin(self, args, state, control, **kwargs):
        self.at_step.append(self.count)


@pytest.mark.parametrize("method", ["laplace", "group_dro"])
def test_the_device_is_asked_at_most_once_a_step(small, method):
    data = students.task_of(small, 4 * small.batch_size)
    with students.prepared(small.vary(method=method), data) as (trainer, _):
        if method == "group_dro":
            trainer.online = small.vary(method=method).weighting.start(data.groups)
        asked = Asked()
        trainer.add_callback(asked)
        with asked:
            trainer.train()
    within = [later - earlier for earlier, later in pairwise(asked.at_step[:4])]  # the four of the first epoch
    assert within == [1, 1, 1]  # transformers' own: whether the batch has padding at all, or needs no mask
