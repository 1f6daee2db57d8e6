"""Early answers against loops over rows and layers."""

import math

import numpy as np
import pandas as pd
import pytest

from fairkd.evaluation import group_accuracy, predictions_table
from fairkd.evaluation.early import (
    CRITERIA,
    Held,
    answers,
    draws,
    early_answers,
    early_differences,
    layers_used,
    sureness,
    threshold_for,
)

LAYERS = 4


def table(seed, n=90):
    """Predictions of exits that grow surer and better, Laplace's a little less sure, and of the student."""
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    negated = rng.random(n) < 0.3
    groups = [f"{y}, {'negation' if z else 'no negation'}" for y in range(3) for z in (False, True)]
    rows = pd.DataFrame({"id": [f"r{i:03}" for i in rng.permutation(n)], "label": label, "negation": negated})
    rows["group"] = pd.Categorical.from_codes(label * 2 + negated, categories=groups)
    rows["importance"] = rng.uniform(0.2, 2.0, n)
    probs = {}
    for layer in range(1, LAYERS + 1):
        logits = rng.normal(size=(n, 3)) + layer * np.eye(3)[label]
        for name, z in ((f"exit{layer}", logits), (f"exit{layer}_laplace", logits / rng.uniform(1, 3, (n, 1)))):
            probs[name] = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    probs["student"] = probs[f"exit{LAYERS}"][:, [1, 2, 0]]  # it says something else than the last exit
    return predictions_table(rows, probs, "negation")


def by_hand(predictions, criterion, row):
    """The sureness of one row at the exits, from the formulas."""
    kind = "_laplace" if criterion == "laplace_margin" else ""
    probs = [[predictions[f"exit{d}{kind}_prob_{c}"][row] for c in range(3)] for d in range(1, LAYERS)]
    if criterion.endswith("margin"):
        return [sorted(p)[2] - sorted(p)[1] for p in probs]
    if criterion == "entropy":
        return [sum(q * math.log(q) for q in p) for p in probs]
    said, counts = [p.index(max(p)) for p in probs], []
    for i, one in enumerate(said):
        counts.append(counts[-1] + 1 if i and said[i - 1] == one else 0)  # PABEE's counter
    return counts + draws(len(predictions), LAYERS - 1)[row]  # of equals


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name not in ("random", "layer")])
def test_sureness_is_its_formula(criterion):
    predictions = table(0)
    found = sureness(predictions, criterion)
    assert found.shape == (90, LAYERS - 1)
    np.testing.assert_allclose(found, [by_hand(predictions, criterion, row) for row in range(90)], atol=1e-12)


def test_the_control_looks_at_nothing_and_is_the_same_twice():
    found = sureness(table(0), "random")
    np.testing.assert_array_equal(found, sureness(table(1), "random"))
    np.testing.assert_array_equal(found, draws(90, LAYERS - 1))
    assert not np.array_equal(found, sureness(table(0), "random", seed=1))
    np.testing.assert_array_equal(sureness(table(0), "layer"), found + np.arange(1, LAYERS))


def test_one_layer_answers_all_or_the_two_between_which_the_depth_lies():
    predictions = table(3)
    sure, importance = sureness(predictions, "layer"), predictions["importance"].to_numpy()
    for depth, layers in ((2 / LAYERS, {2}), (2.4 / LAYERS, {2, 3})):
        found = answers(predictions, "layer", threshold_for(sure, importance, depth))
        assert set(found["layer"]) == layers
        assert np.average(found["depth"], weights=importance) == pytest.approx(depth, abs=0.02)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("depth", [0.4, 0.55, 0.7, 0.9])
def test_every_criterion_has_the_depth_that_is_asked_for(criterion, depth):
    validation = table(0, 200)
    sure, importance = sureness(validation, criterion), validation["importance"].to_numpy()
    found = mean_depth(sure, importance, threshold_for(sure, importance, depth))
    assert depth - 0.01 < found <= depth + 1e-9


def mean_depth(sure, importance, threshold):
    """Layers used over layers, a row at a time."""
    used = [next((i + 1 for i, s in enumerate(row) if s >= threshold), LAYERS) for row in sure]
    np.testing.assert_array_equal(used, layers_used(sure, threshold))
    return sum(u * w for u, w in zip(used, importance, strict=True)) / sum(importance) / LAYERS


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("depth", [0.25, 0.4, 0.66, 0.9, 1.0])
def test_the_threshold_is_the_highest_of_its_mean_depth(criterion, depth):
    predictions = table(2)
    sure, importance = sureness(predictions, criterion), predictions["importance"].to_numpy()
    threshold = threshold_for(sure, importance, depth)
    reachable = [mean_depth(sure, importance, value) for value in (-np.inf, *np.unique(sure), np.inf)]
    expected = max(each for each in reachable if each <= depth + 1e-12)
    assert mean_depth(sure, importance, threshold) == pytest.approx(expected)


def test_a_threshold_lies_between_values_that_are_neighbours():
    """Between two of them half is rounded onto one: 0.625 would be had as 0.5."""
    values = [0.3]
    for _ in range(3):
        values.append(float(np.nextafter(values[-1], 1)))
    sure = np.array(values)[:, None]
    found = [layers_used(sure, threshold_for(sure, np.ones(4), depth)).mean() / 2 for depth in (0.625, 0.75, 0.875)]
    assert found == [0.625, 0.75, 0.875]


