"""Figures of a run: data frames in, a drawing with its alt text out.

Every function takes frames as a run leaves them on disk and returns a `Figure`, which a notebook shows as a PNG
with an alt text. The rows of a predictions table count by their `importance`, so that "all examples" means the
population and not a split that was balanced by group. Margins are confidence margins, the top minus the second
probability (Tiwari et al. 2023). A frame that lacks a column is a ValueError that names it.
"""

import re

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from fairkd.evaluation.tables import class_probabilities, is_correct
from fairkd.figures.drawing import HATCHES, Figure, box, canvas, legend, palette, quantiles, require, styles

_VARIANTS = {"MAP": "exit{}", "Laplace": "exit{}_laplace"}


def margins_by_layer(predictions: pd.DataFrame) -> Figure:
    """Confidence margins of the exit at every layer, MAP beside Laplace: all examples, the right, the wrong ones.

    Args:
        predictions: a predictions table with `exit{l}` and `exit{l}_laplace` for l = 1..L.

    Boxes hold the middle half, the line is the median, whiskers reach from the 5th to the 95th percentile. Right
    and wrong is by the same exit's own prediction.
    """
    layers = _layers(predictions)
    drawing, axes = canvas(1, 3, height=3.6, sharey=True)
    medians = []
    looks = zip(_VARIANTS.items(), (-0.19, 0.19), palette(2)[::-1], HATCHES, strict=True)
    for (name, model), shift, color, hatch in looks:
        right = [_right(predictions, model.format(layer)) for layer in layers]
        panels = {"All examples": [r | ~r for r in right], "Right": right, "Wrong": [~r for r in right]}
        for (panel, chosen), ax in zip(panels.items(), axes.flat, strict=True):
            margins = zip(chosen, [f"{model.format(layer)}_margin" for layer in layers], strict=True)
            boxes = [box(predictions[rows], column) for rows, column in margins]
            ax.bxp(
                boxes,
                positions=[layer + shift for layer in layers],
                widths=0.34,
                showfliers=False,
                patch_artist=True,
                label=name,
                boxprops={"facecolor": (*color, 0.55), "hatch": hatch, "edgecolor": "black"},
                medianprops={"color": "black", "linewidth": 2},
                manage_ticks=False,
            )
            ax.set(title=panel, xlabel="exit at layer", xticks=layers)
            medians.append(f"{panel.lower()}, {name}: " + ", ".join(f"{box['med']:.2f}" for box in boxes))
    axes.flat[0].set(ylabel="confidence margin", ylim=(-0.02, 1.02))
    legend(drawing, axes.flat[0], above=True)
    alt = f"Box plots, the medians in the order of layers {layers[0]} to {layers[-1]}: {'; '.join(medians)}."
    return Figure(drawing, "Confidence margins per layer", alt)


def worst_group_margins(predictions: pd.DataFrame, layer: int) -> Figure:
    """Margins of the exit at one layer: the student's worst group against all examples, MAP and Laplace.

    Args:
        predictions: a predictions table with `student`, `exit{layer}` and `exit{layer}_laplace`.
        layer: the layer that the exit reads, counted from 1.

    The worst group is the one where the student is least accurate.
    """
    group = _right(predictions, "student").groupby(predictions["group"].astype(str)).mean().idxmin()
    worst = predictions[predictions["group"] == group]
    series = {f"all {len(predictions)} examples": predictions, f"the {len(worst)} of {group}": worst}
    panels = {}
    for name, model in _VARIANTS.items():
        panels[name] = {who: (rows, f"{model.format(layer)}_margin") for who, rows in series.items()}
    return _histograms(panels, f"Margins of the worst group against all examples, exit at layer {layer}")


def wrong_margins(predictions: pd.DataFrame) -> Figure:
    """Margins of student and teacher where the student was wrong, and where the teacher was.

    Args:
        predictions: a predictions table with `student` and `teacher`.
    """
    panels = {}
    for model in ("student", "teacher"):
        rows = predictions[~_right(predictions, model)]
        title = f"Where the {model} was wrong ({len(rows)} examples)"
        panels[title] = {who: (rows, f"{who}_margin") for who in ("student", "teacher")}
    return _histograms(panels, "Margins of student and teacher on wrong predictions")


