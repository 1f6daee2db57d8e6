"""Distil with early exits, Laplace confidence margins and per-group evaluation.

experiment = Experiment.from_file("params/demo.yaml")
student = distil(experiment)
group_report(student.table("predictions"))
"""

import fairkd._warnings  # noqa: F401
import fairkd.demo  # noqa: F401  its corpus is a data set
from fairkd import provenance
from fairkd.data import DATASETS, DataError, Entry, has_negation, load, register_generator, register_rule
from fairkd.evaluation import group_accuracy, group_report, paired_difference, readable
from fairkd.exits import (
    POSTERIORS,
    KroneckerLaplace,
    LaplacePosterior,
    LinearExit,
    Posterior,
    register_posterior,
)
from fairkd.experiment import Experiment
from fairkd.parameters import ParameterError, parameter
from fairkd.runs import MissingRunError, Run, open_run
from fairkd.training import check, distil, evaluate_on, fine_tune, student_run, teacher_run
from fairkd.training.early import early_exit
from fairkd.weighting import (
    METHODS,
    ByExit,
    Method,
    confidence_margin,
    distillation_loss,
    instance_weights,
    register,
)

__all__ = [
    "DATASETS",
    "METHODS",
    "POSTERIORS",
    "ByExit",
    "DataError",
    "Entry",
    "Experiment",
    "KroneckerLaplace",
    "LaplacePosterior",
    "LinearExit",
    "Method",
    "MissingRunError",
    "ParameterError",
    "Posterior",
    "Run",
    "check",
    "confidence_margin",
    "distil",
    "distillation_loss",
    "early_exit",
    "evaluate_on",
    "fine_tune",
    "group_accuracy",
    "group_report",
    "has_negation",
    "instance_weights",
    "load",
    "open_run",
    "paired_difference",
    "parameter",
    "readable",
    "register",
    "register_generator",
    "register_posterior",
    "register_rule",
    "student_run",
    "teacher_run",
]

provenance.remember(__name__)
