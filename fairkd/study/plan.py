"""Which runs a report or a study is made of, each with its name and what it needs; nothing is computed here.

A graph of jobs is made from this: a job is a run that is not there yet, `python -m fairkd train` with its parameters.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fairkd import runs
from fairkd.experiment import Experiment
from fairkd.parameters import ParameterError
from fairkd.runs import Run
from fairkd.training import (
    answers_name,
    distil,
    exits_name,
    fine_tune,
    plain,
    student_name,
    teacher_name,
    train_student,
)
from fairkd.weighting import ByEarlyModel

# What `fairkd train` makes: a student, or one of the runs that it is made of.
Part = Literal["student", "teacher", "early", "base"]
PARTS = get_args(Part)


@dataclass(frozen=True)
class Planned:
    """A run that is wanted: the `part` of a student and seed, made of the runs that it `needs`.

    `after` names a run whose first epoch it goes on from: begun together, both would train that epoch. `exits`: whether
    those of the student, or of the plain student that it refits, are fitted too.
    """

    name: str
    student: str
    seed: int
    part: Part
    needs: tuple[str, ...] = ()
    after: str | None = None
    exits: bool = True

    @property
    def done(self) -> bool:
        """Whether the run is there, and whole."""
        return runs.find(self.name) is not None


def make(experiment: Experiment, part: Part = "student", *, exits: bool = True) -> Run:
    """The experiment's student, or its teacher, its early model, the plain student that it refits.

    Args:
        experiment: whose student it is.
        part: which of these.
        exits: whether a student's exits are fitted too.

    Raises:
        ParameterError: the experiment's method has no such part; or see `check`.
        DataError: see `check`.
    """
    if part == "teacher":
        return fine_tune(experiment)
    if part == "early" and isinstance(experiment.weighting, ByEarlyModel):
        return train_student(experiment.early())
    if part == "early" or (part == "base" and not experiment.weighting.refits_head):
        raise ParameterError(f"part {part}: a student of {experiment.method} is made without one")
    return distil(experiment.base() if part == "base" else experiment, exits=exits)


def plan(experiment: Experiment, grid: Iterable[tuple[str, int]], *, exits: bool = True) -> dict[str, Planned]:
    """All runs of the students and seeds of `grid`, with their exits or without, by their names.

    Each comes after what it needs.

    Raises:
        ParameterError: an entry, or one of its parameters, is wrong.
    """
    found: dict[str, Planned] = {}
    student_run = exits_name if exits else answers_name
    for spec, seed in grid:
        given = experiment.vary(seed=seed).student(spec)
        parts: dict[Part, str] = {"teacher": teacher_name(given)}
        if isinstance(given.weighting, ByEarlyModel):
            parts["early"] = student_name(given.early())
        if given.weighting.refits_head:
            parts["base"] = student_run(given.base())
        for part, name in parts.items():
            needs = (parts["teacher"],) if part == "base" else ()
            found.setdefault(name, Planned(name, spec, seed, part, needs, exits=exits))
        name = student_run(given)
        plain_student = None if given.weighting.refits_head else plain(given)
        first = student_run(plain_student) if plain_student else name
        if name not in found or found[name].part == "base":  # a student that is also what another refits
            after = first if first != name and first in found else None
            found[name] = Planned(name, spec, seed, "student", tuple(parts.values()), after, exits)
    return found


def arguments(planned: Planned, profile: str, changes: dict[str, Any]) -> list[str]:
    """The arguments of `python -m fairkd` that make the run."""
    stated = {"changes": changes, "student": planned.student, "seed": planned.seed}
    given = [part for name, value in stated.items() for part in ("-p", f"{name}={json.dumps(value)}")]
    without = [] if planned.exits else ["--without-exits"]
    return ["train", "--profile", profile, "--part", planned.part, *without, *given]
