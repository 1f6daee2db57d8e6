"""How often the intervals hold the truth, by simulation.

A run of seed s has accuracy p_s, its logit normal over seeds; it is right on a row where a uniform number is below p_s.
On half of the rows that number is the row's own, so that all runs err alike, on the others each run has its own. The
truth is the mean of p_s over all seeds and rows there could be.
"""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd
import scipy

from fairkd.evaluation.intervals import Spread, accuracy_interval, difference_interval, effective_rows, seed_variance

_BASELINE = 0.9  # accuracy of the run that a difference is taken to, over that of the other
_RARE = 0.1  # what a row of the second group of an average counts, in a sample that has as many of both; accuracy .5
_BATCH = 3_000_000  # numbers at a time


def coverage(
    seeds: Iterable[int] = (3, 5, 10),
    rows: Iterable[int] = (90, 400, 3000),
    accuracy: Iterable[float] = (0.02, 0.1, 0.7, 0.9, 0.99),
    seed_spread: Iterable[float] = (0.0, 0.1, 0.3),
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of intervals that hold the truth, for every combination of what is given.

    Args:
        seeds: numbers of training seeds.
        rows: evaluation rows of the group; of an average, of each of its two groups.
        accuracy: the group's mean accuracy over seeds.
        seed_spread: standard deviation over seeds of the accuracy's logit; 0.3 is 6 points at an accuracy of .7. Far
            above, accuracies near 0 and 1 are so skewed that a few seeds cannot show it: the lowest coverage is .94 at
            0.4, .93 at 0.5 and .88 at 1.
        draws: simulated studies for each combination; one standard error of a share near .95 is half a point of 2000.

    Returns:
        Columns of ("group", "average" or "difference" of two students), seeds, rows, accuracy, seed_spread, covered,
        width (mean).
    """
    found = []
    cells = list(product(seeds, rows, accuracy, seed_spread))
    for cell, stream in zip(cells, np.random.SeedSequence(seed).spawn(len(cells)), strict=True):
        # Seeds and rows have streams of their own.
        streams = [np.random.default_rng(child) for child in stream.spawn(2)]
        n_seeds, n_rows, *_ = cell
        size = max(1, _BATCH // (n_seeds * n_rows))
        sizes = [min(size, draws - start) for start in range(0, draws, size)]
        held = [list(_intervals(streams, batch, *cell, confidence)) for batch in sizes]
        for parts in zip(*held, strict=True):
            of, truth = parts[0][:2]
            low, high = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
            covered = ((low <= truth) & (truth <= high)).mean()
            found.append((of, *cell, covered, (high - low).mean()))
    return pd.DataFrame(found, columns=["of", "seeds", "rows", "accuracy", "seed_spread", "covered", "width"])


def _intervals(streams, draws, n_seeds, n_rows, accuracy, seed_spread, confidence):
    """Yield what an interval is of, its truth, and the bounds of `draws` of them."""
    alike = n_rows // 2
    of_row, of_rare_row = streams[1].random((2, draws, 1, alike), dtype=np.float32)

    def runs(mean: float, own: np.ndarray) -> np.ndarray:
        """Right or wrong, (draws, S, N)."""
        p = _accuracies(streams[0], mean, seed_spread, (draws, n_seeds, 1)).astype(np.float32)
        of_run = streams[1].random((draws, n_seeds, n_rows - alike), dtype=np.float32)
        return np.concatenate([own < p, of_run < p], axis=2).astype(np.float32)

    ours, theirs, rare = runs(accuracy, of_row), runs(_BASELINE * accuracy, of_row), runs(0.5, of_rare_row)
    common = np.full((1, n_rows), 1 / n_rows)
    both = np.concatenate([common, _RARE * common], axis=1) / (1 + _RARE)
    of_both, truth = np.concatenate([ours, rare], axis=2), (accuracy + _RARE * 0.5) / (1 + _RARE)
    for of, correct, weights, true in (("group", ours, common, accuracy), ("average", of_both, both, truth)):
        values = correct @ weights.T  # (draws, S, 1)
        mean = values.mean(1)
        spread = Spread(mean, seed_variance(values.swapaxes(0, 1)), n_seeds, effective_rows(correct, weights, mean))
        yield of, true, *accuracy_interval(spread, confidence)
    apart = ours - theirs
    each, of_rows = apart.mean(2, dtype=float), apart.mean(1).var(1, dtype=float) / n_rows
    spread = Spread(each.mean(1), seed_variance(each.T), n_seeds, n_rows, of_rows)
    yield "difference", accuracy * (1 - _BASELINE), *difference_interval(spread, confidence)


def _accuracies(rng: np.random.Generator, mean: float, seed_spread: float, shape: tuple[int, ...]) -> np.ndarray:
    """Accuracies with this mean, their logits normal with this standard deviation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    expit = scipy.special.expit
    off = lambda centre: weights @ expit(centre + seed_spread * nodes) / weights.sum() - mean  # noqa: E731
    return expit(scipy.optimize.brentq(off, -30, 30) + seed_spread * rng.standard_normal(shape))
