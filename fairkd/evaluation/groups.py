"""Accuracy on average, per group and per level of the attribute: which rows count, and for how much.

One rule serves values and intervals: the accuracy of a report's row is the mean of right and wrong under that row's
column of `row_weights`.
"""

import numpy as np
import pandas as pd

from fairkd.data.groups import attribute_name, is_taken
from fairkd.evaluation.tables import is_correct


def group_names(rows: pd.DataFrame) -> list[str]:
    """All groups, those without rows included where the column is a category."""
    column = rows["group"]
    return list(column.cat.categories) if hasattr(column, "cat") else sorted(column.unique())


def attribute_of(predictions: pd.DataFrame) -> str:
    """The column of the attribute: the one whose name no other column of any table has.

    Raises:
        KeyError: there is none, or more than one; the message has them.
    """
    left = [name for name in predictions if not is_taken(str(name))]
    if len(left) != 1:
        raise KeyError(f"state attribute, a column of the predictions that makes the groups; it may be one of: {left}")
    return left[0]


def row_weights(predictions: pd.DataFrame, attribute: str | None = None) -> pd.DataFrame:
    """How much each example counts for the average, for every group and for every level: a column for each, (N, R).

    The average and the levels weigh examples by `importance` where the table has it, a group counts its own alike.
    The column of a group without examples is 0.

    Args:
        predictions: a predictions table.
        attribute: the column whose levels get a column each; None: see `attribute_of`.

    Raises:
        KeyError: the attribute is not a column.
        ValueError: the table is empty.
    """
    attribute = attribute_of(predictions) if attribute is None else attribute
    if attribute not in predictions:
        raise KeyError(f"attribute {attribute!r} is not a column of the predictions, which are: {list(predictions)}")
    if predictions.empty:
        raise ValueError("predictions has no rows: there is nothing to report")
    importance = importance_of(predictions)
    weights = {"average": importance}
    weights |= {group: (predictions["group"] == group).to_numpy(float) for group in group_names(predictions)}
    for level in sorted(predictions[attribute].unique()):
        weights[attribute_name(attribute, level)] = importance * (predictions[attribute] == level).to_numpy()
    return pd.DataFrame(weights)


def importance_of(predictions: pd.DataFrame) -> np.ndarray:
    """How many examples of the population each row stands for (N,): its `importance`, 1 where there is none."""
    return predictions["importance"].to_numpy(float) if "importance" in predictions else np.ones(len(predictions))


def group_accuracy(predictions: pd.DataFrame, model: str = "student", attribute: str | None = None) -> pd.Series:
    """Accuracy on average, per group, per level of the attribute, in the worst group, and the gap.

    The worst group is the lowest of the groups present (Sagawa et al. 2020); the gap is average minus worst. A group
    without rows is NaN. Of several alike groups the lowest is lowest by chance too: six of 90 rows, each right at
    .675, have a worst of .61 on average. The attribute is the table's own (`attribute_of`) where none is given.
    """
    weights = row_weights(predictions, attribute)
    accuracy = accuracies(is_correct(predictions, model).to_numpy(), weights)
    worst = accuracy[group_names(predictions)].min()
    return pd.concat([accuracy, pd.Series({"worst_group": worst, "gap": accuracy["average"] - worst})])


def accuracies(correct: np.ndarray, weights: pd.DataFrame) -> pd.Series:
    """The mean of `correct` (N,) under each column of `weights` (N, R): (R,); NaN where nothing has weight."""
    return weights.apply(lambda w: np.average(correct[w > 0], weights=w[w > 0]) if w.any() else np.nan, raw=True)


def target_groups(train: pd.DataFrame, attribute: str) -> list[str]:
    """The groups that are rare in training, to be named before any result is seen.

    Rare is fewer than half of the examples that the group would have were label and attribute independent.

    Args:
        train: training examples: label, the attribute and group, one row an example.

    Returns:
        Their names, in the order of the groups; a group that training lacks is one of them.
    """
    groups = train.groupby(train["group"].astype(str))
    cells = groups[["label", attribute]].first()
    of_label, of_level = (cells[column].map(train[column].value_counts()) for column in ("label", attribute))
    rare = groups.size() < 0.5 * of_label * of_level / len(train)
    return [group for group in group_names(train) if rare.get(group, True)]


def lost_group(train: pd.DataFrame, attribute: str, predictions: pd.DataFrame, model: str = "student") -> str:
    """The group that a model, as a rule plain distillation's student, loses: the one group that others are shown by.

    It is the target group where the model is least accurate; of all groups, where none that is rare in training occurs
    in the predictions.
    """
    accuracy = is_correct(predictions, model).groupby(predictions["group"].astype(str)).mean()
    rare = accuracy.index.intersection(target_groups(train, attribute))
    return accuracy[rare if len(rare) else accuracy.index].idxmin()
