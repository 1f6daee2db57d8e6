import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from fairkd.evaluation import (
    class_probabilities,
    group_accuracy,
    group_report,
    is_correct,
    lost_group,
    margins,
    paired_difference,
    predictions_table,
    readable,
    target_groups,
)

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


def test_an_accuracy_has_wilsons_interval():
    report = group_report(table(FOUR))
    counts = {"a, no negation": (180, 200), "a, negation": (20, 50), "b, negation": (100, 100), "average": (540, 650)}
    for row, (right, n) in counts.items():
        expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
        assert report.loc[row, ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high]), row
    assert report["low"]["b, negation"] < 0.97 and report["high"]["b, negation"] == 1
    pd.testing.assert_frame_equal(report, group_report(table(FOUR)))
    narrow = group_report(table(FOUR), confidence=0.5)
    assert (narrow["high"] - narrow["low"] < 0.6 * (report["high"] - report["low"])).all()


def test_ece_and_nll_have_the_normal_interval_of_their_resamples():
    predictions = table(FOUR)
    report = group_report(predictions, n_boot=4000)
    probs, labels = class_probabilities(predictions), predictions["label"].to_numpy()
    loss = pd.Series(-np.log(probs[np.arange(650), labels]))
    error = np.sqrt(sum(len(part) * part.var(ddof=0) for _, part in loss.groupby(predictions["group"]))) / 650
    low, high = report.loc["nll", ["low", "high"]]
    assert [low, high] == pytest.approx([loss.mean() - 1.96 * error, loss.mean() + 1.96 * error], abs=0.15 * error)
    assert 0 < report["low"]["ece"] < report["value"]["ece"] < report["high"]["ece"] < 1


@pytest.mark.parametrize(("power", "truth"), [(1.0, 0.0), (0.6, 0.107)])
def test_the_interval_of_the_calibration_error_holds_the_truth(power, truth):
    """Labels drawn from the model's own probabilities, or from flatter ones (the truth is of 400,000 rows)."""
    held = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scores = 1.5 * rng.normal(size=(400, 3))
        probs, drawn = (np.exp(power * scores), np.exp(scores))[::-1], rng.random((400, 1))
        said, true = (p / p.sum(1, keepdims=True) for p in probs)
        frame = pd.DataFrame({"label": (true.cumsum(1) > drawn).argmax(1), "importance": 1.0, "negation": False})
        frame = frame.assign(group=frame["label"].astype(str), **{f"student_prob_{c}": said[:, c] for c in range(3)})
        low, value, high = group_report(frame, n_boot=100).loc["ece", ["low", "value", "high"]]
        held.append(low <= truth <= high)
        assert low < value < high
    assert np.mean(held) >= 0.9


def test_a_label_that_a_model_rules_out_costs_what_1e_12_does():
    predictions = table(FOUR)
    right = is_correct(predictions).to_numpy()
    one = np.where(right, predictions["label"], 1 - predictions["label"]).astype(float)
    report = group_report(predictions.assign(student_prob_0=1 - one, student_prob_1=one), n_boot=10)
    assert report["value"]["nll"] == pytest.approx(-np.log(1e-12) * (1 - right.mean()), rel=1e-6)
    assert report["value"]["ece"] == pytest.approx(1 - right.mean(), rel=1e-6)


def test_the_worst_of_alike_groups_is_biased_and_its_interval_knows():
    """Six alike groups of 90 rows, right at .675: the lowest is .61 on average, the truth .675."""
    rng = np.random.default_rng(0)
    held, values = [], []
    for _ in range(300):
        share = rng.binomial(90, 0.675, 6) / 90
        report = group_report(six_groups(share), n_boot=1)
        low, high = report.loc["worst_group", ["low", "high"]]
        held.append(low <= 0.675 <= high)
        values.append(report["value"]["worst_group"])
    assert np.mean(values) == pytest.approx(0.675 - 0.065, abs=0.01)
    assert np.mean(held) > 0.93


def six_groups(share):
    n = 90
    right = np.concatenate([np.arange(n) < round(s * n) for s in share])
    group = np.repeat([f"g{i}" for i in range(6)], n)
    return pd.DataFrame(
        {
            "label": 0,
            "negation": group == "g0",
            "group": group,
            "student_prob_0": np.where(right, 0.9, 0.1),
            "student_prob_1": np.where(right, 0.1, 0.9),
        }
    )


