"""Figures of a study: averages against worst groups, and what the posterior does to margins and weights."""

import numpy as np
import pandas as pd
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from fairkd.figures.drawing import Figure, canvas, legend, require, styles


def average_against_worst_group(report: pd.DataFrame) -> Figure:
    """A point for each student, average accuracy across and worst group up, with both intervals.

    Args:
        report: columns student, row, value, low, high, as `evaluation.compare` has it; rows "average" and
            "worst_of_means", the group that is worst on average over the seeds.
    """
    require(report, "the report", ["student", "row", "value", "low", "high"])
    drawing, axes = canvas(1, 1, height=4.6)
    ax = axes.flat[0]
    said = []
    for student, style in styles(list(report["student"].unique()), line=False).items():
        rows = report[report["student"] == student].set_index("row")
        x, y = rows.loc["average"], rows.loc["worst_of_means"]
        reach = {f"{axis}err": [[p["value"] - p["low"]], [p["high"] - p["value"]]] for axis, p in (("x", x), ("y", y))}
        ax.errorbar(x["value"], y["value"], capsize=3, markersize=8, label=student, **reach, **style)
        said.append(f"{student} {x['value']:.3f} and {y['value']:.3f}")
    ax.set(xlabel="average accuracy", ylabel="accuracy of the worst group")
    legend(drawing, ax)
    return Figure(drawing, "Average against worst group", f"Average and worst group: {'; '.join(said)}.")


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
            {"measured": "logit_variance", "T d_eff / N": "expected", "bound T (C-1)(D+1) / N": "bound"},
        ),
    )
    for ax, (name, series) in zip(axes.flat, panels, strict=True):
        for (label, column), style in zip(series.items(), styles(list(series)).values(), strict=True):
            ax.plot(mean.index, mean[column], label=label, **style)
            ax.fill_between(mean.index, low[column], high[column], color=style["color"], alpha=0.15, linewidth=0)
        ax.set(title=name, xlabel="likelihood temperature T", xscale="log", yscale="log")
        ax.legend(frameon=False, loc="upper left")
    first, last = mean.iloc[0], mean.iloc[-1]
    alt = (
        f"From T = {mean.index[0]:.0f} to {mean.index[-1]:.0f} the mean shift of a margin grows from "
        f"{first['margin_shift']:.4f} to {last['margin_shift']:.4f}, that of a weight from {first['weight_shift']:.4f} "
        f"to {last['weight_shift']:.4f}, the mean variance of the logits from {first['logit_variance']:.4f} to "
        f"{last['logit_variance']:.2f}; its bound at T = 1 is {first['bound']:.4f}."
    )
    return Figure(drawing, "What the likelihood temperature does", alt)


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
        axis.set_major_locator(MaxNLocator(5))
    axes.flat[1].set(xscale="log", yscale="log")
    for axis in (axes.flat[1].xaxis, axes.flat[1].yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    apart = np.abs(shifts[0] - shifts[1]).mean()
    alt = (
        f"Correlation of the shifts {np.corrcoef(*shifts)[0, 1]:.3f}, of the log variances "
        f"{np.corrcoef(*(np.log(v) for v in variances))[0, 1]:.3f}; the margins differ by {apart:.5f} on average."
    )
    return Figure(drawing, "Kronecker against dense posterior", alt)
