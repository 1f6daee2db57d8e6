"""What runs of one model with several seeds are worth on the same examples, and how far that can be trusted.

A run by itself has a worst group. Over seeds there are two: `worst_of_means` is the lowest of the groups' means,
`mean_of_worsts` the mean of each run's lowest, which is lower wherever runs fail in different groups. Both are the
lowest of several numbers, and so lower than the groups they come from (`group_accuracy`): in their intervals the rows
are corrected for the number of groups. Target groups named beforehand (`target_groups`) need no such care.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from fairkd.evaluation.groups import accuracies, group_names, importance_of, row_weights
from fairkd.evaluation.intervals import (
    Spread,
    accuracy_interval,
    difference_interval,
    effective_rows,
    joined_interval,
    normal_quantile,
    p_value,
    seed_variance,
)
from fairkd.evaluation.tables import class_probabilities

# Equal-width confidence bins of the expected calibration error (Guo et al. 2017).
_BINS = 15
# The noise of a bin's rows makes that error too large, the more the nearer to 0 it is; a resample adds as much noise
# again. Where a model is calibrated, the mean of resamples has 0.41 of the excess; three times that covers it.
_EXCESS = 3.0


@dataclass(frozen=True)
class Scores:
    """S runs of one model on the same N examples.

    Attributes:
        groups: names of the groups, those without rows included.
        weights: (N, R) as `row_weights` has them.
        correct: (S, N) whether each run is right.
        calibration: {"ece" and "nll": (S,) of each run}.
        resampled: {"ece" and "nll": (B,) means over seeds in each resample of the rows}.
    """

    groups: list[str]
    weights: pd.DataFrame
    correct: np.ndarray
    calibration: dict[str, np.ndarray]
    resampled: dict[str, np.ndarray]

    @classmethod
    def of(cls, tables: list[pd.DataFrame], model: str, attribute: str | None, n_boot: int, seed: int) -> "Scores":
        """Read predictions tables that hold the same examples in the same order; without resamples no ece and nll."""
        first = tables[0]
        weights, importance = row_weights(first, attribute), importance_of(first)
        labels, counts = first["label"].to_numpy(), _resamples(first, n_boot, seed)
        probs = [class_probabilities(table, model) for table in tables]
        correct = np.stack([p.argmax(1) == labels for p in probs]).astype(float)
        ways = (_ece, _nll) if n_boot else ()
        once = np.ones((1, len(first)))
        found, drawn = (
            {way.__name__[1:]: np.stack([way(c, p, labels, importance) for p in probs]) for way in ways}
            for c in (once, counts)
        )
        calibration = {row: values[:, 0] for row, values in found.items()}
        resampled = {row: values.mean(axis=0) for row, values in drawn.items()}
        return cls(group_names(first), weights, correct, calibration, resampled)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The rows of a report for each run, (rows, S); `mean_of_worsts` has the run's own worst group."""
        rows = pd.DataFrame([accuracies(correct, self.weights) for correct in self.correct])
        rows["worst_of_means"] = rows[rows[self.groups].mean().idxmin()]
        rows["mean_of_worsts"] = rows[self.groups].min(axis=1)
        rows["gap"] = rows["average"] - rows["mean_of_worsts"]
        return rows.assign(**self.calibration).T

    def report(self, confidence: float) -> pd.DataFrame:
        """Columns value, low, high: means over seeds."""
        _check_level(confidence)
        mean, seeds, n_seeds = self.runs.mean(axis=1), self._seeds(self.runs), len(self.correct)
        shares, groups = list(self.weights), self.groups
        n_rows = pd.Series(effective_rows(self.correct, self._unit.to_numpy().T, mean[shares].to_numpy()), shares)
        low, high = accuracy_interval(Spread(mean[shares], seeds[shares], n_seeds, n_rows), confidence)
        among = int(mean[groups].notna().sum())
        of_groups = Spread(mean[groups], seeds[groups], n_seeds, n_rows[groups])
        low["worst_of_means"] = low[groups].min()
        high["worst_of_means"] = accuracy_interval(of_groups, confidence, among)[1].min()

        # How far the rows alone reach below and above a value: of each run's worst group, on average over the runs.
        alone = self.runs.loc[groups]
        each = Spread(alone, 0 * alone, 1, self._kish[groups].to_numpy()[:, None])
        worst = self.runs.loc["mean_of_worsts"]
        below, above = {}, {}
        below["mean_of_worsts"] = (worst - accuracy_interval(each, confidence)[0].min()).mean()
        above["mean_of_worsts"] = (accuracy_interval(each, confidence, among)[1].min() - worst).mean()
        down, up = accuracy_interval(Spread(mean["average"], 0.0, 1, n_rows["average"]), confidence)
        below["gap"] = np.hypot(mean["average"] - down, above["mean_of_worsts"])
        above["gap"] = np.hypot(up - mean["average"], below["mean_of_worsts"])
        for row, draws in self.resampled.items():
            below[row] = above[row] = normal_quantile(confidence) * draws.std()
        for row in below:
            spread = Spread(mean[row], seeds[row], n_seeds)
            low[row], high[row] = joined_interval(spread, below[row], above[row], confidence)
            if row == "ece":
                low[row] -= _EXCESS * max(self.resampled[row].mean() - mean[row], 0)
            low[row], high[row] = max(low[row], 0), high[row] if row == "nll" else min(high[row], 1)
        return pd.DataFrame({"value": mean, "low": low[mean.index], "high": high[mean.index]})

    def minus(self, other: "Scores", confidence: float) -> pd.DataFrame:
        """Columns value, low, high, p: means over seeds minus those of `other`, paired in rows and in seeds."""
        _check_level(confidence)
        apart = self.runs - other.runs
        (ours, n_ours), (theirs, n_theirs) = self._influence, other._influence
        rows, n_rows = ((ours - theirs) ** 2).sum(axis=1, skipna=False), np.minimum(n_ours, n_theirs)
        for row in self.resampled:
            rows[row], n_rows[row] = (self.resampled[row] - other.resampled[row]).var(), np.inf
        spread = Spread(apart.mean(axis=1), self._seeds(apart), len(self.correct), n_rows, rows)
        low, high = difference_interval(spread, confidence)
        return pd.DataFrame({"value": spread.mean, "low": low, "high": high, "p": p_value(spread)})

    @cached_property
    def _unit(self) -> pd.DataFrame:
        """The weights, each column summing to 1, or NaN where nothing has weight."""
        return self.weights / self.weights.sum().replace(0, np.nan)

    @cached_property
    def _kish(self) -> pd.Series:
        """How many equally weighted rows each column of the weights comes to (Kish 1965)."""
        return 1 / (self._unit**2).sum(skipna=False)

    @cached_property
    def _influence(self) -> tuple[pd.DataFrame, pd.Series]:
        """By how much each example moves each mean over seeds, (rows, N), and how many rows that mean rests on.

        Worst groups are taken as found. The squares of a line sum to the variance of that mean over rows.
        """
        shares, mean = list(self.weights), self.runs.mean(axis=1)
        influence = (self._unit * (self.correct.mean(0)[:, None] - mean[shares].to_numpy())).T
        n_rows = self._kish.copy()
        lowest, of_means = self.runs.loc[self.groups].idxmin(), mean[self.groups].idxmin()
        influence.loc["worst_of_means"], n_rows["worst_of_means"] = influence.loc[of_means], n_rows[of_means]
        influence.loc["mean_of_worsts"] = sum(
            self._unit[group] * (correct - self.runs.loc[group, s]) / len(lowest)
            for (s, group), correct in zip(lowest.items(), self.correct, strict=True)
        )
        influence.loc["gap"] = influence.loc["average"] - influence.loc["mean_of_worsts"]
        n_rows["mean_of_worsts"] = n_rows["gap"] = n_rows[lowest].min()
        return influence, n_rows

    @staticmethod
    def _seeds(runs: pd.DataFrame) -> pd.Series:
        return pd.Series(seed_variance(runs.to_numpy().T), runs.index)