@pytest.mark.parametrize("depth", [0.24, 0.0, 1.01, math.nan])
def test_a_depth_that_no_answer_has_is_refused(depth):
    with pytest.raises(ValueError, match="a student of 4 layers answers at depths 0.25 to 1"):
        threshold_for(sureness(table(0), "margin"), np.ones(90), depth)


def test_what_cannot_answer_early_is_refused():
    with pytest.raises(ValueError, match="criterion is 'margins'; choose one of margin, laplace_margin"):
        sureness(table(0), "margins")
    lacking = table(0).drop(columns=[f"exit{d}_margin" for d in range(2, LAYERS + 1)])
    with pytest.raises(ValueError, match="have 1 exits"):
        sureness(lacking, "margin")
    with pytest.raises(ValueError, match="validation_examples"):
        early_answers({"kd": {0: Held(table(0).head(0), table(1))}}, [0.5])


@pytest.mark.parametrize("criterion", ["margin", "laplace_margin", "patience"])
def test_an_answer_is_that_of_the_first_exit_that_is_sure_or_the_students_own(criterion):
    predictions = table(3)
    sure = sureness(predictions, criterion)
    threshold = float(np.quantile(sure, 0.7))
    found = answers(predictions, criterion, threshold)
    kind = "_laplace" if criterion == "laplace_margin" else ""
    assert len(set(found["layer"])) >= LAYERS - 1  # patience needs two exits
    for row in range(90):
        layer = next((d for d in range(1, LAYERS) if sure[row, d - 1] >= threshold), LAYERS)
        model = "student" if layer == LAYERS else f"exit{layer}{kind}"
        assert found["layer"][row] == layer and found["depth"][row] == layer / LAYERS
        for c in range(3):
            assert found[f"student_prob_{c}"][row] == predictions[f"{model}_prob_{c}"][row]
    assert list(found["id"]) == list(predictions["id"]) and "exit1_prob_0" not in found


def test_a_report_is_of_the_answers_at_thresholds_of_validation_rows():
    held = {seed: Held(table(10 + seed, 200), table(20).assign(**probs(20 + seed))) for seed in (0, 1, 2)}
    found = early_answers({"kd": held}, [0.5, 1.0])
    report = found.set_index(["criterion", "target", "of", "row"])
    assert set(found["student"]) == {"kd"} and (report["low"] <= report["value"] + 1e-12).all()
    assert (report["value"] <= report["high"] + 1e-12).all() and report["high"].max() <= 1
    for criterion in CRITERIA:
        told, depths = [], []
        for seed, (validation, evaluation) in held.items():
            sure = sureness(validation, criterion, seed)
            threshold = threshold_for(sure, validation["importance"].to_numpy(), 0.5)
            answered = answers(evaluation, criterion, threshold, seed)
            told.append(group_accuracy(answered, attribute="negation"))
            rows = {"average": answered, **dict(list(answered.groupby("group", observed=False)))}
            weighed = {"average": np.average(answered["depth"], weights=answered["importance"])}
            depths.append({row: part["depth"].mean() for row, part in rows.items()} | weighed)
        for row in ("average", "0, negation", "2, no negation"):
            accuracy = np.mean([one[row] for one in told])
            assert report["value"][criterion, 0.5, "accuracy", row] == pytest.approx(accuracy, abs=1e-12)
            depth = np.mean([one[row] for one in depths])
            assert report["value"][criterion, 0.5, "depth", row] == pytest.approx(depth, abs=1e-12)
        assert report["value"][criterion, 1.0, "depth", "0, negation"] == 1
    own = np.mean([group_accuracy(evaluation)["average"] for _, evaluation in held.values()])
    assert report["value"]["margin", 1.0, "accuracy", "average"] == pytest.approx(own)
    apart = early_differences({"kd": held}, 0.5).set_index(["criterion", "baseline", "row"])["value"]
    accuracies = report["value"].xs("accuracy", level="of")
    expected = accuracies["margin", 0.5, "average"] - accuracies["random", 0.5, "average"]
    assert apart["margin", "random", "average"] == pytest.approx(expected)


def probs(seed):
    """The columns of another run on the same rows."""
    other = table(seed)
    return {name: other[name].to_numpy() for name in other if "_prob_" in name or name.endswith("_margin")}


def test_more_seeds_that_differ_widen_the_interval_of_a_depth():
    one, three = (
        early_answers({"kd": {s: Held(table(10 + s), table(20).assign(**probs(20 + s))) for s in range(n)}}, [0.6])
        for n in (1, 3)
    )
    width = [
        (of["high"] - of["low"])[
            (of["of"] == "depth") & (of["row"] == "average") & (of["criterion"] == "random")
        ].item()
        for of in (one, three)
    ]
    weights = table(20)["importance"] / table(20)["importance"].sum()
    depths = []
    for seed in (0, 1, 2):
        threshold = threshold_for(
            sureness(table(10 + seed), "random", seed), table(10 + seed)["importance"].to_numpy(), 0.6
        )
        depths.append(answers(table(20), "random", threshold, seed)["depth"])
    of_rows = []
    for depth in (depths[0], sum(depths) / 3):
        off = depth - (weights * depth).sum()
        of_rows.append(2 * 1.959964 * math.sqrt(((weights * off) ** 2).sum()))
    assert width[0] == pytest.approx(of_rows[0], rel=1e-5)
    assert width[1] > 1.2 * of_rows[1], "seeds differ, by more than rows"
