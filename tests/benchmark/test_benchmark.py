"""The benchmark's clocks are not tested for speed, only for timing what they say they time."""

import numpy as np
import pytest
import torch

from fairkd import Experiment
from fairkd.benchmark import clocks, exits, students
from fairkd.exits.laplace import KroneckerLaplace
from fairkd.exits.linear import LinearExit


def test_ratios_say_which_side_is_better_and_whether_the_target_is_met():
    ratios = clocks.Ratios()
    ratios.times("fast", 2.0, 30.0, 10)
    ratios.times("slow", 2.0, 3.0, 10)
    ratios.share("part", 1.0, 20.0, 0.08)
    table = ratios.table()
    assert table["ratio"].tolist() == [15, 1.5, 0.05]
    assert table["met"].tolist() == [True, False, True]
    assert table["target"].tolist() == ["at least 10", "at least 10", "below 0.08"]


def test_random_problems_are_the_same_twice_and_the_fits_are_of_them():
    features, labels = exits.random_problem(200, 8)
    assert torch.equal(features, exits.random_problem(200, 8)[0]) and set(labels.tolist()) == {0, 1, 2}
    assert exits.map_fit(200, 8)["gradient"] < 1e-9
    assert exits.sklearn_fit(200, 8)["gradient"] < 1e-5
    exit = LinearExit.fit(features, labels)
    covariance = KroneckerLaplace.fit(exit, features, labels).logit_covariance(features)[3].double()
    variances = [covariance[i, i] + covariance[2, 2] - 2 * covariance[i, 2] for i in (0, 1)]
    assert exits.laplace_fit(200, 8)["variances"][3] == pytest.approx([v.item() for v in variances], rel=1e-4)


def test_memory_is_that_of_the_function_alone():
    small, large = (clocks.alone(exits.random_problem_size, rows, 64) for rows in (1_000, 2_000_000))
    assert large["bytes"] == 64 * 4 * 2_000_000
    assert large["memory"] > 0.4 > small["memory"]


def test_the_same_student_whatever_the_padding(project):
    experiment = Experiment()
    task = students.task_of(experiment, 128)
    padded, longest = students.loss_curves(experiment, task, steps=2).values()
    assert len(padded) == 2 and padded == pytest.approx(longest, abs=1e-4)
    epoch, reweighting = students.student_seconds(experiment, task)
    assert epoch > 0 and reweighting > 0


def test_kept_features_are_those_of_the_training_pass(project, monkeypatch):
    experiment = Experiment(aux_layer=2)
    task = students.task_of(experiment, 128)
    pairs, seconds = students.kept_and_fresh(experiment, task)
    assert len(pairs) == 128 and (pairs["margin, kept"] - pairs["margin, fresh"]).abs().max() > 0.01
    assert seconds.keys() == {"epoch", "fresh pass", "exit"} and min(seconds.values()) > 0
    load = students.models.load_student

    def without_dropout(*args):
        student = load(*args)
        for module in student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return student

    monkeypatch.setattr(students.models, "load_student", without_dropout)
    pairs, _ = students.kept_and_fresh(experiment.vary(learning_rate=1e-12), task)
    np.testing.assert_allclose(pairs["margin, kept"], pairs["margin, fresh"], atol=1e-4)


def test_variants_change_one_thing_each(monkeypatch):
    monkeypatch.setenv("CXX", "none")
    found = students.variants(Experiment())
    assert "torch.compile" not in found and found.pop("as it is") == students.Variant()
    for variant in found.values():
        changed = [variant.arguments != {}, variant.padding != {}, variant.attention != "sdpa"]
        assert sum(changed) == 1


def test_the_plain_loops_are_where_the_trainer_is(project, monkeypatch):
    """On a device without numbers, where a tensor of another cannot be computed with."""
    experiment = Experiment()
    task = students.task_of(experiment, 64)
    # It asks the mask's values whether anything is masked.
    monkeypatch.setattr("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *mask, **more: False)
    monkeypatch.setattr(students, "_device", lambda: torch.device("meta"))
    assert students.dedier_loop_seconds(experiment, task) > 0
    with pytest.raises(RuntimeError, match=r"item\(\) cannot be called on meta tensors"):
        students.glue_loop_seconds(experiment, task)  # after a step, as the loss is told
