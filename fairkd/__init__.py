"""Distil with early exits, Laplace confidence margins and per-group evaluation.

experiment = Experiment.from_file("params/demo.yaml")
student = distil(experiment)
group_report(student.table("predictions"))
"""

from fairkd.data import DATASETS, DataError, Entry, has_negation, load
from fairkd.dedier import confidence_margin, distillation_loss, instance_weights
from fairkd.evaluation import group_accuracy, group_report, paired_difference, readable
from fairkd.exits import LinearExit
from fairkd.experiment import Experiment, ParameterError
from fairkd.laplace import KroneckerLaplace
from fairkd.methods import METHODS, Method, title
from fairkd.runs import MissingRunError
from fairkd.training import check, distil, fine_tune, student_run, teacher_run

__all__ = [
    "DATASETS",
    "METHODS",
    "DataError",
    "Entry",
    "Experiment",
    "KroneckerLaplace",
    "LinearExit",
    "Method",
    "MissingRunError",
    "ParameterError",
    "check",
    "confidence_margin",
    "distil",
    "distillation_loss",
    "fine_tune",
    "group_accuracy",
    "group_report",
    "has_negation",
    "instance_weights",
    "load",
    "paired_difference",
    "readable",
    "student_run",
    "teacher_run",
    "title",
]
