"""Which epoch of a run to believe, by one rule or another."""

from collections.abc import Iterable

import pandas as pd

from fairkd.evaluation import compare, group_accuracy
from fairkd.experiment import title
from fairkd.runs import Run

# By what the epoch of a run is chosen: nothing, or the validation split without and with its group labels.
SELECTIONS = {"last epoch": None, "validation average": "average", "validation worst group": "worst_group"}


def chosen_epoch(epochs: pd.DataFrame, selection: str, attribute: str = "negation") -> int:
    """The epoch that one of `SELECTIONS` would keep; of equals the one of better average, then the earliest.

    Args:
        epochs: the table "epochs" of a student's run.

    Raises:
        ValueError: an unknown selection, or one that needs validation rows where there are none.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"selection is {selection!r}; choose one of {', '.join(SELECTIONS)}")
    row = SELECTIONS[selection]
    if row is None:
        return int(epochs["epoch"].max())
    validation = epochs[epochs["split"] == "validation"]
    if validation.empty:
        raise ValueError(f"selection {selection!r} needs validation rows: set validation_examples above 0")
    scores = {}
    for epoch, rows in validation.groupby("epoch", sort=True):
        accuracy = group_accuracy(rows, attribute=attribute)
        scores[epoch] = (accuracy[row], accuracy["average"])
    return int(max(scores, key=scores.get))


def predictions_at(run: Run, selection: str, attribute: str = "negation") -> pd.DataFrame:
    """The evaluation rows' predictions of a student at the epoch that one of `SELECTIONS` would keep."""
    epochs = run.table("epochs")
    epoch = chosen_epoch(epochs, selection, attribute)
    return epochs[(epochs["epoch"] == epoch) & (epochs["split"] == "evaluation")].reset_index(drop=True)


def selection_report(found: dict[str, dict[int, Run]], rules: Iterable[str], attribute: str) -> pd.DataFrame:
    """What students are worth at the epochs that each rule would keep: student, selection, row, value, low, high."""
    parts = []
    for rule in rules:
        tables = {
            title(spec): {seed: predictions_at(run, rule, attribute) for seed, run in of_seed.items()}
            for spec, of_seed in found.items()
        }
        report = compare(tables, [], attribute=attribute).report
        report.insert(1, "selection", rule)
        parts.append(report)
    return pd.concat(parts, ignore_index=True)