def test_values_are_those_of_fairlearn():
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    rng = np.random.default_rng(0)
    predictions = table(FOUR).assign(importance=rng.uniform(0.5, 2, 650)).sample(frac=1, random_state=0)
    frame = MetricFrame(
        metrics=accuracy_score,
        y_true=predictions["label"],
        y_pred=class_probabilities(predictions).argmax(1),
        sensitive_features=predictions["negation"],
        sample_params={"sample_weight": predictions["importance"]},
    )
    accuracy = group_accuracy(predictions)
    expected = [frame.overall, frame.by_group[True], frame.by_group[False]]
    assert accuracy[["average", "negation", "no negation"]].tolist() == expected
    by_group = MetricFrame(
        metrics=accuracy_score,
        y_true=predictions["label"],
        y_pred=class_probabilities(predictions).argmax(1),
        sensitive_features=predictions["group"].astype(str),
    )
    assert accuracy[GROUPS].tolist() == by_group.by_group[GROUPS].tolist()
    assert accuracy["worst_group"] == by_group.group_min()
    assert accuracy["gap"] == frame.overall - by_group.group_min()


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
    assert (same["value"] == 0).all() and np.allclose(same["low"], -same["high"])
    # Agresti and Min: with 1.92 rows added, 0.48 of them to each of the cells in which one alone is right.
    added = 1.959964**2 / 2
    assert same["high"]["b, negation"] == pytest.approx(1.959964 * np.sqrt(added / 2) / (100 + added))
    difference = paired_difference(two, one)
    assert difference["value"]["a, negation"] == pytest.approx(10 / 50)
    assert difference["value"]["average"] == pytest.approx(10 / 650)
    assert difference["value"]["worst_group"] == pytest.approx(0.2)
    n, centre = 50 + added, 10 / (50 + added)
    half = 1.959964 * np.sqrt((10 + added / 2) / n - centre**2) / np.sqrt(n)
    for row in ("a, negation", "worst_group"):
        assert difference.loc[row, ["low", "high"]].tolist() == pytest.approx([centre - half, centre + half])
    alone = group_report(two)
    widths = [f["high"]["average"] - f["low"]["average"] for f in (difference, alone)]
    assert widths[0] < 0.5 * widths[1]
    with pytest.raises(ValueError, match="different examples"):
        paired_difference(one, two.iloc[1:])
    for ask in (lambda: group_report(one, confidence=95), lambda: paired_difference(one, two, confidence=0.0)):
        with pytest.raises(ValueError, match=r"confidence is (95|0.0); it must lie between 0 and 1"):
            ask()


def test_a_table_tells_its_attribute_where_none_is_given():
    predictions = table(FOUR).rename(columns={"negation": "source"})
    told = group_report(predictions, n_boot=0)
    pd.testing.assert_frame_equal(told, group_report(predictions, n_boot=0, attribute="source"))
    assert group_accuracy(predictions).equals(group_accuracy(predictions, attribute="source"))
    one = predictions.assign(id=range(len(predictions)))
    assert (paired_difference(one, one)["value"].dropna() == 0).all()
    with pytest.raises(KeyError, match=r"state attribute.*may be one of: \['source', 'more'\]"):
        group_report(predictions.assign(more=1))
    with pytest.raises(KeyError, match="'sauce' is not a column of the predictions, which are: "):
        group_report(predictions, attribute="sauce")


def test_a_readable_report_is_rounded_and_says_absent():
    text = readable(group_report(table([FOUR[0], FOUR[2], FOUR[3]])))
    assert text["a, negation"] == "absent"
    assert text["b, negation"] == "1.000 [0.963, 1.000]"


def test_no_interval_of_a_share_is_without_width():
    wrong = table([(label, negation, 0.0, 90) for label in (0, 1) for negation in (False, True)]).assign(id=range(360))
    for report in (group_report(wrong).loc[:"gap"], paired_difference(wrong, wrong)):
        assert (report["high"] - report["low"] > 0.01).all()
    assert readable(group_report(wrong))["worst_group"] == "0.000 [0.000, 0.065]"


def test_a_predictions_table_has_probabilities_and_margins():
    rng = np.random.default_rng(0)
    rows = table(FOUR).assign(id=range(650), importance=1.0)[["id", "label", "negation", "group", "importance"]]
    probs = rng.dirichlet([1, 1, 1], 650).astype(np.float32)
    made = predictions_table(rows.sample(frac=1), {"student": probs, "exit3": probs[:, ::-1]}, "negation")
    assert made["student_prob_2"].tolist() == probs[:, 2].astype(float).tolist() == made["exit3_prob_0"].tolist()
    top = [sorted(p, reverse=True) for p in probs.astype(float).tolist()]
    assert made["student_margin"].tolist() == [p[0] - p[1] for p in top]
    with pytest.raises(ValueError, match="exit3 has probabilities of 649 examples, the rows are 650"):
        predictions_table(rows, {"exit3": probs[1:]}, "negation")
    with pytest.raises(ValueError, match="2 classes or more"):
        margins(np.ones((3, 1)))


def test_target_groups_are_rare_in_training():
    names = ["a, no negation", "a, negation", "b, no negation", "b, negation", "c, no negation", "c, negation"]
    # Of 1000, 40 % a, 40 % b, 20 % c and 20 % negated: 80, 80 and 40 negated are expected.
    sizes = dict(zip(names, [360, 40, 261, 139, 179, 21], strict=True))
    parts = [
        pd.DataFrame({"label": i // 2, "negation": i % 2 == 1, "group": name}, index=range(n))
        for i, (name, n) in enumerate(sizes.items())
    ]
    train = pd.concat(parts, ignore_index=True)
    assert target_groups(train, "negation") == []
    fewer = train.drop(train.index[train["group"] == "a, negation"][:2])
    assert target_groups(fewer, "negation") == ["a, negation"]
    without = train[train["group"] != "c, negation"]
    assert target_groups(without.assign(group=pd.Categorical(without["group"], names)), "negation") == ["c, negation"]


def test_the_lost_group_is_the_least_accurate_of_those_rare_in_training():
    """`a, negation` is rare; `b, no negation`, which is common, is worse still."""
    evaluated = table([(0, False, 0.9, 50), (0, True, 0.4, 50), (1, False, 0.2, 50), (1, True, 1.0, 50)])
    train = table([(0, False, 1, 360), (0, True, 1, 38), (1, False, 1, 261), (1, True, 1, 139)])
    assert target_groups(train, "negation") == ["a, negation"]
    assert lost_group(train, "negation", evaluated) == "a, negation"
    even = table([(0, False, 1, 100), (0, True, 1, 100), (1, False, 1, 100), (1, True, 1, 100)])
    assert lost_group(even, "negation", evaluated) == "b, no negation"
    unseen = evaluated[evaluated["group"] != "a, negation"]
    assert lost_group(train, "negation", unseen) == "b, no negation"
