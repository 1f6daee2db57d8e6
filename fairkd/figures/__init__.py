"""Drawings: data frames in, a `Figure` with its alt text out.

Here live the figures of a run, the figures of a study, and the one way that they are drawn in. Never a model, a file,
a run's folder or a result computed anew: what a figure shows is in the frame it is given.
"""

from fairkd.figures.drawing import Figure
from fairkd.figures.frontier import frontier
from fairkd.figures.run import (
    group_accuracies,
    margins_by_layer,
    reliability,
    training_curves,
    weights_over_epochs,
    worst_group_margins,
    wrong_margins,
)
from fairkd.figures.study import agreement, average_against_worst_group, shifts_by_temperature

__all__ = [
    "Figure",
    "agreement",
    "average_against_worst_group",
    "frontier",
    "group_accuracies",
    "margins_by_layer",
    "reliability",
    "shifts_by_temperature",
    "training_curves",
    "weights_over_epochs",
    "worst_group_margins",
    "wrong_margins",
]
