"""Average against worst group as the weights of a refit sharpen: what a reader, a shape, a probability can reach."""

import logging
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch

from fairkd import files, runs
from fairkd.data import load
from fairkd.evaluation import compare
from fairkd.experiment import Experiment, read_student, title
from fairkd.parameters import ParameterError
from fairkd.runs import Run
from fairkd.study.selection import SELECTIONS, chosen, evaluated_at
from fairkd.training import models
from fairkd.training.arithmetic import arithmetic
from fairkd.training.refit import Finished, given_weights, refitted_head
from fairkd.training.student import student_name, train_student
from fairkd.weighting import METHODS
from fairkd.weighting.dedier import MarginWeighted

log = logging.getLogger("fairkd")

BETAS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)


def frontier(experiment: Experiment, students: list[str], seeds: list[int]) -> dict[str, dict[int, pd.DataFrame]]:
    """{student: {seed: predictions at every beta}}: refits of plain students with weights that grow with beta.

    A plain student is trained if there is none yet; what follows takes seconds a point.

    Args:
        students: entries of methods that have a beta, such as "laplace@6,exit_reads=hypothesis"; place=refit is meant.
        seeds: of the plain students.

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
        ParameterError: a student that has no beta, or weights of a shape that has none.
    """
    asked = {}
    for spec in students:
        if not issubclass(METHODS[read_student(spec)["method"]], MarginWeighted):
            raise ParameterError(f"refits, {spec!r}: a frontier needs a method that has a beta, such as dedier")
        asked[spec] = experiment.student(f"{spec},place=refit")
        shape = getattr(asked[spec].weighting, "shape", "exponential")
        if shape not in ("exponential", "linear"):
            raise ParameterError(f"refits, {spec!r}: shape = {shape!r} has no beta; choose exponential or linear")
    return asked


def frontier_points(found: dict[str, dict[int, pd.DataFrame]], attribute: str) -> pd.DataFrame:
    """Every student at every beta, over the seeds: student, beta, row, value, low, high."""
    parts = []
    for spec, of_seed in found.items():
        betas = next(iter(of_seed.values()))["beta"].unique()
        tables = {str(b): {seed: evaluated_at(table, "beta", b) for seed, table in of_seed.items()} for b in betas}
        report = compare(tables, [], attribute=attribute, n_boot=0).report
        report = report.rename(columns={"student": "beta"}).assign(student=spec)
        parts.append(report.assign(beta=report["beta"].astype(float)))
    return pd.concat(parts, ignore_index=True)


def frontier_choices(found: dict[str, dict[int, pd.DataFrame]], attribute: str) -> pd.DataFrame:
    """Every student at the beta that each rule keeps of a seed: student, selection, betas, row, value, low, high."""
    parts = []
    for rule in [rule for rule in SELECTIONS if rule != "last epoch"]:
        kept = {
            spec: {seed: chosen(table, rule, attribute, "beta") for seed, table in of_seed.items()}
            for spec, of_seed in found.items()
        }
        tables = {
            title(spec): {seed: evaluated_at(table, "beta", kept[spec][seed]) for seed, table in of_seed.items()}
            for spec, of_seed in found.items()
        }
        report = compare(tables, [], attribute=attribute, n_boot=0).report
        betas = {title(spec): " ".join(f"{beta:g}" for beta in of_seed.values()) for spec, of_seed in kept.items()}
        parts.append(report.assign(selection=rule, betas=report["student"].map(betas)))
    return pd.concat(parts, ignore_index=True)


def _swept(experiment: Experiment) -> Run:
    """The run of one student and seed: its predictions at every beta, evaluation and validation rows."""

    def compute(folder: Path) -> None:
        splits = load(experiment)
        student = Finished(experiment, splits, train_student(experiment.base(), splits=splits))
        log.info("refits of %s as beta grows, %s", student.run.folder.name, experiment.method)
        once = given_weights(experiment.vary(beta=1.0), student, None, "train")
        parts = []
        for beta in BETAS:
            weights = experiment.weighting.applied(_sharpened(experiment.weighting, once, beta), experiment.seed)
            exit = refitted_head(experiment, student, "train", weights)
            parts.append(student.asked(exit).assign(beta=beta))
        files.write_table(folder / "frontier.parquet", pd.concat(parts, ignore_index=True))

    parameters = {"student": student_name(experiment.vary(beta=1.0)), "betas": list(BETAS)}
    with models.quiet(), arithmetic(experiment):
        return runs.make("frontier", runs.identity(parameters, __name__), compute)


def _sharpened(method: MarginWeighted, once: torch.Tensor, beta: float) -> torch.Tensor:
    """The weights at beta from those at 1: exp(beta s) is a power of exp(s), and 1 + beta s is linear in beta."""
    return 1 + beta * (once - 1) if getattr(method, "shape", "") == "linear" else once**beta
