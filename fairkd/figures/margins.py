"""Figures of confidence margins: whether an exit is wrong and sure of itself, and about which group.

A margin is the top minus the second probability (Tiwari et al. 2023). The rows of a predictions table count alike here:
a group's rows stand for the group, and counts are of rows. `target` is the group that plain distillation loses
(`evaluation.lost_group`), one group for every student of a comparison.
"""

import numpy as np
import pandas as pd

from fairkd.figures.drawing import (
    FEW,
    TARGET,
    VARIANTS,
    Figure,
    Words,
    canvas,
    folded,
    histogram,
    layers_of,
    legend,
    long,
    name_ends,
    require,
    right_of,
    styles,
)

_BINS = np.linspace(0, 1, 21)


def median_margins(predictions: pd.DataFrame, target: str) -> Figure:
    """Median margin of the exit at every layer, a line for each group; filled where most of the group is wrong.

    Args:
        predictions: a predictions table with `exit{l}` and `exit{l}_laplace` for l = 1..L.
        target: the group to show among the others.
    """
    layers = layers_of(predictions)
    group = predictions["group"].astype(str)
    looks = styles([target, *sorted(set(group) - {target})], target=target)
    drawing, axes = canvas(1, 2, height=max(3.8, 1.2 + 0.45 * len(looks)), sharey=True)
    medians, right = {}, {}
    for (name, model), ax in zip(VARIANTS.items(), axes.flat, strict=True):
        margins = {layer: predictions[f"{model.format(layer)}_margin"] for layer in layers}
        medians[name] = pd.DataFrame(margins).groupby(group).median().T  # (L, groups)
        right[name] = (
            pd.DataFrame({la: right_of(predictions, model.format(la)) for la in layers}).groupby(group).mean().T
        )
        for of_group, look in looks.items():
            line, wrong = medians[name][of_group], right[name][of_group] < 0.5
            ax.plot(line.index, line, **look | {"linestyle": "-", "markerfacecolor": "white"})
            ax.plot(line.index[wrong], line[wrong], **look | {"linestyle": "none", "zorder": 4})
        ax.set(title=name, xlabel="exit at layer", xticks=layers, ylim=(-0.03, 1.03))
    axes.flat[0].set(ylabel="median margin")
    name_ends(axes.flat[1], {name: (layers[-1], medians["Laplace"][name].iloc[-1]) for name in looks}, looks)
    listed = [f"{v}, {g} " + ", ".join(f"{m:.2f}" for m in medians[v][g]) for v in VARIANTS for g in looks]
    alt = f"Medians in the order of layers {layers[0]} to {layers[-1]}: {'; '.join(listed)}."
    n = int((group == target).sum())
    said = f"{_wrong_and_sure(medians['MAP'], right['MAP'], target, n)} {_moved(medians, target)}"
    caption = Words(f"{said} Filled: most of the group is wrong.")
    drawn = {"median_margin": medians, "accuracy": right}
    keys = ["posterior", "group", "layer"]
    columns = {of: pd.concat({(v, g): t[v][g] for v in VARIANTS for g in looks}, names=keys) for of, t in drawn.items()}
    table = pd.DataFrame(columns).reset_index()
    return Figure(drawing, "Median margin by layer and group", caption, alt, table)


def _wrong_and_sure(medians: pd.DataFrame, right: pd.DataFrame, target: str, n: int) -> str:
    """The exit that is surest of the target group where it is mostly wrong about it, in words."""
    wrong = right[target] < 0.5
    if not wrong.any():
        return f"No exit is wrong about most of {target}."
    layer = medians.loc[wrong, target].idxmax()
    others = medians.loc[layer].drop(target)
    beside = f" (the other groups: {others.min():.2f} to {others.max():.2f})" if len(others) else ""
    return (
        f"The exit at layer {layer} is wrong about {round(n * (1 - right.loc[layer, target]))} of the {n} of {target}, "
        f"with a median margin of {medians.loc[layer, target]:.2f}{beside}."
    )


