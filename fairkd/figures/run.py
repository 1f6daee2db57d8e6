"""Figures of runs: how a training went, whom its weights lifted, how right and how calibrated its models are.

Every function takes frames as a run leaves them on disk and returns a `Figure`, which a notebook shows as a PNG with an
alt text. Calibration weighs rows by their `importance`, as the calibration error of a report does: it speaks of the
population and not of a split that was balanced by group. A frame that lacks a column is a ValueError that names it.
"""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from fairkd.evaluation.tables import class_probabilities
from fairkd.figures.drawing import (
    VARIANTS,
    Figure,
    Words,
    canvas,
    folded,
    layers_of,
    legend,
    name_ends,
    require,
    right_of,
    styles,
    wrapped,
)


def training_curves(history: pd.DataFrame, groups: list[str], target: str | None = None) -> Figure:
    """Accuracy per group and on average after every epoch, a panel for each role in the history.

    Args:
        history: columns epoch, metric, value, role; of the metrics, "average" and the groups are drawn.
        groups: names of the groups; one that never occurs is left out.
        target: the group to show among them.
    """
    require(history, "history", ["epoch", "metric", "value", "role"])
    roles = list(history["role"].unique())
    drawing, axes = canvas(1, len(roles), height=max(3.8, 1.2 + 0.45 * len(groups)), sharey=True)
    said, alt = [], []
    for role, ax in zip(roles, axes.flat, strict=True):
        rows = history[history["role"] == role].pivot_table(index="epoch", columns="metric", values="value")
        shown = [name for name in groups if name in rows]
        looks = styles(groups, target=target) | {"average": {"color": "black", "linewidth": 2, "linestyle": "-"}}
        for name in (*shown, *({"average"} & set(rows))):
            ax.plot(rows.index, rows[name], label=name, **looks[name])
        ax.set(title=folded(role, 50 // len(roles)), xlabel="epoch", ylim=(-0.03, 1.03))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        last = rows.ffill().iloc[-1]
        lowest = last[shown].idxmin()
        said.append(f"{role}: lowest in {lowest}, {last[lowest]:.2f}, on average {last.get('average', np.nan):.2f}")
        alt.append(f"{role}: " + ", ".join(f"{name} {last[name]:.2f}" for name in ("average", *shown) if name in last))
    name_ends(axes.flat[-1], {name: (rows.index[-1], last[name]) for name in shown}, looks)
    axes.flat[0].set(ylabel="accuracy")
    caption = Words(f"After the last epoch: {'; '.join(said)} (black).")
    drawn = history.loc[history["metric"].isin(["average", *groups]), ["role", "epoch", "metric", "value"]]
    alt = f"After the last epoch, {'; '.join(alt)}."
    return Figure(drawing, "Accuracy per group over epochs", caption, alt, drawn)


def weights_over_epochs(weights: pd.DataFrame, groups: list[str], target: str | None = None) -> Figure:
    """Mean weight by group each time weights were set, and each group's share of the total weight.

    Args:
        weights: columns epoch, group, weight, one row an example and epoch; the weight is what acted.
        groups: names of the groups; one that never occurs is left out.
        target: the group to show among them.
    """
    require(weights, "weights", ["epoch", "group", "weight"])
    table = weights.astype({"group": str}).pivot_table(
        index="epoch", columns="group", values="weight", aggfunc=["mean", "sum"]
    )
    mean, share = table["mean"], table["sum"].div(table["sum"].sum(axis=1), axis=0)
    looks = {name: look for name, look in styles(groups, target=target).items() if name in mean}
    drawing, axes = canvas(1, 2, height=max(3.8, 1.2 + 0.45 * len(looks)))
    for ax, table in zip(axes.flat, (mean, share), strict=True):
        for name, look in looks.items():
            ax.plot(table.index, table[name], label=name, **look)
        ax.set(xlabel="epoch", xticks=table.index)
    axes.flat[0].axhline(1, color="black", linewidth=1)
    axes.flat[0].set(title="Mean weight", ylim=(0, None))
    axes.flat[1].set(title="Share of the weight", ylim=(0, 1))
    name_ends(axes.flat[1], {name: (share.index[-1], share[name].iloc[-1]) for name in looks}, looks)
    last, of_all = mean.iloc[-1], share.iloc[-1]
    heaviest, largest = last.idxmax(), of_all.idxmax()
    caption = f"After epoch {share.index[-1]:g} an instance of {heaviest} weighs most, {last[heaviest]:.2f} on average"
    caption += f"; {of_all[largest]:.0%} of all weight sits in {largest}"
    beside = target in of_all and target != largest
    caption += f", {of_all[target]:.0%} in {target} (mean {last[target]:.2f})." if beside else "."
    alt = ", ".join(f"{name} {last[name]:.2f} and {of_all[name]:.1%}" for name in looks)
    columns = {"mean_weight": mean, "share": share}
    drawn = pd.DataFrame({of: pd.concat(dict(t.items()), names=["group"]) for of, t in columns.items()}).reset_index()
    return Figure(drawing, "Weights by group", Words(caption), f"Mean and share after the last epoch: {alt}.", drawn)


def reliability(predictions: pd.DataFrame, bins: int = 10) -> Figure:
    """Accuracy against confidence of the exit at every layer, MAP and Laplace: the diagonal is calibrated.

    Args:
        predictions: a predictions table with `exit{l}` and `exit{l}_laplace` for l = 1..L.
        bins: of equal width, on the confidence (the top probability); a point's area grows with its bin's rows.
    """
    layers = layers_of(predictions)
    rows = -(-len(layers) // 3)
    drawing, axes = canvas(rows, 3, height=0.8 + 2.1 * rows, sharex=True, sharey=True)
    gaps, drawn = {}, {}
    for layer, ax in zip(layers, axes.flat, strict=False):
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for (name, model), style in zip(VARIANTS.items(), styles(list(VARIANTS)).values(), strict=True):
            confidence = class_probabilities(predictions, model.format(layer)).max(axis=1)
            right = right_of(predictions, model.format(layer)).rename("right")
            table = pd.concat([right, predictions["importance"]], axis=1).assign(confidence=confidence)
            bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
            points = table.groupby(bin_of).apply(_weighted_means, include_groups=False)
            drawn[layer, name] = points.reset_index(drop=True)
            look = {"color": style["color"], "marker": style["marker"], "alpha": 0.7, "linewidths": 0}
            ax.scatter(points["confidence"], points["right"], s=points["n"] / len(table) * 150 + 6, label=name, **look)
            whole = _weighted_means(table)
            gaps[f"layer {layer} {name}"] = whole["confidence"] - whole["right"]
        ax.set(title=f"exit {layer}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    for ax in axes.flat[len(layers) :]:
        ax.remove()
    drawing.supxlabel("confidence", fontsize=12)
    drawing.supylabel("accuracy", fontsize=12)
    legend(drawing, axes.flat[0])
    widest = max(gaps, key=lambda name: abs(gaps[name]))
    caption = f"Mean confidence minus accuracy, rows weighted to the population, is farthest from 0 at {widest}: "
    listed = ", ".join(f"{name} {gap:+.2f}" for name, gap in gaps.items())
    alt = f"Mean confidence minus accuracy, positive where overconfident: {listed}."
    table = pd.concat(drawn, names=["layer", "posterior", None]).reset_index(["layer", "posterior"])
    return Figure(drawing, "Calibration per exit", Words(f"{caption}{gaps[widest]:+.2f}."), alt, table)


def group_accuracies(table: pd.DataFrame, target: str | None = None) -> Figure:
    """Accuracy with its interval, a line of the figure for each row and a marker for each student.

    Args:
        table: columns student, row, value, low, high; students and rows are drawn in the order they come in, a
            value that is absent (NaN) is left out.
        target: the row that the caption is about; the lowest of the last student's where none is given.
    """
    require(table, "the table of accuracies", ["student", "row", "value", "low", "high"])
    rows, students = list(table["row"].unique()), list(table["student"].unique())
    drawing, axes = canvas(1, 1, height=1.0 + len(rows) * (0.2 + 0.15 * len(students)))
    ax = axes.flat[0]
    offsets = np.linspace(-0.32, 0.32, len(students)) if len(students) > 1 else [0.0]
    for (student, style), offset in zip(styles(students, line=False).items(), offsets, strict=True):
        own = table[table["student"] == student]
        reach = [own["value"] - own["low"], own["high"] - own["value"]]
        places = [rows.index(row) + offset for row in own["row"]]
        ax.errorbar(own["value"], places, xerr=reach, elinewidth=1.2, label=student, **style)
    ax.set(yticks=range(len(rows)), yticklabels=map(wrapped, rows), xlabel="accuracy")
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=(None, 1.02))
    ax.hlines(np.arange(len(rows) - 1) + 0.5, *ax.get_xlim(), color="0.8", linewidth=0.8)
    ax.grid(axis="y", visible=False)
    legend(drawing, ax)
    said = {row: _of_students(own) for row, own in table.dropna(subset="value").groupby("row", sort=False)}
    if target is None:
        target = (
            table[(table["student"] == students[-1]) & (table["row"] != "average")].set_index("row")["value"].idxmin()
        )
    average = f" On average: {said['average']}." if "average" in said else ""
    caption = Words(f"Accuracy in {target}: {said[target]}.{average}")
    alt = "; ".join(f"{row}: {text}" for row, text in said.items())
    return Figure(drawing, "Accuracy by group", caption, f"{alt}.", table[["student", "row", "value", "low", "high"]])


def _of_students(rows: pd.DataFrame) -> str:
    """The values of one row, student by student."""
    return ", ".join(rows["student"] + rows["value"].map(" {:.3f}".format))


def _weighted_means(table: pd.DataFrame) -> pd.Series:
    """Mean confidence and accuracy, by importance, and the number of rows."""
    means = {name: np.average(table[name], weights=table["importance"]) for name in ("confidence", "right")}
    return pd.Series(means | {"n": len(table)})
