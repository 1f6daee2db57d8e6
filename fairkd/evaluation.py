"""The predictions table, one row an example, and what it says of every group."""

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame
from sklearn.metrics import accuracy_score
from torch import Tensor

from fairkd.data import Splits, attribute_name
from fairkd.dedier import confidence_margin

# Equal-width confidence bins of the expected calibration error (Guo et al. 2017).
_BINS = 15


def predictions_table(splits: Splits, probabilities: dict[str, Tensor]) -> pd.DataFrame:
    """One row an evaluation example: who it is, and what every model says of it.

    Args:
        probabilities: {model: (N, C)} in the order of `splits.evaluation`.

    Returns:
        id, label, the attribute, group, importance, and for each model `{model}_prob_{class index}` and
        `{model}_margin`, the confidence margin.
    """
    columns = ["id", "label", splits.entry.attribute, "group", "importance"]
    parts = [splits.evaluation[columns].reset_index(drop=True)]
    for model, probs in probabilities.items():
        names = [f"{model}_prob_{c}" for c in range(probs.shape[1])]
        part = pd.DataFrame(probs.double().numpy(), columns=names)
        parts.append(part.assign(**{f"{model}_margin": confidence_margin(probs.double()).numpy()}))
    return pd.concat(parts, axis=1)


def class_probabilities(predictions: pd.DataFrame, model: str = "student") -> np.ndarray:
    """The (N, C) probabilities of one model of a predictions table."""
    names = [name for name in predictions if name.startswith(f"{model}_prob_")]
    if not names:
        known = sorted({name.rpartition("_prob_")[0] for name in predictions if "_prob_" in name})
        raise KeyError(f"model {model!r} is not in the predictions; they hold {', '.join(known)}")
    return predictions[names].to_numpy()


def is_correct(predictions: pd.DataFrame, model: str = "student") -> pd.Series:
    """Whether the model's most probable class is the label, for every row."""
    return pd.Series(class_probabilities(predictions, model).argmax(1) == predictions["label"], predictions.index)


def group_accuracy(predictions: pd.DataFrame, model: str = "student", attribute: str = "negation") -> pd.Series:
    """Accuracy on average, per group, per level of the attribute, in the worst group, and the gap.

    The average weighs rows by `importance` where the table has it; the worst group is the lowest of the groups
    present (Sagawa et al. 2020); the gap is average minus worst. A group without rows is NaN.
    """
    guess = class_probabilities(predictions, model).argmax(1)
    weight = predictions["importance"] if "importance" in predictions else np.ones(len(predictions))
    grouped = MetricFrame(
        metrics=accuracy_score,
        y_true=predictions["label"],
        y_pred=guess,
        sensitive_features=predictions["group"].astype(str),
    )
    levels = MetricFrame(
        metrics=accuracy_score,
        y_true=predictions["label"],
        y_pred=guess,
        sensitive_features=_levels(predictions, attribute),
        sample_params={"sample_weight": weight},
    )
    worst = grouped.group_min()
    per_group = grouped.by_group.reindex(_groups(predictions))
    ends = pd.Series({"worst_group": worst, "gap": levels.overall - worst})
    return pd.concat([pd.Series({"average": levels.overall}), per_group, levels.by_group, ends])


