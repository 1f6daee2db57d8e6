"""What the figures share: the image with its caption and alt text, the theme, the marks of a series, direct labels.

Readable in grey: the palette rises in lightness (viridis, safe for colour-blind readers), series differ in marker or
dash too, and the one group that a figure is about has a thick line. Readable on a phone: a drawing is 6 inches wide and
its letters as large as a page's, so that 350 pixels show them at 60 %.
"""

import base64
import io
import re
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from scipy.optimize import isotonic_regression

from fairkd.evaluation.tables import exit_layers, is_correct

TARGET = "#b2182b"  # the group that a figure is about
VARIANTS = {"MAP": "exit{}", "Laplace": "exit{}_laplace"}  # what a predictions table calls an exit at a layer
FEW = 30  # values; fewer are drawn one by one

_STYLE = sns.axes_style("whitegrid", {"grid.color": "0.9", "axes.edgecolor": "0.6"})
_THEME = _STYLE | sns.plotting_context("notebook", 1.0, {"grid.linewidth": 0.7, "lines.markersize": 6})
_MARKERS = "osD^vPX*<>dph8"
_DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 3))]
_WIDTH = 6.0  # inches; a page shows 96 pixels to the inch
_LINE = 64  # letters that fit across, of 11 points
# From the middle of a name's left edge: clipped by its box, a steep one would begin at the name below.
_LEADER = {"arrowstyle": "-", "linewidth": 0.8, "shrinkA": 2, "shrinkB": 4, "relpos": (0, 0.5), "patchA": None}


class Words(str):
    """Sentences computed from the data, such as a figure's caption; a notebook shows them as text.

    Names of labels and groups are the data's own: what would be a tag, a formula or an image in Markdown is spelt out.
    """

    def _repr_markdown_(self) -> str:
        return re.sub(r"[<&$]|(?<=\])\(", lambda found: f"&#{ord(found[0])};", self)


@dataclass(frozen=True)
class Figure:
    """A drawing, its title, what it shows in words, its numbers for who does not see it, and the table that was drawn.

    A notebook shows the image, which carries the alt text, and by `display(figure, figure.caption)` the caption too;
    the vector drawing and the table, as CSV, travel with it for the page that offers them.
    """

    drawing: Drawing
    title: str
    caption: Words
    alt: str
    table: pd.DataFrame

    def png(self) -> bytes:
        """The image; the same drawing gives the same bytes."""
        return self._saved(format="png", metadata={"Software": None})

    def svg(self) -> str:
        """The same as a vector drawing, its letters as text; the same drawing gives the same string."""
        return self._saved(format="svg", metadata={"Date": None, "Creator": None}).decode()

    def csv(self) -> str:
        """The numbers drawn."""
        return self.table.to_csv(index=False, float_format="%.6g", lineterminator="\n")

    def _saved(self, **options) -> bytes:
        buffer = io.BytesIO()
        with matplotlib.rc_context(_THEME | {"svg.fonttype": "none", "svg.hashsalt": self.title}):
            self.drawing.savefig(buffer, dpi=192, **options)
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        # The plain text is the title alone: alt text and caption have numbers, which differ from machine to machine.
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": f"Figure: {self.title}"}
        width = round(96 * self.drawing.get_figwidth())
        described = {"alt": f"{self.title}. {self.alt}", "caption": self.caption, "width": width}
        return data, {"image/png": described | {"title": self.title, "svg": self.svg(), "csv": self.csv()}}


def canvas(rows: int, columns: int, height: float, **shared: bool | str) -> tuple[Drawing, np.ndarray]:
    """A drawing in the theme and its (rows, columns) axes; no pyplot, hence no state between figures."""
    with matplotlib.rc_context(_THEME):
        drawing = Drawing(figsize=(_WIDTH, height), layout="constrained")
        axes = drawing.subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat:
        sns.despine(ax=ax)
    return drawing, axes


