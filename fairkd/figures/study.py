"""Figures of a study: every student and seed, averages against worst groups, and what the posterior does."""

import numpy as np
import pandas as pd
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from fairkd.figures.drawing import Figure, Words, canvas, folded, n_lines, name_ends, require, styles, wrapped


def students_by_seed(report: pd.DataFrame, single: pd.DataFrame, rows: list[str]) -> Figure:
    """A line for each student, a panel for each row: a dot for every seed, the mean over seeds and its interval.

    Args:
        report: columns student, row, value, low, high, as `evaluation.compare` has it.
        single: columns student, seed, row, value: each run by itself; a student that has none shows its mean alone.
        rows: of the report, such as target groups and "average".
    """
    require(report, "the report", ["student", "row", "value", "low", "high"])
    require(single, "the runs", ["student", "seed", "row", "value"])
    students = list(report["student"].unique())
    names = {student: folded(student, 60) for student in students}
    line = 0.62 + 0.19 * max(name.count("\n") for name in names.values())  # inches that a student takes
    drawing, axes = canvas(1, len(rows), height=1.2 + line * len(students), sharey=True)
    said, alt = [], []
    for ax, row in zip(axes.flat, rows, strict=True):
        means = report[report["row"] == row].set_index("student")
        for place, student in enumerate(students):
            mean = means.loc[student]
            ax.plot([mean["low"], mean["high"]], [place] * 2, color="0.6", linewidth=4, solid_capstyle="butt")
            ax.plot(mean["value"], place, marker="|", markersize=11, markeredgewidth=2.5, color="black")
            seeds = single[(single["student"] == student) & (single["row"] == row)]["value"]
            ax.plot(seeds, [place + 0.167 / line] * len(seeds), "o", color="#31688e", alpha=0.7)
            if ax is axes.flat[0]:
                above = {"va": "bottom", "fontsize": 11, "in_layout": False}  # it may be as wide as the drawing
                ax.text(0, place - 0.136 / line, names[student], transform=ax.get_yaxis_transform(), **above)
            ax.text(1.03, place, f"{mean['value']:.3f}", transform=ax.get_yaxis_transform(), va="center", fontsize=11)
            each = ", ".join(f"{value:.2f}" for value in seeds)
            alt.append(f"{row}, {student} {mean['value']:.3f}" + (f" (seeds: {each})" if each else ""))
        ax.set(title=wrapped(row), xlabel="accuracy")
        ax.xaxis.set_major_locator(MaxNLocator(3))
        means = means.loc[[student for student in students if student in set(single["student"])]]
        lowest, highest = means["value"].idxmin(), means["value"].idxmax()
        ends = [f"{means['value'][student]:.3f} ({student})" for student in (lowest, highest)]
        said.append(f"{row}: " + (ends[0] if lowest == highest else "from {} to {}".format(*ends)))
    axes.flat[0].set(yticks=range(len(students)), yticklabels=[], ylim=(len(students) - 0.5, -0.7))
    axes.flat[0].set(zorder=1)  # names may reach over the next panel
    axes.flat[0].patch.set_visible(False)
    spread = single[single["row"] == rows[0]].groupby("student", sort=False)["value"].agg(lambda v: v.max() - v.min())
    n = single["seed"].nunique()
    if n > 1:
        said.append(f"the {n} seeds of {spread.idxmax()} lie {spread.max():.2f} apart in {rows[0]}")
    caption = Words(f"Means over {n} seed{'s' * (n > 1)} with their intervals, a dot a seed. {'; '.join(said)}.")
    shown = [table[table["row"].isin(rows)] for table in (report, single)]
    table = pd.concat(shown)[["student", "row", "seed", "value", "low", "high"]]  # seed: none is the mean over seeds
    return Figure(drawing, "Every student and seed", caption, f"{'; '.join(alt)}.", table)


def average_against_worst_group(report: pd.DataFrame) -> Figure:
    """A point for each student, average accuracy across and worst group up, with both intervals.

    Args:
        report: columns student, row, value, low, high, as `evaluation.compare` has it; rows "average" and
            "worst_of_means", the group that is worst on average over the seeds.
    """
    require(report, "the report", ["student", "row", "value", "low", "high"])
    students = list(report["student"].unique())
    drawing, axes = canvas(1, 1, height=max(4.0, 1.4 + 0.2 * sum(map(n_lines, students))))
    ax = axes.flat[0]
    looks, points = styles(students, line=False), {}
    for student, look in looks.items():
        rows = report[report["student"] == student].set_index("row")
        x, y = rows.loc["average"], rows.loc["worst_of_means"]
        reach = {f"{axis}err": [[p["value"] - p["low"]], [p["high"] - p["value"]]] for axis, p in (("x", x), ("y", y))}
        bars = {"elinewidth": 1, "ecolor": (*look["color"], 0.35), "markersize": 9, "zorder": 3}
        ax.errorbar(x["value"], y["value"], label=student, **reach, **bars, **look)
        points[student] = (x["value"], y["value"])
    ax.set(xlabel="average accuracy", ylabel="accuracy of the worst group")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    name_ends(ax, points, looks)
    averages, worsts = (pd.Series({student: point[i] for student, point in points.items()}) for i in (0, 1))
    caption = Words(
        f"The averages lie between {averages.min():.3f} and {averages.max():.3f}, the worst groups between "
        f"{worsts.min():.3f} ({worsts.idxmin()}) and {worsts.max():.3f} ({worsts.idxmax()})."
    )
    said = "; ".join(f"{student} {x:.3f} and {y:.3f}" for student, (x, y) in points.items())
    table = report.loc[report["row"].isin(["average", "worst_of_means"]), ["student", "row", "value", "low", "high"]]
    return Figure(drawing, "Average against worst group", caption, f"Average and worst group: {said}.", table)