def _moved(medians: dict[str, pd.DataFrame], target: str) -> str:
    """Where Laplace moves the target group's median most, in words."""
    change = medians["Laplace"] - medians["MAP"]
    layer = change[target].abs().idxmax()
    before, after = (medians[name].loc[layer, target] for name in VARIANTS)
    others = change.loc[layer].drop(target).abs()
    beside = f"; there it moves no other by more than {others.max():.2f}" if len(others) else ""
    return f"Laplace moves that group most at layer {layer}, from {before:.2f} to {after:.2f}{beside}."


def target_margins(tables: dict[str, pd.DataFrame], target: str, layers: list[int]) -> Figure:
    """How many rows have which margin: the target group, MAP and Laplace, within all rows; panels of one scale.

    Args:
        tables: {student: predictions table}, a column of panels each.
        target: the group, the same in every panel.
        layers: of the exits, a line of panels each; the last layer has one in any case.
    """
    layers = sorted({*layers, layers_of(next(iter(tables.values())))[-1]})
    drawing, axes = canvas(len(layers), len(tables), height=1.1 + 2.2 * len(layers), sharex=True, sharey=True)
    said, alt, drawn = [], [], {}
    for line, layer in zip(axes, layers, strict=True):
        for ax, (student, table) in zip(line, tables.items(), strict=True):
            right, group = right_of(table, f"exit{layer}"), table["group"].astype(str) == target
            of_map, of_laplace = (table[f"{model.format(layer)}_margin"] for model in VARIANTS.values())
            histogram(ax, of_map, _BINS, "all, MAP", "0.75", filled=True)
            histogram(ax, of_map[group], _BINS, f"{target}, MAP", TARGET, filled=True)
            histogram(ax, of_laplace[group], _BINS, "the same, Laplace", "black", filled=False)
            drawn |= {
                (student, layer, "all", "MAP"): of_map,
                (student, layer, target, "MAP"): of_map[group],
                (student, layer, target, "Laplace"): of_laplace[group],
            }
            # The square root shows a bar of 20 beside one of 2,000.
            ax.set_yscale("function", functions=(lambda n: np.sqrt(np.maximum(n, 0)), np.square))
            ax.set(
                title=folded(f"{student}, exit {layer}", 50 // len(tables)),
                xlim=(-0.02, 1.02),
                yticks=_round_counts(len(table)),
            )
            medians = f"{of_map[group].median():.2f} (Laplace {of_laplace[group].median():.2f})"
            wrong = f"wrong about {(~right[group]).sum()} of {group.sum()}"
            said.append(f"exit {layer} of {student} {wrong}, median margin {medians}")
            alt.append(f"{student}, exit {layer}: median of all {of_map.median():.2f}, of {target} {medians}")
    drawing.supxlabel("confidence margin", fontsize=12)
    drawing.supylabel("rows (square-root scale)", fontsize=12)
    legend(drawing, axes.flat[0])
    title = f"Margins of {target} within all rows"
    counts = {key: _counts(margins) for key, margins in drawn.items()}
    table = long(counts, ["student", "layer", "group", "posterior"], "rows")
    return Figure(drawing, title, Words(f"In {target}: {'; '.join(said)}."), f"Histograms. {'; '.join(alt)}.", table)


def _counts(margins: pd.Series) -> pd.Series:
    """Rows in each bin of the margin, named by its lower end."""
    return pd.Series(np.histogram(margins, _BINS)[0], pd.Index(_BINS[:-1].round(2), name="margin_from"))


def _round_counts(most: int) -> list[int]:
    """Counts to mark on a square-root scale up to `most`."""
    top = 10 ** int(np.log10(max(most, 1)))
    return [0, *(n for n in (top // 10, top // 4, top, 2 * top, 5 * top) if 0 < n <= most)]


def wrong_margins(predictions: pd.DataFrame) -> Figure:
    """How many rows have which margin of student and teacher, where the student was wrong and where the teacher was.

    Args:
        predictions: a predictions table with `student` and `teacher`.
    """
    drawing, axes = canvas(1, 2, height=3.3)
    said, alt, drawn = [], [], {}
    for ax, model in zip(axes.flat, ("student", "teacher"), strict=True):
        rows = predictions[~right_of(predictions, model)]
        for who, color, filled in (("student", "0.65", True), ("teacher", "black", False)):
            require(rows, "predictions", [f"{who}_margin"])
            histogram(ax, rows[f"{who}_margin"], _BINS, who, color, filled)
        drawn[model] = rows[["id", "group", "student_margin", "teacher_margin"]]
        ax.set(title=f"Where the {model} is wrong\n({len(rows)} rows)", xlabel="confidence margin", xlim=(-0.02, 1.02))
        if len(rows) < FEW:
            ax.set(yticks=[])
        medians = [f"{who}'s median margin {rows[f'{who}_margin'].median():.2f}" for who in ("student", "teacher")]
        said.append(f"The {model} is wrong about {len(rows)} of {len(predictions)} rows")
        said[-1] += f": {', '.join(medians)}." if len(rows) else "."
        groups = rows["group"].astype(str).value_counts()
        alt.append(f"{model} wrong: " + (", ".join(f"{n} of {g}" for g, n in groups.items()) or "no row"))
    axes.flat[0].set(ylabel="rows")
    legend(drawing, axes.flat[0])
    title = "Margins of student and teacher where one is wrong"
    table = pd.concat(drawn, names=["wrong", None]).reset_index("wrong")
    return Figure(drawing, title, Words(" ".join(said)), f"Histograms of counts. {'; '.join(alt)}.", table)


def accuracy_by_layer(tables: dict[str, pd.DataFrame], target: str) -> Figure:
    """Accuracy of the exit at every layer and of the student's own head: in the target group, and in the worst group.

    Args:
        tables: {student: predictions table}, a line each.
        target: the group of the first panel; the worst group is each model's own.
    """
    looks = styles(list(tables))
    drawing, axes = canvas(1, 2, height=3.8, sharey=True)
    values = {student: _accuracies(table, target) for student, table in tables.items()}
    for ax, name in zip(axes.flat, (target, "worst group"), strict=True):
        for student, look in looks.items():
            line = values[student][name]
            ax.plot(range(1, len(line) + 1), line, **look)
        ends = list(range(1, len(line) + 1))
        ax.axvspan(len(line) - 0.5, len(line) + 0.5, color="0.93", linewidth=0)
        ax.set(title=name, xlabel="exit at layer, own head", ylim=(-0.03, 1.03))
        ax.set_xticks(ends, [*map(str, ends[:-1]), "head"])
    axes.flat[0].set(ylabel="accuracy")
    name_ends(axes.flat[1], {s: (len(v), v["worst group"].iloc[-1]) for s, v in values.items()}, looks)
    said, alt = [], []
    for student, table in values.items():
        exits, head = table[target].iloc[:-1], table[target].iloc[-1]
        said.append(f"exit {exits.idxmax()} of {student} {exits.max():.2f}, its own head {head:.2f}")
        alt.append(f"{student} " + ", ".join(f"{value:.2f}" for value in table[target]))
    caption = Words(f"Accuracy in {target}, the best exit against the student's own head: {'; '.join(said)}.")
    drawn = pd.concat(values, names=["student", "layer"]).reset_index()
    title = "Accuracy by layer, exits against the head"
    return Figure(drawing, title, caption, f"In {target}: {'; '.join(alt)}.", drawn)


def _accuracies(table: pd.DataFrame, target: str) -> pd.DataFrame:
    """Accuracy in the target group and in the worst group, a row for each layer's exit and one for the head."""
    models = {layer: f"exit{layer}" for layer in layers_of(table)} | {"head": "student"}
    right = pd.DataFrame({where: right_of(table, model) for where, model in models.items()})
    by_group = right.groupby(table["group"].astype(str)).mean().T
    return pd.DataFrame({target: by_group[target], "worst group": by_group.min(axis=1)})
