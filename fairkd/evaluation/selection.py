"""Which epoch of a training, or which setting of a refit, to believe, by one rule or another."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd

from fairkd.evaluation.groups import group_accuracy, importance_of
from fairkd.evaluation.tables import is_correct


def class_difference(rows: pd.DataFrame) -> float:
    """The mean difference of two classes' accuracies, in [0, 1], of a student (Li et al. 2024).

    Of the population's: rows that were drawn by group weigh their `importance`, or the groups would have a say in it.

    Raises:
        ValueError: the rows are of one class.
    """
    if rows["label"].nunique() < 2:
        raise ValueError("the validation rows are of one class, so no difference of classes chooses; take more of them")
    of_class = _accuracies(rows, ["label"])
    return float(np.mean([abs(one - other) for one, other in combinations(of_class, 2)]))


def _accuracies(rows: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """The accuracy of the population's rows with each combination of values in the columns that occurs."""
    counted = rows[columns].assign(all=importance_of(rows))
    sums = counted.assign(right=counted["all"] * is_correct(rows)).groupby(columns)[["right", "all"]].sum()
    return (sums["right"] / sums["all"]).to_numpy()


def _average(rows: pd.DataFrame) -> float:
    return group_accuracy(rows)["average"]


def _worst_group(rows: pd.DataFrame) -> float:
    return group_accuracy(rows)["worst_group"]


BY_GROUPS = "validation worst group"

# By what is chosen: nothing, or the validation split, whose group labels `BY_GROUPS` alone reads.
SELECTIONS: dict[str, Callable[[pd.DataFrame], float] | None] = {
    "last epoch": None,
    "validation average": _average,
    "smallest class difference": lambda rows: -class_difference(rows),
    BY_GROUPS: _worst_group,
}


# For refits weighed by an exit: what it errs on stands for the groups, whose labels nobody reads.
BY_EXIT = "validation worst by exit"


def worst_by_exit(rows: pd.DataFrame) -> float:
    """The lowest accuracy of a student over label x whether the exit is right, the column `exit_right`.

    Of the population's rows, as `class_difference`.
    """
    return float(_accuracies(rows, ["label", "exit_right"]).min())


def chosen(table: pd.DataFrame, selection: str, among: str = "epoch") -> float:
    """The epoch (or other setting) that a rule would keep; of equals the better average, then the first.

    Args:
        table: predictions of a student, with the columns `split` and `among`; a run's table "epochs".
        selection: one of `SELECTIONS`, of which "last epoch" is the largest; or `BY_EXIT`, which reads `exit_right`.
        among: the column of what is chosen.

    Raises:
        ValueError: an unknown selection, or one that needs validation rows where there are none.
    """
    rules = SELECTIONS | {BY_EXIT: worst_by_exit}
    if selection not in rules:
        raise ValueError(f"selection is {selection!r}; choose one of {', '.join(rules)}")
    rule = rules[selection]
    if rule is None:
        return table[among].max()
    validation = table[table["split"] == "validation"]
    if validation.empty:
        raise ValueError(f"selection {selection!r} needs validation rows: set validation_examples above 0")
    scores = {setting: (rule(rows), _average(rows)) for setting, rows in validation.groupby(among, sort=True)}
    return max(scores, key=scores.get)


def evaluated_at(table: pd.DataFrame, among: str, setting: float) -> pd.DataFrame:
    """The evaluation rows of one setting."""
    return table[(table[among] == setting) & (table["split"] == "evaluation")].reset_index(drop=True)