def _resamples(predictions: pd.DataFrame, n_boot: int, seed: int) -> np.ndarray:
    """How often each row occurs in each of B resamples within its group: (B, N)."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_boot, len(predictions)), dtype=np.float32)
    for rows in predictions.groupby(predictions["group"].astype(str)).indices.values():
        size = len(rows)
        drawn = rng.integers(size, size=(n_boot, size)) + np.arange(n_boot)[:, None] * size
        counts[:, rows] = np.bincount(drawn.ravel(), minlength=n_boot * size).reshape(n_boot, size)
    return counts


def _check_level(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1, such as 0.95")


def _nll(counts: np.ndarray, probs: np.ndarray, labels: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Mean negative log-likelihood (nats) in each resample: (B,)."""
    log_loss = -np.log(np.clip(probs[np.arange(len(labels)), labels], 1e-12, None))
    sums = _sums(counts, np.stack([importance * log_loss, importance], axis=1))  # (B, 2)
    return sums[:, 0] / sums[:, 1]


def _ece(counts: np.ndarray, probs: np.ndarray, labels: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo et al. 2017, equation 3) in each resample: (B,)."""
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    excess = np.zeros((len(bins), _BINS + 1))
    excess[np.arange(len(bins)), bins] = importance * (correct - confidence)
    excess[:, _BINS] = importance
    sums = _sums(counts, excess)  # (B, bins + 1)
    return np.abs(sums[:, :_BINS]).sum(1) / sums[:, _BINS]


def _sums(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The columns of `values` summed in each resample, (B, N), (N, K) -> (B, K).

    By a plain loop: how a BLAS adds depends on the processor and its threads.
    """
    return np.einsum("bn,nk->bk", counts, np.asfortranarray(values, dtype=np.float32))
