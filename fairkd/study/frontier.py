"""Refits at several settings each: what a reader, a shape, a probability can reach, and what validation rows choose.

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
from fairkd.evaluation import compare
from fairkd.experiment import Experiment, read_student, title
from fairkd.parameters import ParameterError
from fairkd.runs import Run
from fairkd.study.selection import BY_EXIT, SELECTIONS, chosen, evaluated_at
from fairkd.training import models
from fairkd.training.arithmetic import arithmetic
from fairkd.training.refit import Finished, given_weights, refitted_head
from fairkd.training.student import student_name, train_student
from fairkd.weighting import METHODS, Early, Lifted
from fairkd.weighting.method import Method, ReadsExit

log = logging.getLogger("fairkd")

# The settings of the first of these that a method has; 0, or a factor of 1, is every row alike.
SHARPNESS = {
    "beta": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0),
    "gamma": (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0),
    "jtt_factor": (1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0),
}
_PRIOR = "head_prior_precision"
SETTINGS = SHARPNESS | {_PRIOR: (0.01, 0.1, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0)}


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
        if getattr(asked[spec].weighting, "refit_on", "") == "validation":
            raise ParameterError(
                f"refits, {spec!r}: is refitted on the validation rows that choose its setting; add refit_on=training"
            )
    return asked


def varied(method: Method) -> str:
    """The parameter of a refit that its settings are of, a name in `SETTINGS`."""
    without_beta = getattr(method, "shape", "") in ("inverse", "complement")
    names = [name for name in SETTINGS if name in type(method).model_fields and not (name == "beta" and without_beta)]
    return names[0]


def frontier_points(found: dict[str, dict[int, pd.DataFrame]], attribute: str) -> pd.DataFrame:
    """Every student at every setting, over the seeds: student, parameter, setting, row, value, low, high."""
    parts = []
    for spec, of_seed in found.items():
        first = next(iter(of_seed.values()))
        tables = {
            str(setting): {seed: evaluated_at(table, "setting", setting) for seed, table in of_seed.items()}
            for setting in first["setting"].unique()
        }
        report = compare(tables, [], attribute=attribute, n_boot=0).report
        report = report.rename(columns={"student": "setting"}).assign(
            student=spec, parameter=first["parameter"].iloc[0]
        )
        parts.append(report.assign(setting=report["setting"].astype(float)))
    return pd.concat(parts, ignore_index=True)


def frontier_choices(found: dict[str, dict[int, pd.DataFrame]], attribute: str) -> pd.DataFrame:
    """Every student at the setting that each rule keeps of a seed; `BY_EXIT` only of those that have one.

    Returns:
        Columns student, selection, parameter, settings (of the seeds in their order), row, value, low, high.
    """
    parts = []
    for rule in [*(rule for rule in SELECTIONS if rule != "last epoch"), BY_EXIT]:
        judged = {
            spec: of_seed
            for spec, of_seed in found.items()
            if rule != BY_EXIT or all("exit_right" in table for table in of_seed.values())
        }
        if not judged:
            continue
        kept = {
            spec: {seed: chosen(table, rule, attribute, "setting") for seed, table in of_seed.items()}
            for spec, of_seed in judged.items()
        }
        tables = {
            title(spec): {seed: evaluated_at(table, "setting", kept[spec][seed]) for seed, table in of_seed.items()}
            for spec, of_seed in judged.items()
        }
        report = compare(tables, [], attribute=attribute, n_boot=0).report
        settings = {title(spec): " ".join(f"{value:g}" for value in of_seed.values()) for spec, of_seed in kept.items()}
        names = {title(spec): next(iter(of_seed.values()))["parameter"].iloc[0] for spec, of_seed in found.items()}
        told = {"parameter": report["student"].map(names), "settings": report["student"].map(settings)}
        parts.append(report.assign(selection=rule, **told))
    return pd.concat(parts, ignore_index=True)


def _swept(experiment: Experiment) -> Run:
    """The run of one student and seed: its predictions at every setting, evaluation and validation rows."""
    name = varied(experiment.weighting)

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
    fitted, asked = ([*student.read(rows).values()][-1] for rows in ("train", "validation"))
    head = experiment.exits(len(student.splits.labels)).head(fitted, student.labels("train"))
    right = head.logits(asked).argmax(-1) == student.labels("validation")
    return pd.Series(right.numpy(), index=student.splits.validation["id"])


def _weights(experiment: Experiment, student: Finished, name: str) -> Callable[[float], Tensor]:
    """Setting -> (N,) weights as the method gives them; what is the same at all settings is computed once."""
    method = experiment.weighting
    early = train_student(experiment.early(), splits=student.splits) if isinstance(method, Early) else None

    def given(**changes: float) -> Tensor:
        return given_weights(experiment.vary(**changes), student, early, "train")

    if name == "gamma":
        return lambda setting: given(gamma=setting)
    once = given(**({"beta": 1.0} if name == "beta" else {"jtt_factor": 2.0} if name == "jtt_factor" else {}))
    if name == "jtt_factor":
        return lambda setting: 1 + (setting - 1) * (once - 1)
    if name == "beta" and getattr(method, "shape", "") == "linear":
        return lambda setting: 1 + setting * (once - 1)
    return (lambda setting: once**setting) if name == "beta" else lambda _: once
