"""A last layer fitted anew: an ordinary checkpoint whose head is the weighted MAP of its own features."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import pipeline

from fairkd import Experiment, LinearExit, ParameterError, distil, fine_tune
from fairkd.data import load
from fairkd.evaluation import class_probabilities
from fairkd.training.refit import exit_logits, refit_student, refitted_head
from fairkd.training.student import train_student
from tests.training.test_wiring import going_on, learnable, root  # noqa: F401  a task that is learnt


@pytest.fixture
def plain(learnable):  # noqa: F811
    """A plain student whose last layer could do better: the shortcut is in it."""
    return learnable.vary(method="kd", student_epochs=2)


def refitted(experiment, **parameters):
    experiment = experiment.vary(**parameters)
    return refit_student(experiment, splits=load(experiment))


def inputs(run, texts):
    """What the last layer of a run's model is given, one text at a time, by its own modules."""
    pipe = pipeline("text-classification", model=str(run.model_folder), device="cpu")
    seen = []
    pipe.model.classifier.register_forward_pre_hook(lambda layer, args: seen.append(args[0][0].clone()))
    for text in texts:
        pipe(text)
    return torch.stack(seen)


@pytest.mark.parametrize("method", ["refit", "dfr"])
def test_the_head_is_the_weighted_map_of_what_it_is_given(plain, method):
    run, base, train = refitted(plain, method=method), train_student(plain), load(plain).train
    phi, labels = inputs(base, train["text"]), torch.tensor(train["label"].to_numpy())
    groups = train["group"].astype(str)
    weights = len(train) / groups.nunique() / groups.map(groups.value_counts()) if method == "dfr" else None
    expected = LinearExit.fit(phi, labels, weights=None if weights is None else torch.tensor(weights.to_numpy()))
    tensors = load_file(run.model_folder / "model.safetensors")
    torch.testing.assert_close(tensors["classifier.weight"], expected.weight.float(), rtol=1e-3, atol=1e-4)
    before = load_file(base.model_folder / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], tensors[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_what_is_reported_is_what_the_checkpoint_says(plain):
    run, frame = refitted(plain, method="dfr"), load(plain).evaluation
    pipe = pipeline("text-classification", model=str(run.model_folder), device="cpu", top_k=None)
    said = [{each["label"]: each["score"] for each in answer} for answer in pipe(frame["text"].tolist())]
    table = run.table("predictions").set_index("id").loc[frame["id"]]
    found = class_probabilities(table, "student")
    np.testing.assert_allclose(found, [[one["down"], one["up"]] for one in said], atol=1e-5)
    assert run.table("epochs")["epoch"].unique().tolist() == [2]
    assert set(run.table("weights").columns) >= {"id", "weight", "given", "group"}


def test_one_plain_student_serves_all_refits_and_its_exits_are_theirs(plain):
    base = distil(plain)
    run = distil(plain.vary(method="dedier", place="refit", aux_layer=1))
    assert run.path("exits.safetensors").read_bytes() == base.path("exits.safetensors").read_bytes()
    ours, theirs = (r.table("predictions").set_index("id").sort_index() for r in (run, base))
    exits = [column for column in theirs if column.startswith("exit")]
    assert ours[exits].equals(theirs[exits]) and not ours["student_prob_0"].equals(theirs["student_prob_0"])
    assert fine_tune(plain).folder.name in {run.of.config["teacher"], base.of.config["teacher"]}
    assert run.of.config["refit of"] == base.of.folder.name


def test_weights_of_a_method_act_in_the_refit_as_they_would_in_training(plain):
    """The errors of an exit weigh more: a refit with beta = 0 is the plain one."""
    none = refitted(plain, method="dedier", place="refit", aux_layer=1, beta=0.0)
    control = refitted(plain, method="refit")
    lifted = refitted(plain, method="dedier", place="refit", aux_layer=1, beta=3.0)
    columns = ["student_prob_0", "student_prob_1"]
    assert none.table("predictions")[columns].equals(control.table("predictions")[columns])
    assert not lifted.table("predictions")[columns].equals(control.table("predictions")[columns])


def test_held_out_rows_are_refitted_on_where_asked_for(plain):
    experiment = plain.vary(validation_examples=200, student_epochs=2)
    for method in ("afr", "self"):
        weights = refitted(experiment, method=method, **({"aux_layer": 1} if method == "self" else {})).table("weights")
        assert set(weights["id"]) == set(load(experiment).validation["id"])
    assert 0 < (weights["given"] > 0).sum() < len(weights) / 5


class Given:
    """What is known of a finished student with twelve layers, of which the last alone tells the label."""

    def __init__(self, labels, states):
        self._labels, self._states, self.splits = labels, states, type("Splits", (), {"labels": ["a", "b"]})

    def labels(self, rows):
        return self._labels

    def head_inputs(self, rows):
        return self._states[12]

    def read(self, rows):
        return {int(layer): self._states[int(layer)] for layer in sorted(map(str, self._states))}  # as a file has them


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (300,), generator=generator)
    states = {layer: torch.randn(300, 2, generator=generator) for layer in range(1, 13)}
    states[12][:, 0] += 4 * labels
    return Given(labels, states)


def test_the_exit_at_its_layer_is_asked_of_a_student_with_more_than_nine(given):
    right = exit_logits(Experiment(student="avcs@12"), given, "train").argmax(1) == given.labels("train")
    assert right.float().mean() > 0.9


def test_evidence_of_a_refit_is_of_as_many_rows_as_there_are(given):
    """Six times the weight of all is no more to learn from."""
    experiment = Experiment(student="dedier@3,place=refit,head_prior_precision=evidence")
    once, often = (refitted_head(experiment, given, "train", torch.full((300,), w)) for w in (1.0, 6.0))
    torch.testing.assert_close(once.weight, often.weight)


def test_a_stronger_pull_leaves_the_old_head_in_place(plain):
    experiment = plain.vary(validation_examples=200)
    old = load_file(train_student(experiment).model_folder / "model.safetensors")["classifier.weight"]
    apart = []
    for tau in (1.0, 100.0, 1e6):
        run = refitted(experiment, method="afr", head_prior_precision=tau)
        apart.append((load_file(run.model_folder / "model.safetensors")["classifier.weight"] - old).norm().item())
    assert apart[0] > apart[1] > apart[2] and apart[2] < 1e-3


def test_held_out_rows_that_are_none_are_refused_at_once(plain):
    with pytest.raises(ParameterError, match="refit_on = 'validation': afr needs validation_examples above 0"):
        plain.vary(method="afr")
