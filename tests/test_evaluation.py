import numpy as np
import pandas as pd
import pytest

from fairkd import group_accuracy, group_report, paired_difference, readable
from fairkd.tables import class_probabilities, is_correct

GROUPS = ["a, no negation", "a, negation", "b, no negation", "b, negation"]


def table(rows, seed=0):
    """Predictions of two classes: (label, negation, share right, n) a group."""
    rng = np.random.default_rng(seed)
    frames = []
    for label, negation, right, n in rows:
        top = 0.5 + 0.5 * rng.random(n)
        correct = np.arange(n) < right * n
        p_label = np.where(correct, top, 1 - top)
        probs = np.stack([p_label, 1 - p_label], 1)[:, :: 1 if label == 0 else -1]
        frame = pd.DataFrame(probs, columns=["student_prob_0", "student_prob_1"])
        name = f"{'ab'[label]}, {'' if negation else 'no '}negation"
        frames.append(frame.assign(label=label, negation=negation, group=name))
    result = pd.concat(frames, ignore_index=True)
    return result.assign(group=pd.Categorical(result["group"], GROUPS))


FOUR = [(0, False, 0.9, 200), (0, True, 0.4, 50), (1, False, 0.8, 300), (1, True, 1.0, 100)]


def test_the_report_holds_what_counting_by_hand_gives():
    predictions = table(FOUR)
    report = group_report(predictions)
    expected = {
        "average": (180 + 20 + 240 + 100) / 650,
        "a, no negation": 0.9,
        "a, negation": 0.4,
        "b, no negation": 0.8,
        "b, negation": 1.0,
        "no negation": 420 / 500,
        "negation": 120 / 150,
        "worst_group": 0.4,
    }
    for row, value in expected.items():
        assert report["value"][row] == pytest.approx(value), row
    assert report["value"]["gap"] == pytest.approx(expected["average"] - 0.4)
    assert report["n"].to_dict()["worst_group"] == 50
    assert report["n"].to_dict()["negation"] == 150
    probs, labels = class_probabilities(predictions), predictions["label"].to_numpy()
    assert report["value"]["nll"] == pytest.approx(-np.log(probs[np.arange(650), labels]).mean())
    ece = 0.0
    for low in np.arange(15) / 15:
        chosen = (probs.max(1) >= low) & (probs.max(1) < low + 1 / 15)
        if chosen.any():
            ece += chosen.mean() * abs((probs.argmax(1) == labels)[chosen].mean() - probs.max(1)[chosen].mean())
    assert report["value"]["ece"] == pytest.approx(ece, abs=1e-9)


def test_intervals_are_those_of_resampling_within_the_group():
    report = group_report(table(FOUR), n_boot=4000)
    for row, share, n in (("a, negation", 0.4, 50), ("b, no negation", 0.8, 300)):
        error = np.sqrt(share * (1 - share) / n)  # of a binomial share, which the bootstrap of a 0/1 mean has
        assert report["low"][row] == pytest.approx(share - 1.96 * error, abs=0.35 * error)
        assert report["high"][row] == pytest.approx(share + 1.96 * error, abs=0.35 * error)
    pooled = np.sqrt(sum(n * s * (1 - s) for _, _, s, n in FOUR)) / 650
    assert report["high"]["average"] - report["low"]["average"] == pytest.approx(2 * 1.96 * pooled, rel=0.1)
    pd.testing.assert_frame_equal(report, group_report(table(FOUR), n_boot=4000))


def test_importance_weighs_averages_and_leaves_groups_alone():
    predictions = table(FOUR)
    natural = {"a, no negation": 0.5, "a, negation": 0.02, "b, no negation": 0.4, "b, negation": 0.08}
    sizes = predictions["group"].value_counts(normalize=True)
    weighed = predictions.assign(importance=[natural[g] / sizes[g] for g in predictions["group"]])
    report, plain = group_report(weighed), group_report(predictions)
    expected = sum(natural[g] * plain["value"][g] for g in GROUPS)
    assert report["value"]["average"] == pytest.approx(expected)
    assert report["value"][GROUPS].equals(plain["value"][GROUPS])
    assert report["value"]["negation"] == pytest.approx((0.02 * 0.4 + 0.08 * 1.0) / 0.1)


def test_a_group_without_rows_is_absent_and_not_zero():
    report = group_report(table([FOUR[0], FOUR[2], FOUR[3]]))
    assert report["n"]["a, negation"] == 0
    assert report.loc["a, negation", ["value", "low", "high"]].isna().all()
    assert report["value"]["worst_group"] == pytest.approx(0.8)
    assert report["low"]["worst_group"] > 0.7


def test_the_order_of_rows_does_not_matter_for_accuracy():
    predictions = table(FOUR)
    shuffled = predictions.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(group_accuracy(predictions), group_accuracy(shuffled))
    assert is_correct(shuffled).sum() == 540


def test_wrong_arguments_are_named():
    with pytest.raises(KeyError, match="'exit3' is not in the predictions; they hold student"):
        group_report(table(FOUR), "exit3")
    with pytest.raises(KeyError, match="attribute 'gender'"):
        group_report(table(FOUR), attribute="gender")
    with pytest.raises(ValueError, match="no rows"):
        group_report(table(FOUR).iloc[:0])


def test_a_paired_difference_is_zero_with_itself_and_narrower_than_two_intervals():
    one = table(FOUR).assign(id=range(650))
    two = one.copy()
    changed = two.index[(two["group"] == "a, negation") & ~is_correct(two)][:10]
    columns = ["student_prob_0", "student_prob_1"]
    two.loc[changed, columns] = two.loc[changed, columns[::-1]].to_numpy()
    same = paired_difference(one, one.sample(frac=1, random_state=0))
    assert (same[["value", "low", "high"]] == 0).all(axis=None)
    difference = paired_difference(two, one)
    assert difference["value"]["a, negation"] == pytest.approx(10 / 50)
    assert difference["value"]["average"] == pytest.approx(10 / 650)
    assert difference["value"]["worst_group"] == pytest.approx(0.2)
    assert difference["low"]["a, negation"] > 0.05
    assert difference["value"]["b, negation"] == difference["high"]["b, negation"] == 0
    alone = group_report(two)
    widths = [f["high"]["average"] - f["low"]["average"] for f in (difference, alone)]
    assert widths[0] < 0.5 * widths[1]
    with pytest.raises(ValueError, match="different examples"):
        paired_difference(one, two.iloc[1:])


def test_a_readable_report_is_rounded_and_says_absent():
    text = readable(group_report(table([FOUR[0], FOUR[2], FOUR[3]])))
    assert text["a, negation"] == "absent"
    assert text["b, negation"] == "1.000 [1.000, 1.000]"
