import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairkd.evaluation import compare, group_accuracy, group_report, holm, is_correct, paired_difference
from fairkd.evaluation.scores import Scores
from tests.predictions import GROUPS, table


def test_the_mean_over_seeds_and_its_differences(tables):
    found = compare(tables, ["kd", "dedier@3"])
    report = found.report.set_index(["student", "row"])
    for student, of_seed in tables.items():
        runs = pd.DataFrame([group_accuracy(t) for t in of_seed.values()])
        for row in ("average", *GROUPS, "gap"):
            assert report.loc[(student, row), "value"] == pytest.approx(runs[row].mean()), row
        assert report.loc[(student, "mean_of_worsts"), "value"] == pytest.approx(runs["worst_group"].mean())
        assert report.loc[(student, "worst_of_means"), "value"] == pytest.approx(runs[GROUPS].mean().min())
        assert (report.loc[student, "low"] < report.loc[student, "high"]).all()
    assert set(report["seeds"]) == {4}
    difference = found.differences.set_index(["student", "baseline", "row"])
    assert difference.index.droplevel("row").unique().tolist() == [("laplace@3", "kd")]
    better = difference.loc[("laplace@3", "kd", "a, yes")]
    assert better["value"] == pytest.approx(report["value"]["laplace@3", "a, yes"] - report["value"]["kd", "a, yes"])
    assert better["low"] > 0.2
    same = difference.loc[("laplace@3", "kd", "b, no")]
    assert same["low"] < 0 < same["high"]
    single = found.single.set_index(["student", "seed", "row"])["value"]
    assert single["kd", 2, "worst_group"] == pytest.approx(group_accuracy(tables["kd"][2])["worst_group"])


def test_runs_that_fail_in_different_groups_have_two_worst_groups():
    rng = np.random.default_rng(0)
    found = compare({"kd": {0: table(rng, [0.2, 0.9, 0.9, 0.8]), 1: table(rng, [0.8, 0.9, 0.1, 0.9])}}, [])
    value = found.report.set_index("row")["value"]
    assert value["mean_of_worsts"] == pytest.approx(0.15, abs=0.08)
    assert value["worst_of_means"] == pytest.approx(0.5, abs=0.08)


def test_one_seed_is_the_report_of_its_run(tables):
    alone = {student: {0: of_seed[0]} for student, of_seed in tables.items()}
    found = compare(alone, ["kd"])
    report = found.report[found.report["student"] == "kd"].set_index("row")
    expected = group_report(tables["kd"][0].sort_values("id", ignore_index=True))
    names = {"worst_of_means": "worst_group", "mean_of_worsts": "worst_group"}
    columns = ["value", "low", "high"]
    for row in report.index:
        there = expected.loc[names.get(row, row), columns].tolist()
        assert report.loc[row, columns].tolist() == pytest.approx(there), row
    apart = found.differences.set_index("row").loc[["average", "a, yes", "mean_of_worsts"], columns]
    paired = paired_difference(alone["laplace@3"][0], alone["kd"][0]).loc[["average", "a, yes", "worst_group"]]
    np.testing.assert_allclose(apart, paired)
    assert compare({"kd": alone["kd"]}, ["kd"]).differences.empty


def test_seeds_add_students_t_to_the_rows():
    """Where rows are many and seeds differ, the interval of a difference is the paired t test's."""
    rng = np.random.default_rng(1)
    ours, theirs = rng.uniform(0.3, 0.7, (2, 5))
    tables = {
        name: {s: table(rng, [q] * 4, 20_000) for s, q in enumerate(quality)}
        for name, quality in (("ours", ours), ("theirs", theirs))
    }
    found = compare(tables, ["theirs"], n_boot=10).differences.set_index("row").loc["average"]
    means = [[is_correct(t).mean() for t in of_seed.values()] for of_seed in tables.values()]
    expected = stats.ttest_rel(*means)
    low, high = expected.confidence_interval(0.95)
    assert [found["low"], found["high"]] == pytest.approx([low, high], abs=2e-3)
    assert found["p"] == pytest.approx(expected.pvalue, rel=0.02)


def test_p_fits_the_interval(tables):
    found = compare(tables, ["kd"]).differences.set_index("row")
    p = found.loc["average", "p"]
    for confidence, apart in ((1 - 1.01 * p, True), (1 - 0.99 * p, False)):
        again = compare(tables, ["kd"], confidence=confidence).differences.set_index("row").loc["average"]
        assert (again["low"] * again["high"] > 0) == apart
    np.testing.assert_allclose(found["p_holm"], holm(found["p"].to_numpy()))
    assert (found["p_holm"] >= found["p"]).all() and found["p_holm"]["a, yes"] > found["p"]["a, yes"]


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 (not .06, then .04); an absent one does not count.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, np.nan, 0.04, 0.02])), [0.06, 0.04, np.nan, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])).tolist() == [1, 1]


def test_order_of_rows_does_not_matter_and_other_examples_are_refused(tables):
    shuffled = {"kd": {s: t.sample(frac=1, random_state=s) for s, t in tables["kd"].items()}}
    first, second = (compare(t, []).report for t in ({"kd": tables["kd"]}, shuffled))
    # Rows in order of their id, and resamples with them.
    pd.testing.assert_frame_equal(first, second)
    with pytest.raises(ValueError, match="seed 1: other examples"):
        compare({"kd": {0: tables["kd"][0], 1: tables["kd"][1].iloc[1:]}}, [])
    with pytest.raises(ValueError, match="run the same seeds"):
        compare({"kd": tables["kd"], "erm": {0: tables["kd"][0]}}, [])


def test_the_gap_reaches_as_far_as_average_and_worst_group_together():
    report = group_report(table(np.random.default_rng(3), [0.9, 0.3, 0.9, 0.8], 2000), n_boot=1)
    average, worst, gap = (report.loc[row, ["value", "low", "high"]] for row in ("average", "worst_group", "gap"))
    below = np.hypot(average["value"] - average["low"], worst["high"] - worst["value"])
    above = np.hypot(average["high"] - average["value"], worst["value"] - worst["low"])
    assert [gap["low"], gap["high"]] == pytest.approx([gap["value"] - below, gap["value"] + above])


def test_a_mean_over_seeds_varies_over_rows_as_resampled_rows_say():
    rng = np.random.default_rng(4)
    runs = [table(rng, [0.9, 0.3 + 0.02 * s, 0.9, 0.8], 600) for s in range(3)]
    influence, _ = Scores.of(runs, "student", "negation", 0, 0)._influence
    correct = pd.DataFrame({s: is_correct(run) for s, run in enumerate(runs)}).astype(float)
    group = runs[0]["group"].astype(str)
    drawn = []
    for _ in range(1500):
        rows = rng.integers(600, size=600)
        right = correct.iloc[rows]
        worst = right[(group.iloc[rows] == "a, yes").to_numpy()].mean().mean()
        average = right.mean().mean()
        drawn.append([average, worst, average - worst])
    for row, expected in zip(("average", "mean_of_worsts", "gap"), np.std(drawn, axis=0), strict=True):
        assert np.sqrt((influence.loc[row] ** 2).sum()) == pytest.approx(expected, rel=0.1), row