def group_report(
    predictions: pd.DataFrame,
    model: str = "student",
    *,
    attribute: str = "negation",
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """What a model is worth on average and to every group, with bootstrap intervals.

    Rows are resampled with replacement within their group, so group sizes stay as they are; the interval is the
    percentile one. It has no width where a group is all right or all wrong. The interval speaks of the evaluation
    sample alone; another training seed is another source of spread.

    Args:
        predictions: a predictions table: label, group, the attribute, `{model}_prob_*`, and optionally importance.
        model: "teacher", "student", "exit3", "exit3_laplace", ...
        attribute: the column whose levels get a row each ("negation" and "no negation").
        n_boot: bootstrap resamples.

    Returns:
        Columns value, low, high, n; rows average, the groups, the attribute's levels, worst_group, gap (average
        minus worst group), ece (15 equal-width bins) and nll (nats). A group absent from the predictions has n 0
        and NaN, and does not count as the worst.

    Raises:
        KeyError: the model or a column is not in the table.
        ValueError: the table is empty.
    """
    if predictions.empty:
        raise ValueError("predictions has no rows: there is nothing to report")
    value = group_accuracy(predictions, model, attribute)
    probs, labels = class_probabilities(predictions, model), predictions["label"].to_numpy()
    codes = pd.Categorical(predictions["group"], categories=_groups(predictions)).codes
    counts = _resample(codes, n_boot, seed)  # (B, N)
    levels = _levels(predictions, attribute)
    importance = predictions["importance"].to_numpy() if "importance" in predictions else np.ones(len(labels))
    correct = probs.argmax(1) == labels

    draws = {"average": _mean(counts, correct, importance)}
    for code, group in enumerate(_groups(predictions)):
        draws[group] = _mean(counts, correct, codes == code)
    present = [group for group in _groups(predictions) if (predictions["group"] == group).any()]
    for level in levels.unique():
        draws[level] = _mean(counts, correct, importance * (levels == level))
    draws["worst_group"] = np.min([draws[group] for group in present], axis=0)
    draws["gap"] = draws["average"] - draws["worst_group"]

    once = np.ones((1, len(labels)))
    log_loss = -np.log(np.clip(probs[np.arange(len(labels)), labels], 1e-12, None))
    value["ece"] = _calibration_error(once, probs, correct, importance).item()
    value["nll"] = _mean(once, log_loss, importance).item()
    draws["ece"] = _calibration_error(counts, probs, correct, importance)
    draws["nll"] = _mean(counts, log_loss, importance)

    tail = (1 - confidence) / 2
    low, high = ({row: np.quantile(d, q) for row, d in draws.items()} for q in (tail, 1 - tail))
    sizes = predictions["group"].astype(str).value_counts().to_dict() | levels.value_counts().to_dict()
    n = [sizes.get(row, 0 if row in _groups(predictions) else len(labels)) for row in value.index]
    report = pd.DataFrame({"value": value, "low": pd.Series(low), "high": pd.Series(high)}, index=value.index)
    worst = value[present].astype(float).idxmin()
    return report.assign(n=n).astype({"n": int}).pipe(_set_n, "worst_group", sizes[worst])


def _set_n(report: pd.DataFrame, row: str, n: int) -> pd.DataFrame:
    report.loc[row, "n"] = n
    return report


def _groups(predictions: pd.DataFrame) -> list[str]:
    """All groups, those without rows included where the column is a category."""
    column = predictions["group"]
    return list(column.cat.categories) if hasattr(column, "cat") else sorted(column.unique())


def _levels(predictions: pd.DataFrame, attribute: str) -> pd.Series:
    if attribute not in predictions:
        raise KeyError(f"attribute {attribute!r} is not a column of the predictions")
    return predictions[attribute].map(lambda level: attribute_name(attribute, level)).astype(str)


def _resample(codes: np.ndarray, n_boot: int, seed: int) -> np.ndarray:
    """How often each row occurs in each resample within its group: (B, N)."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_boot, len(codes)), dtype=np.float32)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        counts[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n_boot)
    return counts


def _mean(counts: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted mean of `values` (N,) in each resample (B, N): (B,); NaN where nothing has weight."""
    weight = np.asarray(weight, dtype=float)
    with np.errstate(invalid="ignore"):
        return (counts @ (weight * values)) / (counts @ weight)


def _calibration_error(
    counts: np.ndarray, probs: np.ndarray, correct: np.ndarray, importance: np.ndarray
) -> np.ndarray:
    """Expected calibration error (Guo et al. 2017, equation 3) in each resample: (B,)."""
    confidence = probs.max(1)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    excess = np.zeros((len(bins), _BINS))
    excess[np.arange(len(bins)), bins] = importance * (correct - confidence)
    return np.abs(counts @ excess).sum(1) / (counts @ importance)
