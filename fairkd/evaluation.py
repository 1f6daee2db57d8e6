"""The predictions table, one row an example, and what it says of every group.

Intervals are percentile bootstrap intervals whose resamples draw rows with replacement within each group, so group
sizes stay as they are. They speak of the evaluation sample alone: another training seed is another source of
spread. An interval has no width where a group is all right or all wrong.
"""

import numpy as np
import pandas as pd
from torch import Tensor

from fairkd.data import attribute_name
from fairkd.dedier import confidence_margin
from fairkd.tables import class_probabilities, is_correct

# Equal-width confidence bins of the expected calibration error (Guo et al. 2017).
_BINS = 15


def predictions_table(rows: pd.DataFrame, probabilities: dict[str, Tensor], attribute: str) -> pd.DataFrame:
    """One row an example: who it is, and what every model says of it.

    Args:
        rows: examples as `fairkd.data.load` makes them, with a column `split` where they are of several.
        probabilities: {model: (N, C)} in the order of `rows`.
        attribute: the attribute's column.

    Returns:
        id, label, the attribute, group, importance, split if there is one, and for each model
        `{model}_prob_{class index}` and `{model}_margin`, the confidence margin.
    """
    columns = ["id", "label", attribute, "group", "importance", *({"split"} & set(rows))]
    parts = [rows[columns].reset_index(drop=True)]
    for model, probs in probabilities.items():
        names = [f"{model}_prob_{c}" for c in range(probs.shape[1])]
        part = pd.DataFrame(probs.double().numpy(), columns=names)
        parts.append(part.assign(**{f"{model}_margin": confidence_margin(probs.double()).numpy()}))
    return pd.concat(parts, axis=1)


def group_accuracy(predictions: pd.DataFrame, model: str = "student", attribute: str = "negation") -> pd.Series:
    """Accuracy on average, per group, per level of the attribute, in the worst group, and the gap.

    The average weighs rows by `importance` where the table has it; the worst group is the lowest of the groups
    present (Sagawa et al. 2020); the gap is average minus worst. A group without rows is NaN.
    """
    # Here, since importing them takes a second that `import fairkd` need not.
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    truth = predictions["label"]
    guess = class_probabilities(predictions, model).argmax(1)
    groups = MetricFrame(
        metrics=accuracy_score, y_true=truth, y_pred=guess, sensitive_features=predictions["group"].astype(str)
    )
    levels = MetricFrame(
        metrics=accuracy_score,
        y_true=truth,
        y_pred=guess,
        sensitive_features=_levels(predictions, attribute),
        sample_params={"sample_weight": _importance(predictions)},
    )
    average, worst = levels.overall, groups.group_min()
    parts = [
        pd.Series({"average": average}),
        groups.by_group.reindex(_groups(predictions)),
        levels.by_group.reindex(
            [attribute_name(attribute, level) for level in sorted(predictions[attribute].unique())]
        ),
        pd.Series({"worst_group": worst, "gap": average - worst}),
    ]
    return pd.concat(parts).astype(float)


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

    Args:
        predictions: a predictions table: label, group, the attribute, `{model}_prob_*`, and optionally importance.
        model: "teacher", "student", "exit3", "exit3_laplace", ...
        attribute: the column whose levels get a row each ("negation" and "no negation").
        n_boot: bootstrap resamples.

    Returns:
        Columns value, low, high, n; rows average, the groups, the attribute's levels, worst_group, gap (average
        minus worst group), ece (Guo et al. 2017, 15 equal-width bins) and nll (nats). A group absent from the
        predictions has n 0 and NaN, and does not count as the worst.

    Raises:
        KeyError: the model or a column is not in the table.
        ValueError: the table is empty.
    """
    counts = resamples(_not_empty(predictions), n_boot, seed)
    value, draws = draw_report(predictions, model, counts, attribute)
    sizes = pd.concat([predictions["group"].astype(str), _levels(predictions, attribute)]).value_counts()
    n = pd.Series(len(predictions), index=value.index)
    n.update(sizes.reindex([*_groups(predictions), *_levels(predictions, attribute).unique()], fill_value=0))
    n["worst_group"] = n[value[_groups(predictions)].idxmin()]
    return with_interval(value, draws, confidence).assign(n=n)


def draw_report(
    predictions: pd.DataFrame, model: str, counts: np.ndarray, attribute: str
) -> tuple[pd.Series, dict[str, np.ndarray]]:
    """The rows of `group_report`: their values, and those of every resample, {row: (B,)}.

    Args:
        counts: (B, N), how often each row occurs in each resample, as `resamples` draws them.
    """
    value = group_accuracy(predictions, model, attribute)
    probs, labels = class_probabilities(predictions, model), predictions["label"].to_numpy()
    importance = _importance(predictions)
    log_loss = -np.log(np.clip(probs[np.arange(len(labels)), labels], 1e-12, None))
    correct = probs.argmax(1) == labels
    draws = _accuracy_draws(predictions, correct, counts, attribute)
    once = np.ones((1, len(labels)))
    for row, scores in (
        ("ece", lambda times: _calibration_error(times, probs, correct, importance)),
        ("nll", lambda times: _mean(times, log_loss, importance)),
    ):
        value[row], draws[row] = scores(once)[0], scores(counts)
    return value, draws


def paired_difference(
    predictions: pd.DataFrame,
    baseline: pd.DataFrame,
    model: str = "student",
    *,
    attribute: str = "negation",
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracies of one predictions table minus those of another on the same examples, with paired intervals.

    Returns:
        Columns value, low, high; rows as in `group_accuracy`. Each table has its own worst group.

    Raises:
        ValueError: the two tables do not hold the same examples.
    """
    if set(predictions["id"]) != set(baseline["id"]):
        raise ValueError("predictions and baseline hold different examples: compare runs on the same evaluation split")
    baseline = baseline.set_index("id").loc[predictions["id"]].reset_index()
    value = group_accuracy(predictions, model, attribute) - group_accuracy(baseline, model, attribute)
    counts = resamples(predictions, n_boot, seed)
    ours, theirs = (
        _accuracy_draws(table, is_correct(table, model).to_numpy(), counts, attribute)
        for table in (predictions, baseline)
    )
    return with_interval(value, {row: ours[row] - theirs[row] for row in ours}, confidence)


