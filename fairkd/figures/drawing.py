"""What the figures share: the image with its alt text, the theme, the marks of a series, weighted quantiles.

Readable in grey: the palette rises in lightness (viridis, safe for colour-blind readers), and series differ in
marker, dash or hatch too.
"""

import base64
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

HATCHES = ["", "////"]

_STYLE = sns.axes_style("whitegrid", {"grid.color": "0.9", "axes.edgecolor": "0.6"})
_THEME = _STYLE | sns.plotting_context("notebook", 0.9, {"grid.linewidth": 0.7, "hatch.linewidth": 0.8})
_MARKERS = "osD^vPX*"
_DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 3))]
_WIDTH = 9.0  # inches; a page shows 96 pixels to the inch


@dataclass(frozen=True)
class Figure:
    """A drawing, its title and its alt text; a notebook shows it as an image that carries the alt text."""

    drawing: Drawing
    title: str
    alt: str

    def png(self) -> bytes:
        """The image; the same drawing gives the same bytes."""
        buffer = io.BytesIO()
        with matplotlib.rc_context(_THEME):
            self.drawing.savefig(buffer, format="png", dpi=192, metadata={"Software": None})
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        # The plain text is the title alone: the alt text has numbers, which differ from processor to processor.
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": f"Figure: {self.title}"}
        width = round(96 * self.drawing.get_figwidth())
        return data, {"image/png": {"alt": f"{self.title}. {self.alt}", "width": width}}


def canvas(rows: int, columns: int, height: float, **shared: bool) -> tuple[Drawing, np.ndarray]:
    """A drawing in the theme and its (rows, columns) axes; no pyplot, hence no state between figures."""
    with matplotlib.rc_context(_THEME):
        drawing = Drawing(figsize=(_WIDTH, height), layout="constrained")
        axes = drawing.subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat:
        sns.despine(ax=ax)
    return drawing, axes


def palette(count: int) -> list[tuple[float, float, float]]:
    """Colours from dark to light, short of the palest."""
    return sns.color_palette("viridis", count + 1)[:count]


def styles(names: list[str], line: bool = True) -> dict[str, dict]:
    """How each series is drawn: its own lightness, marker and dash."""
    return {
        name: {
            "color": color,
            "marker": _MARKERS[i % len(_MARKERS)],
            "linestyle": _DASHES[i % len(_DASHES)] if line else "none",
        }
        for i, (name, color) in enumerate(zip(names, palette(len(names)), strict=True))
    }


def legend(drawing: Drawing, ax: Axes, above: bool = False) -> None:
    """One legend for the whole drawing, from the series of one of its axes: right of it, or above in one line."""
    handles, labels = ax.get_legend_handles_labels()
    where = {"loc": "outside upper center", "ncols": len(labels)} if above else {"loc": "outside right upper"}
    drawing.legend(handles, labels, frameon=False, **where)


def require(frame: pd.DataFrame, what: str, columns: list[str]) -> None:
    """ValueError naming the columns that a frame lacks and those it has."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"{what} lacks the columns {', '.join(missing)}; it has: {', '.join(map(str, frame))}")


def quantiles(values: pd.Series, weights: pd.Series, at: list[float]) -> np.ndarray:
    """Quantiles of a weighted sample: the smallest value with at least that share of the weight at or below it."""
    return np.quantile(values, at, weights=weights, method="inverted_cdf")


def box(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """What one box of a box plot shows; nothing where there are no rows."""
    names = ["whislo", "q1", "med", "q3", "whishi"]
    if rows.empty:
        return dict.fromkeys(names, np.nan)
    return dict(zip(names, quantiles(rows[column], rows["importance"], [0.05, 0.25, 0.5, 0.75, 0.95]), strict=True))
