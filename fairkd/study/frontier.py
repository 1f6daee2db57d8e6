"""Refits at several settings each: what a reader, a shape, a probability can reach; read by `settings`.

Of a method whose weights sharpen with a number that number is set, so that the points make a frontier of average
against worst group; of another the precision of the refitted layer's prior. Each has the same number of settings.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from torch import Tensor

from fairkd import files, runs
from fairkd.data import load
from fairkd.experiment import Experiment, read_student
from fairkd.parameters import ParameterError
from fairkd.runs import Run
from fairkd.training import models
from fairkd.training.arithmetic import arithmetic
from fairkd.training.refit import Finished, exit_logits, given_weights, refitted_head
from fairkd.training.student import student_name, train_student
from fairkd.weighting import METHODS, ByEarlyModel, Lifted
from fairkd.weighting.dedier import MarginWeighted
from fairkd.weighting.method import Method, ReadsExit

log = logging.getLogger("fairkd")

# The settings of the first of these that a method has; 0, or a factor of 1, is every row alike.
SHARPNESS = {
    "beta": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
    "gamma": (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0),
    "jtt_factor": (1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0),
}
SETTINGS = SHARPNESS | {"head_prior_precision": (0.01, 0.1, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0)}


def frontier(experiment: Experiment, students: list[str], seeds: list[int]) -> dict[str, dict[int, pd.DataFrame]]:
    """{student: {seed: predictions at every setting}}: refits of plain students, all settings of a kind tried.

    A plain student is trained if there is none yet; what follows takes seconds a point.

    Args:
        students: entries such as "laplace@6,exit_reads=hypothesis" or "dfr"; place=refit is meant.
        seeds: of the plain students.

    Returns:
        Of each the columns `parameter`, the name in `SETTINGS`, and `setting`, its value, beside those of predictions;
        of a method with an exit also `exit_right`, whether that is right of a validation row.

    Raises:
        ParameterError: see `refit_students`.
    """
    return {
        spec: {seed: _swept(one.vary(seed=seed)).table("frontier") for seed in seeds}
        for spec, one in refit_students(experiment, students).items()
    }


def refit_students(experiment: Experiment, students: Iterable[str]) -> dict[str, Experiment]:
    """The experiments of `frontier`, by its students.

    Raises:
        ParameterError: a student that is no refit, or is refitted on the validation rows that choose its setting.
    """
    asked = {}
    for spec in students:
        if not issubclass(METHODS[read_student(spec)["method"]], Lifted):
            raise ParameterError(
                f"refits, {spec!r}: has no weights that a refit could use; choose dedier, dfr, refit, ..."
            )
        asked[spec] = experiment.student(f"{spec},place=refit")
        if asked[spec].weighting.refits_on_validation:
            raise ParameterError(
                f"refits, {spec!r}: is refitted on the validation rows that choose its setting; add refit_on=training"
            )
    return asked


def _varied(method: Method) -> str:
    """The parameter of a refit that its settings are of, a name in `SETTINGS`."""
    read = type(method).model_fields.keys()
    if getattr(method, "shape", "") in ("inverse", "complement"):
        read -= {"beta"}
    return next(name for name in SETTINGS if name in read)


def _swept(experiment: Experiment) -> Run:
    """The run of one student and seed: its predictions at every setting, evaluation and validation rows."""
    name = _varied(experiment.weighting)

    def compute(folder: Path) -> None:
        splits = load(experiment)
        student = Finished(experiment, splits, train_student(experiment.base(), splits=splits))
        log.info("refits of %s, %s by %s", student.run.folder.name, experiment.method, name)
        weights_at, parts = _weights(experiment, student, name), []
        for setting in SETTINGS[name]:
            one = experiment.vary(**{name: setting})
            exit = refitted_head(one, student, "train", one.weighting.applied(weights_at(setting), one.seed))
            parts.append(student.asked(exit).assign(parameter=name, setting=setting))
        table = pd.concat(parts, ignore_index=True)
        if isinstance(experiment.weighting, ReadsExit) and len(splits.validation):
            right = table["id"].map(_exit_right(experiment, student))
            table["exit_right"] = right.where(table["split"] == "validation").astype("boolean")
        files.write_table(folder / "frontier.parquet", table)

    # Named without the value, which the settings take the place of.
    parameters = {"student": student_name(experiment.vary(**{name: SETTINGS[name][-1]})), name: list(SETTINGS[name])}
    with models.quiet(), arithmetic(experiment):
        return runs.make("frontier", runs.identity(parameters, __name__), compute)


def _exit_right(experiment: Experiment, student: Finished) -> pd.Series:
    """Whether the method's exit, fitted on the training rows, is right of each validation row, by id."""
    right = exit_logits(experiment, student, "validation").argmax(-1) == student.labels("validation")
    return pd.Series(right.numpy(), index=student.splits.validation["id"])


def _weights(experiment: Experiment, student: Finished, name: str) -> Callable[[float], Tensor]:
    """Setting -> (N,) weights as the method gives them; what is the same at all settings is computed once."""
    method = experiment.weighting
    early = train_student(experiment.early(), splits=student.splits) if isinstance(method, ByEarlyModel) else None

    def given(**changes: float) -> Tensor:
        return given_weights(experiment.vary(**changes), student, early, "train")

    if name == "head_prior_precision":
        weights = given()
        return lambda _: weights
    if name == "jtt_factor":
        errors = given(jtt_factor=2.0) - 1
        return lambda factor: 1 + (factor - 1) * errors
    if name == "beta" and isinstance(method, MarginWeighted):
        once = given(beta=1.0)
        linear = getattr(method, "shape", "") == "linear"
        return lambda beta: 1 + beta * (once - 1) if linear else once**beta
    return lambda setting: given(**{name: setting})
