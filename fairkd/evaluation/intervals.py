"""Intervals from two sources of spread: training seeds and evaluation rows.

S seeds are evaluated on the same rows, so that the rows' part does not shrink with S. With V_seed the variance of the
mean over seeds and V_row that over rows, the half-width is

    H^2 = t^2 V_seed + z^2 V_row,        t of Student with S - 1 degrees of freedom, z of the normal distribution,

which covers at least what it promises (Banerjee 1961: a theorem for normal data); the degrees of freedom of Welch and
Satterthwaite give a narrower one that fell short at 3 seeds. One seed has V_seed 0: the interval then speaks of the
rows alone. Shares are far from normal where nearly all or nothing is right, hence

- an accuracy: Wilson's (1927) interval, with H^2 in the place of z^2 V_row: all p with
  (mean - p)^2 <= H^2 p (1 - p) / (mean (1 - mean)); it has a width where all is right or all is wrong;
- a difference: Agresti and Min (2005) add z^2 / 8 rows to each cell of the paired two by two table.

Every function takes arrays of any one shape. `coverage` has the simulation.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

Array = np.ndarray | pd.Series | pd.DataFrame | float


class Spread(NamedTuple):
    """A mean over seeds and what it varies by; arrays (or pandas objects) of one shape.

    Attributes:
        mean: the mean over seeds.
        seeds: V_seed, the variance of that mean over seeds.
        n_seeds: their number.
        n_rows: how many independent rows it rests on; infinite for what is no share.
        rows: V_row, its variance over rows; an accuracy has it from `n_rows`.
    """

    mean: Array
    seeds: Array
    n_seeds: int
    n_rows: Array = np.inf
    rows: Array = 0.0


def seed_variance(values: np.ndarray) -> np.ndarray:
    """The variance of the mean of `values` (S, ...) over its first axis; 0 for one seed, which shows none."""
    return values.var(axis=0, ddof=1) / len(values) if len(values) > 1 else np.zeros(values.shape[1:])


def effective_rows(correct: np.ndarray, weights: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """How many rows, seen by one model once, would tell as much of a mean over seeds: (..., R).

    Kish's number of equally weighted rows, or fewer where errors sit in heavy rows; more where seeds err on different
    rows, one row being added on which all agree.

    Args:
        correct: (..., S, N) right or wrong.
        weights: (R, N), each line summing to 1.
        mean: (..., R) the weighted means over seeds.
    """
    squares, together = weights.T**2, correct.mean(-2)  # (N, R), (..., N)
    kish = 1 / squares.sum(0)
    centre = mean**2 / kish - 2 * mean * (together @ squares)
    single, joint = together @ squares + centre, together**2 @ squares + centre  # correct is its own square
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = np.where(single > 1e-15, np.minimum(kish, mean * (1 - mean) / single), kish)
    return rows * (rows**2 * single + 1) / (rows**2 * joint + 1)


def accuracy_interval(spread: Spread, confidence: float, groups: int = 1) -> tuple[Array, Array]:
    """The lower and upper bound of accuracies, in [0, 1].

    Args:
        spread: `rows` is not read.
        groups: among how many groups each was found; the rows' part gets Bonferroni's correction.
    """
    t, z = _student_quantile(confidence, spread.n_seeds), normal_quantile(1 - (1 - confidence) / groups)
    room = spread.mean * (1 - spread.mean)
    wide = z**2 / spread.n_rows + t**2 * spread.seeds / np.maximum(room, 1e-12)  # no room, no variance
    half = np.sqrt(wide * (room + wide / 4))
    low, high = ((spread.mean + wide / 2 + side * half) / (1 + wide) for side in (-1, 1))
    # It holds the mean; rounding must not take it out.
    return np.clip(np.minimum(low, spread.mean), 0, 1), np.clip(np.maximum(high, spread.mean), 0, 1)


def difference_interval(spread: Spread, confidence: Array) -> tuple[Array, Array]:
    """The lower and upper bound of differences, in [-1, 1] where they are of shares."""
    added = normal_quantile(confidence) ** 2 / 2 / spread.n_rows  # rows added, by rows there are
    centre = spread.mean / (1 + added)
    rows = (spread.rows + added / spread.n_rows * (0.5 + spread.mean**2 / (1 + added))) / (1 + added) ** 2
    reach = normal_quantile(confidence) * np.sqrt(rows)
    low, high = joined_interval(spread._replace(mean=centre), reach, reach, confidence)
    bound = np.where(np.isinf(spread.n_rows), np.inf, 1.0)
    return np.clip(low, -bound, bound), np.clip(high, -bound, bound)


def joined_interval(spread: Spread, below: Array, above: Array, confidence: Array) -> tuple[Array, Array]:
    """The lower and upper bound of a mean whose rows alone reach as far as `below` and `above` it."""
    reach = _student_quantile(confidence, spread.n_seeds) * np.sqrt(spread.seeds)
    return spread.mean - np.hypot(reach, below), spread.mean + np.hypot(reach, above)


def p_value(spread: Spread) -> np.ndarray:
    """The smallest p for which `difference_interval` at confidence 1 - p leaves 0 out; 1 where none does."""
    arrays = {part: np.asarray(getattr(spread, part)) for part in ("mean", "seeds", "n_rows", "rows")}
    spread = spread._replace(**arrays)  # fifty times the steps of pandas objects would take most of a comparison
    low, high = np.full(np.shape(spread.mean), -30.0), np.zeros(np.shape(spread.mean))  # of log p
    for _ in range(50):
        middle = (low + high) / 2
        below, above = difference_interval(spread, -np.expm1(middle))
        apart = (below > 0) | (above < 0)
        low, high = np.where(apart, low, middle), np.where(apart, middle, high)
    return np.where(np.isnan(spread.mean), np.nan, np.exp(high))


def holm(p: np.ndarray) -> np.ndarray:
    """The p-values (M,) corrected for their number (Holm 1979); NaN ones stay NaN and do not count."""
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def normal_quantile(confidence: Array) -> Array:
    """The two-sided quantile of the normal distribution: 1.96 at .95."""
    return scipy.stats.norm.isf((1 - confidence) / 2)


def _student_quantile(confidence: Array, n_seeds: int) -> Array:
    # One seed has no variance to multiply.
    return scipy.stats.t.isf((1 - confidence) / 2, n_seeds - 1) if n_seeds > 1 else 0.0
