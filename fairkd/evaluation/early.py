"""Early answers: a student that stops at the first exit that is sure enough, and who pays for it.

Of L layers the exits at 1 to L - 1 may answer, the first whose sureness reaches the threshold; where none does, all L
are used and the answer is the student's own. The depth of an answer is the layers used / L. One threshold serves all
exits and is set on validation rows, so that answers there have the mean depth asked for.

Criteria: the margin of an exit's softmax or of its Laplace predictive, entropy (DeeBERT, Xin et al. 2020), patience
(PABEE, Zhou et al. 2020; ties are broken at random), and two controls that look at nothing: `random` stops anywhere,
`layer` every row at one layer, or at the one after it. A monotone rescaling of every exit's confidence gives the same
answers, so two margins differ by how they rank rows within an exit, and exits against each other.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from fairkd.evaluation.groups import importance_of, row_weights
from fairkd.evaluation.intervals import Spread, joined_interval, normal_quantile, seed_variance
from fairkd.evaluation.seeds import compare
from fairkd.evaluation.tables import class_probabilities, exit_layers, margins

# What each exit so far gives n rows, [(n, C), ...], and a number drawn for each at this exit, (n,) -> sureness (n,).
Sure = Callable[[list[np.ndarray], np.ndarray], np.ndarray]


def _margin(told: list[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    return margins(told[-1])


def _negative_entropy(told: list[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    probs = told[-1]
    return (probs * np.log(np.where(probs > 0, probs, 1))).sum(1)


def _patience(told: list[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """How many exits in a row before this one say the same class as it does; the drawn number orders equals.

    Whole numbers alone would leave few depths to choose from, and criteria are compared at one.
    """
    classes = [probs.argmax(1) for probs in told]
    count, alike = np.zeros(len(drawn)), np.ones(len(drawn), dtype=bool)
    for earlier in classes[-2::-1]:
        alike &= earlier == classes[-1]
        count += alike
    return count + drawn


def _random(told: list[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    return drawn


def _layer(told: list[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """The later, the surer: the drawn number tells which rows stop a layer earlier, so that any depth can be had."""
    return len(told) + drawn


class Criterion(NamedTuple):
    """When an exit is sure.

    Attributes:
        sure: the larger, the surer.
        model: what a predictions table calls the exit that is asked, by its layer.
    """

    sure: Sure
    model: str = "exit{}"


CRITERIA = {
    "margin": Criterion(_margin),
    "laplace_margin": Criterion(_margin, "exit{}_laplace"),
    "entropy": Criterion(_negative_entropy),
    "patience": Criterion(_patience),
    "random": Criterion(_random),
    "layer": Criterion(_layer),
}


def criterion_named(name: str) -> Criterion:
    """One of `CRITERIA`.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in CRITERIA:
        raise ValueError(f"criterion is {name!r}; choose one of {', '.join(CRITERIA)}")
    return CRITERIA[name]


def draws(n_rows: int, n_exits: int, seed: int = 0) -> np.ndarray:
    """(N, L-1) uniform numbers in [0, 1), for the criteria that draw."""
    return np.random.default_rng(seed).random((n_rows, n_exits))


def sureness(predictions: pd.DataFrame, criterion: str, seed: int = 0) -> np.ndarray:
    """How sure every exit but the last is of every row, (N, L-1), the larger the surer.

    Args:
        predictions: a predictions table with `exit{l}` and `exit{l}_laplace` for l = 1..L.
        criterion: one of `CRITERIA`.
        seed: of the criteria that draw: patience, random and layer.

    Raises:
        ValueError: an unknown criterion, or a table with fewer than two exits.
    """
    sure, model = criterion_named(criterion)
    layers = _layers(predictions)
    told = [class_probabilities(predictions, model.format(layer)) for layer in range(1, layers)]
    drawn = draws(len(predictions), layers - 1, seed)
    return np.stack([sure(told[: i + 1], drawn[:, i]) for i in range(layers - 1)], axis=1)


def threshold_for(sure: np.ndarray, importance: np.ndarray, depth: float) -> float:
    """The highest threshold at which rows have at most this mean depth.

    It lies between two values of sureness: +inf where all layers are to be used, -inf where the first exit always
    answers.

    Args:
        sure: (N, L-1) as `sureness` has it.
        importance: (N,) what each row counts for.
        depth: layers used / L on average, in [1/L, 1].

    Raises:
        ValueError: a depth that no answer can have.
    """
    layers = sure.shape[1] + 1
    if not 1 / layers <= depth <= 1:
        raise ValueError(f"depth is {depth}; a student of {layers} layers answers at depths {1 / layers:.3g} to 1")
    # A row uses one layer more for every exit before which no sureness has reached the threshold.
    best = np.maximum.accumulate(sure, axis=1)
    values, place = np.unique(best, return_inverse=True)
    share = np.repeat(importance / importance.sum(), layers - 1)
    below = np.cumsum(np.bincount(place.ravel(), weights=share))  # layers more where the threshold is above a value
    allowed = int(np.searchsorted(1 + below, depth * layers + 1e-9, side="right"))  # values that may lie below it
    if allowed in (0, len(values)):
        return np.inf if allowed else -np.inf
    middle = float(values[allowed - 1] + values[allowed]) / 2
    return middle if middle > values[allowed - 1] else float(values[allowed])  # of two neighbours it is one of them


