"""Students trained with several seeds: their mean, with an interval from seeds x bootstrap within group.

A resample draws the seeds with replacement and, within each group, the evaluation rows; every seed sees the same rows.
The same resamples serve all students, so that the interval of a difference is paired in rows and in seeds. With few
seeds a percentile interval is too narrow: of S seeds it shows sqrt((S - 1) / S) of their spread, 0.82 for 3 and 0.89
for 5; with one seed it is the interval of the evaluation sample alone.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairkd.evaluation import draw_report, resamples, with_interval


@dataclass(frozen=True)
class Comparison:
    """What several students are worth, and what they differ by.

    Attributes:
        report: columns student, row, value, low, high, seeds; rows as in `evaluation.group_report`.
        differences: columns student, baseline, row, value, low, high: student minus baseline.
        single: columns student, seed, row, value: each run by itself.
    """

    report: pd.DataFrame
    differences: pd.DataFrame
    single: pd.DataFrame


def compare(
    tables: dict[str, dict[int, pd.DataFrame]],
    baselines: list[str],
    *,
    model: str = "student",
    attribute: str = "negation",
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Set students side by side, each trained with the same seeds.

    Args:
        tables: {student: {training seed: predictions table}}.
        baselines: the students that the others are compared with, one by one; those absent are left out.
        n_boot: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ValueError: students with different seeds, or tables that do not hold the same examples.
    """
    first = next(iter(tables.values()))
    seeds, reference = sorted(first), next(iter(first.values())).sort_values("id", ignore_index=True)
    rng = np.random.default_rng(seed)
    counts = resamples(reference, n_boot, seed)
    chosen = rng.integers(len(seeds), size=(n_boot, len(seeds)))  # which seeds each resample has
    values, draws = {}, {}
    for student, of_seed in tables.items():
        if sorted(of_seed) != seeds:
            raise ValueError(f"{student} has seeds {sorted(of_seed)}, the others {seeds}: run the same seeds of each")
        parts = []
        for number in seeds:
            table = of_seed[number].sort_values("id", ignore_index=True)
            if not table["id"].equals(reference["id"]):
                raise ValueError(f"{student}, seed {number}: other examples than those of the first table")
            parts.append(draw_report(table, model, counts, attribute))
        values[student] = pd.DataFrame({number: value for number, (value, _) in zip(seeds, parts, strict=True)})
        draws[student] = {
            row: np.take_along_axis(np.stack([drawn[row] for _, drawn in parts], axis=1), chosen, axis=1).mean(1)
            for row in values[student].index
        }
    reports, differences = [], []
    for student in tables:
        report = with_interval(values[student].mean(axis=1), draws[student], confidence)
        reports.append(_long(report.assign(seeds=len(seeds)), student=student))
        for baseline in [name for name in baselines if name in tables and name != student]:
            apart = {row: draws[student][row] - draws[baseline][row] for row in draws[student]}
            mean = values[student].mean(axis=1) - values[baseline].mean(axis=1)
            differences.append(_long(with_interval(mean, apart, confidence), student=student, baseline=baseline))
    single = [
        _long(values[student][number].to_frame("value"), student=student, seed=number)
        for student in tables
        for number in seeds
    ]
    return Comparison(
        *(pd.concat(part, ignore_index=True) if part else _EMPTY for part in (reports, differences, single))
    )


_EMPTY = pd.DataFrame(columns=["student", "baseline", "row", "value", "low", "high"])


def _long(report: pd.DataFrame, **who: str | int) -> pd.DataFrame:
    frame = report.rename_axis("row").reset_index()
    for place, (name, value) in enumerate(who.items()):
        frame.insert(place, name, value)
    return frame