def readable(report: pd.DataFrame, digits: int = 3) -> pd.Series:
    """A report for reading: "0.912 [0.905, 0.920]", and "absent" where there are no rows."""
    text = [
        "absent" if np.isnan(value) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        for value, low, high in report[["value", "low", "high"]].itertuples(index=False)
    ]
    return pd.Series(text, index=report.index)


def _not_empty(predictions: pd.DataFrame) -> pd.DataFrame:
    if predictions.empty:
        raise ValueError("predictions has no rows: there is nothing to report")
    return predictions


def _groups(predictions: pd.DataFrame) -> list[str]:
    """All groups, those without rows included where the column is a category."""
    column = predictions["group"]
    return list(column.cat.categories) if hasattr(column, "cat") else sorted(column.unique())


def _levels(predictions: pd.DataFrame, attribute: str) -> pd.Series:
    if attribute not in predictions:
        raise KeyError(f"attribute {attribute!r} is not a column of the predictions")
    return predictions[attribute].map(lambda level: attribute_name(attribute, level)).astype(str)


def _importance(predictions: pd.DataFrame) -> np.ndarray:
    return predictions["importance"].to_numpy() if "importance" in predictions else np.ones(len(predictions))


def resamples(predictions: pd.DataFrame, n_boot: int, seed: int) -> np.ndarray:
    """How often each row occurs in each of B resamples within its group: (B, N)."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_boot, len(predictions)), dtype=np.float32)
    for rows in predictions.groupby(predictions["group"].astype(str)).indices.values():
        size = len(rows)
        drawn = rng.integers(size, size=(n_boot, size)) + np.arange(n_boot)[:, None] * size
        counts[:, rows] = np.bincount(drawn.ravel(), minlength=n_boot * size).reshape(n_boot, size)
    return counts


def _accuracy_draws(
    predictions: pd.DataFrame, correct: np.ndarray, counts: np.ndarray, attribute: str
) -> dict[str, np.ndarray]:
    """The rows of `group_accuracy` in each resample: {row: (B,)}."""
    importance, levels = _importance(predictions), _levels(predictions, attribute)
    draws = {"average": _mean(counts, correct, importance)}
    draws |= {group: _mean(counts, correct, predictions["group"] == group) for group in _groups(predictions)}
    worst = np.nanmin([draws[group] for group in _groups(predictions)], axis=0)
    draws |= {level: _mean(counts, correct, importance * (levels == level)) for level in levels.unique()}
    return draws | {"worst_group": worst, "gap": draws["average"] - worst}


def _mean(counts: np.ndarray, values: np.ndarray, weight: np.ndarray | pd.Series) -> np.ndarray:
    """The weighted mean of `values` (N,) in each resample (B, N): (B,); NaN where nothing has weight."""
    sums = counts @ np.stack([weight * values, weight], axis=1).astype(np.float32)  # (B, 2)
    with np.errstate(invalid="ignore"):
        return sums[:, 0] / sums[:, 1]


def _calibration_error(
    counts: np.ndarray, probs: np.ndarray, correct: np.ndarray, importance: np.ndarray
) -> np.ndarray:
    """Expected calibration error (Guo et al. 2017, equation 3) in each resample: (B,)."""
    confidence = probs.max(1)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    excess = np.zeros((len(bins), _BINS), dtype=np.float32)
    excess[np.arange(len(bins)), bins] = importance * (correct - confidence)
    return np.abs(counts @ excess).sum(1) / (counts @ importance.astype(np.float32))


def with_interval(value: pd.Series, draws: dict[str, np.ndarray], confidence: float) -> pd.DataFrame:
    """Columns value, low, high: the middle `confidence` of each row's draws."""
    tail = (1 - confidence) / 2
    low, high = (pd.Series({row: np.quantile(d, q) for row, d in draws.items()}) for q in (tail, 1 - tail))
    return pd.DataFrame({"value": value, "low": low.reindex(value.index), "high": high.reindex(value.index)})