def shifts_by_temperature(sweep: pd.DataFrame) -> Figure:
    """How far Laplace moves margins and weights, and the logits' variance under its bound, by likelihood temperature.

    Args:
        sweep: as `study.temperature_sweep` has it, several seeds one below the other; lines are means over them, bands
            reach from the least to the largest.
    """
    require(sweep, "the sweep", ["likelihood_temperature", "margin_shift", "weight_shift", "logit_variance", "bound"])
    drawing, axes = canvas(1, 2, height=3.8)
    of_temperature = sweep.select_dtypes("number").groupby("likelihood_temperature")
    low, mean, high = (of_temperature.agg(how) for how in ("min", "mean", "max"))
    panels = (
        ("Shift away from MAP", {"margin": "margin_shift", "weight, relative": "weight_shift"}),
        (
            "Mean variance of the logits",
            {"measured": "logit_variance", "T d_eff / N": "expected", "bound": "bound"},
        ),
    )
    for ax, (name, series) in zip(axes.flat, panels, strict=True):
        for (label, column), style in zip(series.items(), styles(list(series)).values(), strict=True):
            ax.plot(mean.index, mean[column], label=label, **style)
            ax.fill_between(mean.index, low[column], high[column], color=style["color"], alpha=0.15, linewidth=0)
        ax.set(title=name, xlabel="likelihood temperature T", xscale="log", yscale="log")
        ax.legend(frameon=False, loc="lower right", fontsize=10)
    first, last = mean.iloc[0], mean.iloc[-1]
    alt = (
        f"From T = {mean.index[0]:.0f} to {mean.index[-1]:.0f} the mean shift of a margin grows from "
        f"{first['margin_shift']:.4f} to {last['margin_shift']:.4f}, that of a weight from {first['weight_shift']:.4f} "
        f"to {last['weight_shift']:.4f}, the mean variance of the logits from {first['logit_variance']:.4f} to "
        f"{last['logit_variance']:.2f}; its bound at T = 1 is {first['bound']:.4f}."
    )
    caption = Words(
        f"At T = {mean.index[0]:.0f} Laplace moves a margin by {first['margin_shift']:.4f} and a weight by "
        f"{first['weight_shift']:.2%} on average, at T = {mean.index[-1]:.0f} by {last['margin_shift']:.4f} and "
        f"{last['weight_shift']:.2%}."
    )
    return Figure(drawing, "What the likelihood temperature does", caption, alt, mean.reset_index())


def agreement(table: pd.DataFrame) -> Figure:
    """The Kronecker posterior against the dense one, a point for each instance: shift of the margin, variance.

    Args:
        table: as `study.posterior_agreement` has it.
    """
    columns = [f"{kind}_{what}" for kind in ("kronecker", "dense") for what in ("margin", "variance")]
    require(table, "the agreement", ["map_margin", *columns])
    drawing, axes = canvas(1, 2, height=4.2)
    shifts = [table[f"{kind}_margin"] - table["map_margin"] for kind in ("dense", "kronecker")]
    variances = [table[f"{kind}_variance"] for kind in ("dense", "kronecker")]
    for ax, (x, y), what in zip(
        axes.flat, (shifts, variances), ("shift of the margin", "contrast variance"), strict=True
    ):
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        ax.plot(ends, ends, color="0.6", linewidth=1)
        ax.scatter(x, y, s=6, color="black", alpha=0.25, linewidths=0, rasterized=True)
        ax.set(title=what, xlabel="dense posterior", ylabel="Kronecker posterior")
    for axis in (axes.flat[0].xaxis, axes.flat[0].yaxis):
        axis.set_major_locator(MaxNLocator(3))
    axes.flat[1].set(xscale="log", yscale="log")
    for axis in (axes.flat[1].xaxis, axes.flat[1].yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    apart = np.abs(shifts[0] - shifts[1]).mean()
    related = np.corrcoef(*shifts)[0, 1]
    caption = Words(
        f"The margins that the two give differ by {apart:.5f} on average over {len(table)} rows; their shifts away "
        f"from MAP correlate at {related:.3f}."
    )
    alt = (
        f"Correlation of the shifts {related:.3f}, of the log variances "
        f"{np.corrcoef(*(np.log(v) for v in variances))[0, 1]:.3f}; the margins differ by {apart:.5f} on average."
    )
    return Figure(drawing, "Kronecker against dense posterior", caption, alt, table[["map_margin", *columns]])