def training_curves(history: pd.DataFrame, groups: list[str]) -> Figure:
    """Accuracy per group and on average after every epoch, a panel for each role in the history.

    Args:
        history: columns epoch, metric, value, role; of the metrics, "average" and the groups are drawn.
        groups: names of the groups, in the order of the legend; one that never occurs is left out.
    """
    require(history, "history", ["epoch", "metric", "value", "role"])
    roles = list(history["role"].unique())
    drawing, axes = canvas(1, len(roles), height=3.8, sharey=True)
    ends = []
    for role, ax in zip(roles, axes.flat, strict=True):
        rows = history[history["role"] == role].pivot_table(index="epoch", columns="metric", values="value")
        for name, style in styles(groups).items():
            if name in rows:
                ax.plot(rows.index, rows[name], label=name, **style)
        if "average" in rows:
            ax.plot(rows.index, rows["average"], label="average", color="black", linewidth=3)
        ax.set(title=role, xlabel="epoch", ylim=(-0.02, 1.02))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        shown = [name for name in ("average", *groups) if name in rows]
        ends.append(f"{role}: " + ", ".join(f"{name} {rows[name].dropna().iloc[-1]:.2f}" for name in shown))
    axes.flat[0].set(ylabel="accuracy")
    legend(drawing, axes.flat[0])
    return Figure(drawing, "Accuracy per group over epochs", f"After the last epoch, {'; '.join(ends)}.")


def weights_over_epochs(weights: pd.DataFrame, groups: list[str]) -> Figure:
    """Mean weight per group after every re-weighting with its 95 % interval, and the share that is up-weighted.

    Args:
        weights: columns epoch, group, weight, one row an example and epoch; up-weighted is a weight above 1.
        groups: names of the groups, in the order of the legend; one that never occurs is left out.
    """
    require(weights, "weights", ["epoch", "group", "weight"])
    drawing, axes = canvas(1, 2, height=3.8)
    by_group = weights.groupby([weights["group"].astype(str), "epoch"])
    mean, lifted = by_group["weight"].mean(), by_group["weight"].apply(lambda weight: (weight > 1).mean())
    interval = 1.96 * by_group["weight"].sem(ddof=0)
    present = [name for name in groups if name in mean.index]
    for name, style in ((name, styles(groups)[name]) for name in present):
        epochs = mean[name].index
        axes.flat[0].errorbar(epochs, mean[name], yerr=interval[name], capsize=3, label=name, **style)
        axes.flat[1].plot(epochs, lifted[name], **style)
    ticks = sorted(weights["epoch"].unique())
    axes.flat[0].set(title="Mean weight", xlabel="epoch", ylabel="weight", xticks=ticks)
    axes.flat[1].set(title="Share up-weighted", xlabel="epoch", ylim=(-0.02, 1.02), xticks=ticks)
    legend(drawing, axes.flat[0])
    last = ", ".join(f"{name} {mean[name].iloc[-1]:.2f}" for name in present)
    return Figure(drawing, "Weights by group over epochs", f"Mean weight after the last epoch: {last}.")