def styles(names: list[str], line: bool = True, target: str | None = None) -> dict[str, dict]:
    """How each series is drawn: its own lightness, marker and dash; the target's thick and red."""
    n = len(names)
    colors = sns.color_palette("viridis", n + max(1, n // 2))[:n]  # from dark to light, short of the pale third
    looks = {
        name: {
            "color": color,
            "marker": _MARKERS[i % len(_MARKERS)],
            "linestyle": _DASHES[i % len(_DASHES)] if line else "none",
        }
        for i, (name, color) in enumerate(zip(names, colors, strict=True))
    }
    if target in looks:
        looks[target] |= {"color": TARGET, "linestyle": "-", "linewidth": 3, "zorder": 3}
    return looks


def legend(drawing: Drawing, ax: Axes, columns: int = 3) -> None:
    """One legend for the whole drawing above it, from the series of one of its axes; long names take fewer columns."""
    handles, labels = ax.get_legend_handles_labels()
    while columns > 1 and _letters_across(labels, columns) > _LINE:
        columns -= 1
    labels = [folded(label, _LINE - 5) for label in labels]
    drawing.legend(handles, labels, frameon=False, loc="outside upper left", ncols=columns, columnspacing=1.2)


def _letters_across(labels: list[str], columns: int) -> int:
    """The width of a legend that is filled column by column, in letters; a marker takes five."""
    filled = [part for part in np.array_split(labels, columns) if len(part)]
    return sum(max(map(len, part)) + 5 for part in filled)


def name_ends(ax: Axes, ends: dict[str, tuple[float, float]], looks: dict[str, dict]) -> None:
    """Write each series' name right of the axes, as near to its end (x, y) as the other names allow.

    Call it when the limits stand. The least squared way to places one line apart is an isotonic regression.
    """
    names = sorted(ends, key=lambda name: ends[name][1])
    low, high = ax.get_ylim()
    inches = ax.figure.get_figheight() / ax.get_subplotspec().get_gridspec().nrows - 1.0
    lines = np.array([n_lines(name) for name in names])
    between = (lines[1:] + lines[:-1]) / 2 * 0.19  # a line of text is .19 inches high
    steps = np.append(0, np.cumsum(between)) / inches * (high - low)
    wanted = np.array([ends[name][1] for name in names]) - steps
    free = isotonic_regression(wanted).x
    places = np.clip(free, low, max(low, high - steps[-1])) + steps
    for name, place in zip(names, places, strict=True):
        color = looks[name]["color"]
        ax.annotate(
            wrapped(name),
            ends[name],
            (1.08, place),
            textcoords=ax.get_yaxis_transform(),
            va="center",
            fontsize=11,
            fontweight="bold" if color == TARGET else "normal",
            annotation_clip=False,
            arrowprops=_LEADER | {"color": color},
        )


def folded(name: str, width: int = 48) -> str:
    """A name in as few lines as `width` letters allow, broken after commas; what has none stays whole."""
    lines = [""]
    for part in re.split(r"(?<=,)", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return "\n".join(lines)


def wrapped(name: str) -> str:
    """A group's or student's name in lines of its parts."""
    return folded(name, 1).replace(" (", "\n(")


def n_lines(name: str) -> int:
    """How many lines a name takes beside the axes."""
    return 1 + wrapped(name).count("\n")


def long(tables: dict, keys: list[str], value: str) -> pd.DataFrame:
    """{key or tuple of keys: series} as one table: the keys, the series' own index, the value."""
    return pd.concat(tables, names=keys).rename(value).reset_index()


def histogram(ax: Axes, values: pd.Series, bins: np.ndarray, label: str, color: str, filled: bool) -> None:
    """How many values are in each bin; fewer than `FEW` as a point each."""
    if len(values) < FEW:
        style = {"marker": "o" if filled else "x", "color": color, "linestyle": "none"}
        ax.plot(values, np.full(len(values), 0.06), transform=ax.get_xaxis_transform(), label=label, **style)
    elif filled:
        ax.hist(values, bins=bins, histtype="stepfilled", label=label, facecolor=color, alpha=0.55)
    else:
        ax.hist(values, bins=bins, histtype="step", label=label, edgecolor=color, linewidth=1.8)


def require(frame: pd.DataFrame, what: str, columns: list[str]) -> None:
    """ValueError naming the columns that a frame lacks and those it has."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"{what} lacks the columns {', '.join(missing)}; it has: {', '.join(map(str, frame))}")


def layers_of(predictions: pd.DataFrame) -> list[int]:
    """The layers that have an exit, MAP and Laplace."""
    layers = exit_layers(predictions)
    require(predictions, "predictions", [f"exit{layer}_laplace_margin" for layer in layers or [1]])
    return layers


def right_of(predictions: pd.DataFrame, model: str) -> pd.Series:
    """Whether the model's most probable class is the label, per row."""
    require(predictions, "predictions", ["label", "group", "importance", f"{model}_prob_0", f"{model}_margin"])
    return is_correct(predictions, model)
