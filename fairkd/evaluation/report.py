"""What a predictions table says of every group, and what two of them differ by.

The intervals speak of the evaluation sample alone, taken as a random one: another training seed is another source of
spread, and `compare` has both. They are Wilson's for accuracies and Agresti and Min's for paired differences
(`fairkd.evaluation.intervals`); those of ece and nll are from a bootstrap within groups.
"""

import numpy as np
import pandas as pd

from fairkd.evaluation.scores import Scores


def group_report(
    predictions: pd.DataFrame,
    model: str = "student",
    *,
    attribute: str | None = None,
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """What a model is worth on average and to every group, with intervals.

    Args:
        predictions: a predictions table: label, group, the attribute, `{model}_prob_*`, and optionally importance.
        model: "teacher", "student", "exit3", "exit3_laplace", ...
        attribute: the column whose levels get a row each ("negation" and "no negation"); None: see `attribute_of`.
        n_boot: bootstrap resamples, for ece and nll.
        seed: of the bootstrap.

    Returns:
        Columns value, low, high, n; rows average, the groups, the attribute's levels, worst_group, gap (average
        minus worst group), ece (Guo et al. 2017, 15 equal-width bins) and nll (nats). A group absent from the
        predictions has n 0 and NaN, and does not count as the worst.

    Raises:
        KeyError: the model or a column is not in the table.
        ValueError: the table is empty; confidence is not between 0 and 1.
    """
    scores = Scores.of([predictions], model, attribute, n_boot, seed)
    report = _of_one_run(scores.report(confidence))
    n = (scores.weights > 0).sum().reindex(report.index, fill_value=len(predictions))
    n["worst_group"] = n[report["value"][scores.groups].idxmin()]
    return report.assign(n=n)


def paired_difference(
    predictions: pd.DataFrame,
    baseline: pd.DataFrame,
    model: str = "student",
    *,
    attribute: str | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Accuracies of one predictions table minus those of another on the same examples, with paired intervals.

    Returns:
        Columns value, low, high; rows as in `group_accuracy`. Each table has its own worst group, taken as found.

    Raises:
        ValueError: the two tables do not hold the same examples; confidence is not between 0 and 1.
    """
    if set(predictions["id"]) != set(baseline["id"]):
        raise ValueError("predictions and baseline hold different examples: compare runs on the same evaluation split")
    baseline = baseline.set_index("id").loc[predictions["id"]].reset_index()
    ours, theirs = (Scores.of([table], model, attribute, 0, 0) for table in (predictions, baseline))
    return _of_one_run(ours.minus(theirs, confidence)).loc[:"gap", ["value", "low", "high"]]


def readable(report: pd.DataFrame, digits: int = 3) -> pd.Series:
    """A report for reading: "0.912 [0.905, 0.920]", and "absent" where there are no rows."""
    text = [
        "absent" if np.isnan(value) else f"{value:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"
        for value, low, high in report[["value", "low", "high"]].itertuples(index=False)
    ]
    return pd.Series(text, index=report.index)


def _of_one_run(report: pd.DataFrame) -> pd.DataFrame:
    """One run has one worst group."""
    return report.drop(index="worst_of_means").rename(index={"mean_of_worsts": "worst_group"})