def reliability(predictions: pd.DataFrame, bins: int = 10) -> Figure:
    """Accuracy against confidence of the exit at every layer, MAP and Laplace: the diagonal is calibrated.

    Args:
        predictions: a predictions table with `exit{l}` and `exit{l}_laplace` for l = 1..L.
        bins: of equal width, on the confidence (the top probability); a bin without examples is left out.
    """
    layers = _layers(predictions)
    rows = -(-len(layers) // 3)
    drawing, axes = canvas(rows, 3, height=2.9 * rows, sharex=True, sharey=True)
    gaps = []
    for layer, ax in zip(layers, axes.flat, strict=False):
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for (name, model), style in zip(_VARIANTS.items(), styles(list(_VARIANTS)).values(), strict=True):
            confidence = class_probabilities(predictions, model.format(layer)).max(axis=1)
            right = _right(predictions, model.format(layer)).rename("right")
            table = pd.concat([right, predictions["importance"]], axis=1).assign(confidence=confidence)
            bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
            points = table.groupby(bin_of).apply(_weighted_means, include_groups=False)
            ax.plot(points["confidence"], points["right"], label=name, **style)
            whole = _weighted_means(table)
            gaps.append(f"layer {layer} {name} {whole['confidence'] - whole['right']:+.2f}")
        ax.set(title=f"exit at layer {layer}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    for ax in axes.flat[len(layers) :]:
        ax.remove()
    drawing.supxlabel("confidence")
    drawing.supylabel("accuracy")
    legend(drawing, axes.flat[0], above=True)
    alt = f"Mean confidence minus accuracy, positive where overconfident: {', '.join(gaps)}."
    return Figure(drawing, "Calibration per exit", alt)


def group_accuracies(table: pd.DataFrame) -> Figure:
    """Accuracy with its interval, a line of the figure for each row and a marker for each student.

    Args:
        table: columns student, row, value, low, high; students and rows are drawn in the order they come in, a
            value that is absent (NaN) is left out.
    """
    require(table, "the table of accuracies", ["student", "row", "value", "low", "high"])
    rows, students = list(table["row"].unique()), list(table["student"].unique())
    drawing, axes = canvas(1, 1, height=0.9 + len(rows) * (0.22 + 0.13 * len(students)))
    ax = axes.flat[0]
    offsets = np.linspace(-0.3, 0.3, len(students)) if len(students) > 1 else [0.0]
    for (student, style), offset in zip(styles(students, line=False).items(), offsets, strict=True):
        own = table[table["student"] == student]
        reach = [own["value"] - own["low"], own["high"] - own["value"]]
        places = [rows.index(row) + offset for row in own["row"]]
        ax.errorbar(own["value"], places, xerr=reach, capsize=2, label=student, **style)
    ax.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5), xlabel="accuracy")
    legend(drawing, ax)
    said = []
    for row, own in table.dropna(subset="value").groupby("row", sort=False):
        said.append(f"{row}: " + ", ".join(own["student"] + own["value"].map(" {:.2f}".format)))
    return Figure(drawing, "Accuracy by group and student", f"{'; '.join(said)}.")


def _histograms(panels: dict[str, dict[str, tuple[pd.DataFrame, str]]], title: str) -> Figure:
    """A panel for each entry, in it the distribution of a margin column over rows, for each of two series."""
    drawing, axes = canvas(1, len(panels), height=3.6, sharey=True)
    bins = np.linspace(0, 1, 21)
    medians = []
    for (panel, series), ax in zip(panels.items(), axes.flat, strict=True):
        looks = zip(series.items(), palette(2)[::-1], HATCHES, ("-", "--"), strict=True)
        for (name, (rows, column)), color, hatch, dash in looks:
            require(rows, "predictions", [column, "importance"])
            share = rows["importance"] / rows["importance"].sum()
            look = {"facecolor": "none" if hatch else (*color, 0.45), "edgecolor": color, "hatch": hatch}
            ax.hist(rows[column], bins=bins, weights=share, histtype="stepfilled", label=name, **look)
            if len(rows):
                median = quantiles(rows[column], rows["importance"], [0.5])[0]
                ax.axvline(median, color=color, linestyle=dash, linewidth=2.5)
                medians.append(f"{panel}, {name} {median:.2f}")
        ax.set(title=panel, xlabel="confidence margin", xlim=(-0.01, 1.01))
    axes.flat[0].set(ylabel="share of the examples")
    legend(drawing, axes.flat[0], above=True)
    return Figure(drawing, title, f"Histograms with their medians as lines. Medians: {'; '.join(medians)}.")


def _layers(predictions: pd.DataFrame) -> list[int]:
    """The layers that have an exit, MAP and Laplace."""
    layers = sorted(int(m[1]) for column in predictions if (m := re.fullmatch(r"exit(\d+)_margin", str(column))))
    require(predictions, "predictions", [f"exit{layer}_laplace_margin" for layer in layers or [1]])
    return layers


def _right(predictions: pd.DataFrame, model: str) -> pd.Series:
    """Whether the model's most probable class is the label, per row."""
    require(predictions, "predictions", ["label", "group", "importance", f"{model}_prob_0", f"{model}_margin"])
    return is_correct(predictions, model)


def _weighted_means(table: pd.DataFrame) -> pd.Series:
    """Mean confidence and accuracy, by importance."""
    return pd.Series({name: np.average(table[name], weights=table["importance"]) for name in ("confidence", "right")})
