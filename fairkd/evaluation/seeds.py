"""Students side by side, each trained with the same seeds and asked the same examples."""

from dataclasses import dataclass

import pandas as pd

from fairkd.evaluation.intervals import holm
from fairkd.evaluation.scores import Scores


@dataclass(frozen=True)
class Comparison:
    """What several students are worth, and what they differ by.

    Attributes:
        report: columns student, row, value, low, high, seeds; rows as in `group_report`, but for the worst group, which
            over seeds is `worst_of_means` (lowest of the groups' means) and `mean_of_worsts`; the gap is average minus
            the latter.
        differences: columns student, baseline, row, value, low, high, p, p_holm: student minus baseline, paired in
            seeds and in rows. p is of "no difference" and fits the interval; it serves the row and the student named
            beforehand. p_holm is corrected for all differences of the table (Holm 1979) and serves who looks for the
            best; `holm` corrects another family.
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
    attribute: str | None = None,
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Set students side by side, each trained with the same seeds.

    Args:
        tables: {student: {training seed: predictions table}}.
        baselines: the students that the others are compared with, one by one; those absent are left out.
        attribute: the column whose levels get a row each; None: the table's own (`attribute_of`).
        n_boot: bootstrap resamples, for ece and nll.
        seed: of the bootstrap.

    Raises:
        ValueError: students with different seeds, or tables that do not hold the same examples.
    """
    first = next(iter(tables.values()))
    seeds, ids = sorted(first), next(iter(first.values()))["id"].sort_values(ignore_index=True)
    scores = {}
    for student, of_seed in tables.items():
        if sorted(of_seed) != seeds:
            raise ValueError(f"{student} has seeds {sorted(of_seed)}, the others {seeds}: run the same seeds of each")
        ordered = {number: of_seed[number].sort_values("id", ignore_index=True) for number in seeds}
        for number, table in ordered.items():
            if not table["id"].equals(ids):
                raise ValueError(f"{student}, seed {number}: other examples than those of the first table")
        scores[student] = Scores.of(list(ordered.values()), model, attribute, n_boot, seed)
    report, differences, single = [], [], []
    for student, ours in scores.items():
        report.append(_long(ours.report(confidence).assign(seeds=len(seeds)), student=student))
        for baseline in [name for name in baselines if name in scores and name != student]:
            apart = ours.minus(scores[baseline], confidence)
            differences.append(_long(apart, student=student, baseline=baseline))
        runs = ours.runs.drop(index="worst_of_means").rename(index={"mean_of_worsts": "worst_group"})
        single += [_long(runs[[s]].set_axis(["value"], axis=1), student=student, seed=n) for s, n in enumerate(seeds)]
    together = pd.concat(differences, ignore_index=True) if differences else _EMPTY
    return Comparison(
        report=pd.concat(report, ignore_index=True),
        differences=together.assign(p_holm=holm(together["p"].to_numpy(float))),
        single=pd.concat(single, ignore_index=True),
    )


_EMPTY = pd.DataFrame(columns=["student", "baseline", "row", "value", "low", "high", "p"])


def _long(report: pd.DataFrame, **who: str | int) -> pd.DataFrame:
    frame = report.rename_axis("row").reset_index()
    for place, (name, value) in enumerate(who.items()):
        frame.insert(place, name, value)
    return frame
