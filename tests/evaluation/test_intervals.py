import subprocess
import sys

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import binom, binomtest

from fairkd.evaluation import coverage
from fairkd.evaluation.coverage import _accuracies, _intervals
from fairkd.evaluation.intervals import Spread, accuracy_interval, difference_interval, effective_rows, p_value


@pytest.mark.parametrize("n", [90, 886])
def test_one_seed_covers_by_the_binomial_formula(n):
    right = np.arange(n + 1)
    low, high = accuracy_interval(Spread(right / n, np.zeros(n + 1), 1, n), 0.95)
    expected = [binomtest(int(k), n).proportion_ci(0.95, method="wilson") for k in (0, 1, n // 3, n)]
    for k, interval in zip((0, 1, n // 3, n), expected, strict=True):
        assert [low[k], high[k]] == pytest.approx([interval.low, interval.high], abs=1e-12)
    for p in (0.02, 0.1, 0.675, 0.9, 0.99):
        assert binom.pmf(right, n, p)[(low <= p) & (p <= high)].sum() > 0.93


def test_intervals_cover_what_they_promise():
    """At three seeds a percentile bootstrap covers 74 %; one standard error of the worst cell is 1.4 points."""
    found = coverage(seeds=(3, 10), rows=(90, 1000), accuracy=(0.02, 0.7, 0.99), seed_spread=(0.0, 0.4), draws=300)
    assert len(found) == 2 * 2 * 3 * 2 * 3
    assert found["covered"].min() > 0.93 - 0.03
    assert found.groupby(["of", "seeds"])["covered"].mean().between(0.95, 0.999).all()
    alone = found[found["seed_spread"] == 0].set_index(["of", "seeds", "rows", "accuracy"])["width"]
    assert alone["group", 10, 1000, 0.7] < 2 * 2 * np.sqrt(0.7 * 0.3 / 1000)


def test_the_full_simulation_has_the_cells_that_are_promised():
    found = coverage(draws=1)
    assert {name: sorted(found[name].unique()) for name in ("seeds", "rows", "accuracy", "seed_spread")} == {
        "seeds": [3, 5, 10],
        "rows": [90, 400, 3000],
        "accuracy": [0.02, 0.1, 0.7, 0.9, 0.99],
        "seed_spread": [0.0, 0.1, 0.3],
    }
    assert found["of"].value_counts().to_dict() == {"group": 135, "average": 135, "difference": 135}


def test_simulated_accuracies_have_their_mean_and_their_spread():
    drawn = _accuracies(np.random.default_rng(0), 0.9, 0.3, (200_000,))
    assert drawn.mean() == pytest.approx(0.9, abs=3e-4)
    assert logit(drawn).std() == pytest.approx(0.3, rel=0.01)


def test_the_simulations_are_of_the_truth_that_they_name():
    """Without intervals: the mean of very many seeds and rows is the truth of each of the three."""
    streams = [np.random.default_rng(s) for s in (0, 1)]
    for of, truth, low, high in _intervals(streams, 4, 200, 4000, 0.7, 0.3, 0.95):
        assert (low < truth).all() and (truth < high).all() and (high - low < 0.1).all(), of
        expected = {"group": 0.7, "average": (0.7 + 0.1 * 0.5) / 1.1, "difference": 0.7 - 0.9 * 0.7}
        assert truth == pytest.approx(expected[of])


def test_one_seed_more_rows_and_heavy_rows():
    rng = np.random.default_rng(0)
    correct = rng.random((1, 200)) < 0.8
    light = np.full((1, 200), 1 / 200)
    mean = correct @ light.T
    assert effective_rows(correct, light, mean[0]) == pytest.approx(200)
    # Errors in the heavy rows alone: as few rows as their own variance over p (1 - p).
    heavy = np.where(correct[0], 1.0, 10.0)
    heavy = (heavy / heavy.sum())[None]
    mean = (correct @ heavy.T)[0]
    expected = mean * (1 - mean) / (heavy[0] ** 2 * (correct[0] - mean) ** 2).sum()
    assert effective_rows(correct, heavy, mean) == pytest.approx(min(expected, 1 / (heavy**2).sum()))


def test_seeds_that_err_on_different_rows_count_more_rows():
    independent = np.random.default_rng(0).random((4, 500)) < 0.7
    weights = np.full((1, 500), 1 / 500)
    for correct, times in ((independent, 4), (np.repeat(independent[:1], 4, axis=0), 1)):
        rows = effective_rows(correct, weights, correct.mean((0, 1), keepdims=True)[0])
        assert rows == pytest.approx(500 * times, rel=0.15)


def test_a_difference_stays_within_its_bounds_and_has_a_p():
    spread = Spread(np.array([0.0, 1.0, 0.1, np.nan]), np.zeros(4), 1, np.array([90.0] * 4), np.array([0, 0, 0.001, 0]))
    low, high = difference_interval(spread, 0.95)
    assert (high[0] - low[0] > 0.03) and high[1] == 1 and low[1] > 0.9
    p = p_value(spread)
    assert p[0] == 1 and p[1] < 1e-10 and 0.001 < p[2] < 0.01 and np.isnan(p[3])


def test_evaluation_imports_neither_torch_nor_fairlearn():
    code = "import sys, fairkd.evaluation; print([m for m in ('fairlearn', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("n", [10, 650, 3900])
def test_an_accuracy_lies_in_its_interval_to_the_last_digit(n):
    """A figure draws the distance from the one to the other, which must not be negative."""
    mean = np.linspace(0, 1, 101)
    low, high = accuracy_interval(Spread(mean, np.zeros(101), 1, np.full(101, float(n))), 0.95)
    assert (low <= mean).all() and (mean <= high).all()
