"""Students at the epochs that one rule or another would keep."""

from collections.abc import Iterable

import pandas as pd

from fairkd.evaluation import chosen, compare, evaluated_at
from fairkd.experiment import title
from fairkd.runs import Run


def predictions_at(run: Run, selection: str) -> pd.DataFrame:
    """The evaluation rows' predictions of a student at the epoch that one of `SELECTIONS` would keep."""
    epochs = run.table("epochs")
    return evaluated_at(epochs, "epoch", chosen(epochs, selection))


def selection_report(found: dict[str, dict[int, Run]], rules: Iterable[str]) -> pd.DataFrame:
    """What students are worth at the epochs that each rule would keep: student, selection, row, value, low, high."""
    parts = []
    for rule in rules:
        tables = {
            title(spec): {seed: predictions_at(run, rule) for seed, run in of_seed.items()}
            for spec, of_seed in found.items()
        }
        report = compare(tables, []).report
        report.insert(1, "selection", rule)
        parts.append(report)
    return pd.concat(parts, ignore_index=True)