def layers_used(sure: np.ndarray, threshold: float) -> np.ndarray:
    """(N, L-1) sureness -> (N,) layers used, 1 to L."""
    reached = sure >= threshold
    return np.where(reached.any(1), reached.argmax(1) + 1, sure.shape[1] + 1)


def answers(predictions: pd.DataFrame, criterion: str, threshold: float, seed: int = 0) -> pd.DataFrame:
    """Every row's answer: who it is, `layer`, and the probabilities `student_prob_*` of the exit or student asked."""
    used, layers = layers_used(sureness(predictions, criterion, seed), threshold), _layers(predictions)
    probs = class_probabilities(predictions, "student").copy()
    for layer in range(1, layers):
        rows = used == layer
        probs[rows] = class_probabilities(predictions, CRITERIA[criterion].model.format(layer))[rows]
    who = predictions[[name for name in predictions if "_prob_" not in name and not name.endswith("_margin")]]
    told = pd.DataFrame(probs, who.index, [f"student_prob_{c}" for c in range(probs.shape[1])])
    return pd.concat([who.assign(layer=used, depth=used / layers), told], axis=1)


class Held(NamedTuple):
    """What one run's exits say: of validation rows, which set the thresholds, and of evaluation rows."""

    validation: pd.DataFrame
    evaluation: pd.DataFrame


def early_answers(held: dict[str, dict[int, Held]], depths: list[float], *, confidence: float = 0.95) -> pd.DataFrame:
    """Every student's early answers by every criterion, at every mean depth asked for.

    Args:
        held: {student: {training seed: its predictions}}; each seed has thresholds of its own.
        depths: layers used / L on average over validation rows, in [1/L, 1].

    Returns:
        Columns student, criterion, target (the depth asked for), of ("accuracy" or "depth"), row, value, low, high:
        means over seeds with their intervals; rows average, the groups, the attribute's levels, and `worst_of_means`
        and `mean_of_worsts` of accuracies.

    Raises:
        ValueError: no validation rows, a depth that no answer can have, tables that do not hold the same rows.
    """
    parts = []
    for student, of_seed in held.items():
        for target in depths:
            told = _told(of_seed, target)
            accuracy = compare(told, [], n_boot=0, confidence=confidence).report
            found = [accuracy.rename(columns={"student": "criterion"}).assign(of="accuracy")]
            for name, tables in told.items():
                depth = _depths(list(tables.values()), confidence)
                found.append(depth.assign(criterion=name, of="depth"))
            parts += [part.assign(student=student, target=target) for part in found]
    report = pd.concat(parts, ignore_index=True)
    return report[["student", "criterion", "target", "of", "row", "value", "low", "high"]]


def early_differences(held: dict[str, dict[int, Held]], depth: float, *, confidence: float = 0.95) -> pd.DataFrame:
    """What the accuracies of criteria differ by at one depth asked for, paired in seeds and rows.

    Every criterion minus either control and minus the margin: columns student, criterion, baseline, row, value,
    low, high, p, as `evaluation.compare` has them.
    """
    parts = []
    for student, of_seed in held.items():
        compared = compare(_told(of_seed, depth), ["random", "layer", "margin"], n_boot=0, confidence=confidence)
        parts.append(compared.differences.rename(columns={"student": "criterion"}).assign(student=student))
    apart = pd.concat(parts, ignore_index=True)
    return apart[["student", "criterion", "baseline", "row", "value", "low", "high", "p"]]


def _told(of_seed: dict[int, Held], depth: float) -> dict[str, dict[int, pd.DataFrame]]:
    return {name: {seed: _answered(tables, name, depth, seed) for seed, tables in of_seed.items()} for name in CRITERIA}


def _answered(held: Held, criterion: str, depth: float, seed: int) -> pd.DataFrame:
    """The evaluation rows' answers at the threshold that the validation rows set, ordered by id."""
    if held.validation.empty:
        raise ValueError("there are no validation rows to set a threshold by: set validation_examples above 0")
    threshold = threshold_for(sureness(held.validation, criterion, seed), importance_of(held.validation), depth)
    return answers(held.evaluation, criterion, threshold, seed).sort_values("id", ignore_index=True)


def _depths(tables: list[pd.DataFrame], confidence: float) -> pd.DataFrame:
    """The mean depth on average and of every group, over S seeds: row, value, low, high."""
    weights = row_weights(tables[0])
    unit = (weights / weights.sum().replace(0, np.nan)).T  # (R, N)
    depth = np.stack([table["depth"] for table in tables])  # (S, N)
    each = depth @ unit.to_numpy().T  # (S, R)
    mean = each.mean(0)
    rows = ((unit * (depth.mean(0) - mean[:, None])) ** 2).sum(axis=1, skipna=False).to_numpy()
    reach = normal_quantile(confidence) * np.sqrt(rows)
    low, high = joined_interval(Spread(mean, seed_variance(each), len(tables)), reach, reach, confidence)
    return pd.DataFrame({"row": unit.index, "value": mean, "low": np.clip(low, 0, 1), "high": np.clip(high, 0, 1)})


def _layers(predictions: pd.DataFrame) -> int:
    layers = len(exit_layers(predictions))
    if layers < 2:
        raise ValueError(f"predictions have {layers} exits; an early answer needs a student of 2 layers or more")
    return layers
