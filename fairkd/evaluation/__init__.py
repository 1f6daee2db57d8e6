"""What predictions are worth: the predictions table, the report by group, intervals over seeds and rows.

Data frames and arrays in, data frames out. No torch, no models, no files, no runs.
"""

from fairkd.evaluation.coverage import coverage
from fairkd.evaluation.groups import group_accuracy, lost_group, target_groups
from fairkd.evaluation.intervals import holm
from fairkd.evaluation.report import group_report, paired_difference, readable
from fairkd.evaluation.seeds import Comparison, compare
from fairkd.evaluation.selection import SELECTIONS, chosen, evaluated_at
from fairkd.evaluation.tables import class_probabilities, is_correct, margins, predictions_table

__all__ = [
    "SELECTIONS",
    "Comparison",
    "chosen",
    "class_probabilities",
    "compare",
    "coverage",
    "evaluated_at",
    "group_accuracy",
    "group_report",
    "holm",
    "is_correct",
    "lost_group",
    "margins",
    "paired_difference",
    "predictions_table",
    "readable",
    "target_groups",
]
