"""Drawings: data frames in, a `Figure` with its alt text out.

Here live the figures of margins, of runs, of a study, and the one way that they are drawn in. Never a model, a file,
a run's folder or a result computed anew: what a figure shows is in the frame it is given.
"""

from fairkd.figures.drawing import Figure, Words
from fairkd.figures.early import accuracy_by_depth, depth_by_group
from fairkd.figures.frontier import frontier
from fairkd.figures.margins import accuracy_by_layer, median_margins, target_margins, wrong_margins
from fairkd.figures.run import group_accuracies, reliability, training_curves, weights_over_epochs
from fairkd.figures.study import agreement, average_against_worst_group, shifts_by_temperature, students_by_seed
from fairkd.figures.tuning import tuning

__all__ = [
    "Figure",
    "Words",
    "accuracy_by_depth",
    "accuracy_by_layer",
    "agreement",
    "average_against_worst_group",
    "depth_by_group",
    "frontier",
    "group_accuracies",
    "median_margins",
    "reliability",
    "shifts_by_temperature",
    "students_by_seed",
    "target_margins",
    "training_curves",
    "tuning",
    "weights_over_epochs",
    "wrong_margins",
]
