"""Figures of early answers: accuracy against mean depth, and which group's answers come early."""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from fairkd.figures.drawing import Figure, Words, canvas, folded, legend, name_ends, require, styles

_COLUMNS = ["student", "criterion", "target", "of", "row", "value", "low", "high"]


def accuracy_by_depth(report: pd.DataFrame, rows: list[str]) -> Figure:
    """Accuracy against mean depth: a line for each criterion, a panel for each student and row.

    Args:
        report: as `evaluation.early.early_answers` has it; bands are its intervals.
        rows: of the report, such as "average" and the group that plain distillation loses.
    """
    require(report, "the report", _COLUMNS)
    students, criteria = list(report["student"].unique()), list(report["criterion"].unique())
    looks = styles(criteria)
    drawing, axes = canvas(len(students), len(rows), height=0.9 + 2.3 * len(students), sharex=True, sharey="col")
    alt = []
    for line, student in zip(axes, students, strict=True):
        for ax, row in zip(line, rows, strict=True):
            for name in criteria:
                accuracy = _series(report, student, name, row)
                x = _series(report, student, name, "average", "depth")["value"]
                ax.plot(x, accuracy["value"], label=name, **looks[name] | {"markersize": 5})
                ax.fill_between(
                    x, accuracy["low"], accuracy["high"], color=looks[name]["color"], alpha=0.12, linewidth=0
                )
                each = ", ".join(f"{a:.3f} at {d:.2f}" for d, a in zip(x, accuracy["value"], strict=True))
                alt.append(f"{student}, {row}, {name}: {each}")
            ax.set_title(folded(f"{student}: {row}", 56 // len(rows)), fontsize=11)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        line[0].set(ylabel="accuracy")
    for ax in axes[-1]:
        ax.set(xlabel="mean depth")
    legend(drawing, axes.flat[0])
    said = "; ".join(_apart(report, student, rows[-1]) for student in students)
    caption = Words(f"Where the criteria lie farthest apart in {rows[-1]}, by mean depth: {said}.")
    drawn = report.loc[report["row"].isin([*rows, "average"]), _COLUMNS]
    return Figure(drawing, "Accuracy against mean depth", caption, f"{'; '.join(alt)}.", drawn)


def depth_by_group(report: pd.DataFrame, criterion: str, groups: list[str], target: str | None = None) -> Figure:
    """Each group's mean depth against that of all, a panel for each student; on the diagonal a group pays as all do.

    Args:
        report: as `evaluation.early.early_answers` has it.
        criterion: one of the report.
        groups: rows of the report.
        target: the group to show among them.
    """
    require(report, "the report", _COLUMNS)
    students = list(report["student"].unique())
    looks = styles(groups, target=target)
    drawing, axes = canvas(len(students), 1, height=0.6 + 3.4 * len(students), sharex=True)
    said, alt = [], []
    for ax, student in zip(axes.flat, students, strict=True):
        x = _series(report, student, criterion, "average", "depth")["value"]
        middle = (len(x) - 1) // 2
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        of_group = {group: _series(report, student, criterion, group, "depth")["value"] for group in groups}
        for group, y in of_group.items():
            ax.plot(x, y, **looks[group] | {"markersize": 5})
            alt.append(f"{student}, {group}: " + ", ".join(f"{b:.2f} at {a:.2f}" for a, b in zip(x, y, strict=True)))
        ax.set(title=folded(student), ylabel="mean depth of the group", xlim=(0, 1.02), ylim=(0, 1.03))
        there = pd.Series({group: y.iloc[middle] for group, y in of_group.items()})
        name_ends(ax, {group: (x.iloc[middle], y) for group, y in there.items()}, looks)
        said.append(
            f"{student}: from {there.min():.2f} ({there.idxmin()}) to {there.max():.2f} ({there.idxmax()}) where "
            f"the average is {x.iloc[middle]:.2f}"
        )
    axes.flat[-1].set(xlabel="mean depth on average")
    caption = Words(f"Mean depth by {criterion}, {'; '.join(said)}.")
    depths = report[(report["criterion"] == criterion) & (report["of"] == "depth")]
    drawn = depths.loc[depths["row"].isin([*groups, "average"]), _COLUMNS]
    return Figure(drawing, "Who pays for an early answer", caption, f"By {criterion}. {'; '.join(alt)}.", drawn)


def _series(report: pd.DataFrame, student: str, criterion: str, row: str, of: str = "accuracy") -> pd.DataFrame:
    """A student's row by one criterion, in the order of the depths."""
    picked = report[(report["student"] == student) & (report["criterion"] == criterion)]
    return picked[(picked["row"] == row) & (picked["of"] == of)].sort_values("target").reset_index(drop=True)


def _apart(report: pd.DataFrame, student: str, row: str) -> str:
    """The depth asked for at which the criteria differ most in a row, and the two between which."""
    rows = report[(report["student"] == student) & (report["row"] == row) & (report["of"] == "accuracy")]
    wide = rows.pivot_table(index="target", columns="criterion", values="value", sort=False)
    at = wide.max(axis=1).sub(wide.min(axis=1)).idxmax()
    best, least = wide.loc[at].idxmax(), wide.loc[at].idxmin()
    if best == least:
        return f"{student}, nowhere"
    return f"{student}, at {at:g}, {wide.loc[at, least]:.3f} ({least}) and {wide.loc[at, best]:.3f} ({best})"
