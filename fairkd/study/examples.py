"""Examples with their text: which are lifted most, moved most, wrong with the widest margin; tables only."""

import pandas as pd

from fairkd.evaluation import is_correct
from fairkd.evaluation.tables import exit_layers
from fairkd.figures import Words


def with_most(table: pd.DataFrame, value: pd.Series, count: int = 3) -> pd.DataFrame:
    """The rows of every group in which a value is largest, largest first, groups in order.

    Args:
        table: examples with their group.
        value: (N,) by the table's index; rows where it is absent (NaN) are left out.
        count: at most so many a group.
    """
    largest = value.dropna().sort_values(ascending=False, kind="stable").index
    return table.loc[largest].groupby("group", observed=True).head(count).sort_values("group", kind="stable")


def wrong_margins(predictions: pd.DataFrame, model: str = "student") -> pd.Series:
    """The model's margin where it is wrong, NaN where it is right (N,)."""
    return predictions[f"{model}_margin"].where(~is_correct(predictions, model))


def exit_margins(predictions: pd.DataFrame) -> pd.DataFrame:
    """The margin of every exit, by its softmax, as text; marked with a cross where the exit is wrong: (N, L)."""
    columns = {}
    for layer in exit_layers(predictions):
        crosses = is_correct(predictions, f"exit{layer}").map({True: "", False: " ×"})
        columns[f"exit {layer}"] = predictions[f"exit{layer}_margin"].map("{:.2f}".format) + crosses
    return pd.DataFrame(columns, predictions.index)


def told(rows: pd.DataFrame, examples: pd.DataFrame, text: tuple[str, ...], labels: list[str]) -> pd.DataFrame:
    """Rows as a reader wants them: group, text and the label in words; (N, len(text) + 2).

    Args:
        rows: id, label and group.
        examples: the data they are of, with their id and the columns of `text`.
        labels: the labels' names.
    """
    texts = examples.set_index("id").loc[rows["id"], list(text)].set_axis(rows.index)
    return rows[["group"]].join(texts).assign(label=rows["label"].map(dict(enumerate(labels))))


def in_short(predictions: pd.DataFrame, group: str, who: str) -> Words:
    """How many of a group a student has wrong, and by which margin at most."""
    wrong = wrong_margins(predictions[predictions["group"].astype(str) == group])
    if wrong.empty:
        return Words(f"No row is of {group}.")
    if wrong.notna().any():
        said = f"{who} is wrong about {wrong.notna().sum()} of the {len(wrong)} of {group}"
        return Words(f"{said}, by a margin of {wrong.max():.2f} at most and {wrong.median():.2f} in the median.")
    return Words(f"{who} is right about all {len(wrong)} of {group}.")


def moves(predictions: pd.DataFrame) -> pd.Series:
    """How far Laplace moves the margin of the last exit, whichever way (N,)."""
    plain, laplace = _last(predictions)
    return (predictions[laplace] - predictions[plain]).abs()


def before_and_after(predictions: pd.DataFrame) -> pd.DataFrame:
    """The margin of the last exit by its softmax and by its Laplace predictive, two digits (N, 2)."""
    return predictions[_last(predictions)].set_axis(["MAP", "Laplace"], axis=1).map("{:.2f}".format)


def _last(predictions: pd.DataFrame) -> list[str]:
    """The columns of the last exit's margins, MAP and Laplace."""
    layer = max(exit_layers(predictions))
    return [f"exit{layer}_margin", f"exit{layer}_laplace_margin"]
