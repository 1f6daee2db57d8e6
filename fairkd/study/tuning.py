"""Tuning: the parameters of `09_tuning.ipynb`, and trials that are ordinary runs.

A trial is an entry of a students list, "dedier@5,alpha=0.31": a run that is there is reused, and what was tried can be
asked for by that name. How settings are searched for is in `search`.
"""

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial
from pydantic import Field, field_validator

from fairkd import runs
from fairkd.data import Splits
from fairkd.evaluation import SELECTIONS, chosen
from fairkd.experiment import Experiment, Profiled, entry, read_student
from fairkd.figures import Figure
from fairkd.parameters import ParameterError, Seed, nearest
from fairkd.study.asked import RECORD, Entries, Record, belonging, inside, write_record
from fairkd.study.grid import check_grid
from fairkd.study.search import Numbered, opened, place_of, search
from fairkd.study.space import distributions, drawn, ends, nearest_to, tunable
from fairkd.training import models, student_name
from fairkd.training.finished import made

log = logging.getLogger("fairkd")


class Tuning(Profiled):
    """The parameters of `09_tuning.ipynb`: a profile, students, what is varied, by which rule, how often."""

    students: Annotated[Entries, Field(min_length=1)] = Field(
        ["dedier@3"], description="the students; each gets as many trials, the first as it stands here"
    )
    space: Annotated[dict[str, list[Any] | None], Field(min_length=1)] = Field(
        {"alpha": [0.05, 2.0], "beta": [0.5, 6.0], "aux_layer": [1, 6]},
        description="ends of a range, or choices; null: all",
    )
    trials: Annotated[int, Field(ge=1, le=10_000)] = Field(8, description="settings tried of every student")
    objective: Literal["validation average", "smallest class difference", "validation worst group"] = Field(
        "validation average",
        description="or smallest class difference, or validation worst group (reads groups)",
    )
    selection: Literal[tuple(SELECTIONS)] = Field(
        "last epoch", description="which epoch of a run counts: last epoch, or one that an objective picks"
    )
    search_seed: Seed = Field(0, description="seed of the search; the student's own is the profile's")
    storage: str | None = Field(
        None,
        description="where the search lies: URL of a data base for several machines; null: a file in reports/tuned",
    )
    best: str | None = Field(
        None, description="file for the best settings, a profile; null: reports/tuned, by the profile's name"
    )
    record: Record | None = RECORD

    @field_validator("storage")
    @classmethod
    def _url(cls, storage: str | None) -> str | None:
        if storage is not None and "://" not in storage:
            raise ValueError("should be a URL such as sqlite:////folder/tuning.db or postgresql://host/tuning")
        return storage

    @field_validator("best")
    @classmethod
    def _profile(cls, best: str | None) -> str | None:
        if best is not None and not (best.endswith(".yaml") and inside(best)):
            raise ValueError("should be a .yaml file inside the project's folder, such as reports/tuned/demo.yaml")
        return best

    @field_validator("changes")
    @classmethod
    def _of_the_search(cls, changes: dict[str, Any]) -> dict[str, Any]:
        return belonging(changes, dict.fromkeys(("method", "student"), "students"))

    def entries(self, experiment: Experiment) -> list[str]:
        """See `Profiled.entries`."""
        return self.students

    @property
    def profile_of_best(self) -> str:
        """The file for the best settings, in the project's folder."""
        return self.best or f"reports/tuned/{Path(self.profile).stem}.yaml"

    @property
    def measured(self) -> str:
        """What a trial's value is; the larger the better."""
        return self.objective.replace("smallest", "minus the")

    def check(self) -> Splits:
        """The data, loaded; students, the ends of the space and the storage are looked at.

        Raises:
            ParameterError, DataError: see `check_grid`; or nobody reads what is varied, or a value is not allowed.
        """
        students = {spec: self.experiment.student(spec) for spec in self.students}
        known = {name for given in students.values() for name in tunable(given)}
        if wrong := sorted(self.space.keys() - known):
            raise ParameterError(f"space: {wrong[0]} cannot be tuned of these students; {nearest(wrong[0], known)}")
        if not self.experiment.validation_examples:
            raise ParameterError("validation_examples = 0: a tuning asks validation rows; set it above 0")
        varied = []
        for spec, given in students.items():
            space = distributions(given, self.space)
            if not space:
                raise ParameterError(f"students, {spec!r}: reads nothing of the space ({', '.join(self.space)})")
            for name, value in [(name, value) for name, of in space.items() for value in ends(of)]:
                varied.append(_judged_apart(spec, given.vary(**{name: value})))
                read_student(entry(spec, {name: value}))
        if self.storage is not None:
            opened(self.storage, folder(), "")
        splits = check_grid(self.experiment, self.students, [self.experiment.seed], ())
        for given in varied:
            models.check(given, splits.labels)
        return splits

    def write(self, tables: dict[str, pd.DataFrame], figures: dict[str, Figure]) -> list[str]:
        """Write tables as CSV and figures as PNG into `record`; the names of the files."""
        return write_record(self.record, tables, figures)


def _judged_apart(spec: str, given: Experiment) -> Experiment:
    """The experiment, if the rows that judge it do not decide what it is."""
    if given.weighting.refits_on_validation:
        raise ParameterError(
            f"students, {spec!r}: is refitted on the validation rows that would judge it; set refit_on"
        )
    if given.stops_early:
        raise ParameterError(f"students, {spec!r}: kept_epoch: a tuning does not read it; state selection")
    return given


def folder() -> Path:
    """Where searches lie, beside the runs."""
    return runs.root() / "reports" / "tuned"


def tune(asked: Tuning, splits: Splits) -> dict[str, list[FrozenTrial]]:
    """The trials of every student, {entry: trials}: found, or made now, by this process and others that ask the same.

    Args:
        asked: what is tuned.
        splits: the data, of `Tuning.check`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = {}
    for spec in asked.students:
        given = asked.experiment.student(spec)
        stated = asked.model_dump(include={"space", "objective", "selection", "search_seed"})
        name = runs.run_name("tuning", {"student": student_name(given), "spec": spec} | stated)
        resolved, space = given.resolved(), distributions(given, asked.space)
        first = {key: nearest_to(resolved[key], distribution) for key, distribution in space.items()}
        storage = opened(asked.storage, folder(), name)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            sampler=Numbered(asked.search_seed, first),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
            load_if_exists=True,
        )
        found[spec] = search(study, storage, _Objective(asked, spec, space, splits), asked.trials, folder())
    return found


class _Objective:
    """What settings of a student are worth: the run of an entry, and a rule over its validation rows."""

    def __init__(self, asked: Tuning, spec: str, space: dict[str, BaseDistribution], splits: Splits):
        self.asked, self.spec, self.space, self.splits = asked, spec, space, splits
        self.experiment, self.rule = asked.experiment, SELECTIONS[asked.objective]

    def __call__(self, trial: Trial) -> float:
        name = entry(self.spec, {key: drawn(trial, key, distribution) for key, distribution in self.space.items()})
        trial.set_user_attr("student", name)
        given, told = self.experiment.student(name), set()
        log.info("trial %d of %d: %s", place_of(trial.study, trial) + 1, self.asked.trials, name)

        def after_epoch(epoch: int, table: pd.DataFrame) -> None:
            told.add(epoch)
            trial.report(self._value(table), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            run = made(given, self.splits, after_epoch)
        except FloatingPointError as error:
            log.info("%s", error)
            raise optuna.TrialPruned from None
        trial.set_user_attr("run", run.folder.name)
        epochs = run.table("epochs")
        for epoch, table in epochs.groupby("epoch"):
            if epoch not in told:  # of a run that was there, or resumed
                trial.report(self._value(table), int(epoch))
        epoch = chosen(epochs, self.asked.selection)
        return self._value(epochs[epochs["epoch"] == epoch])

    def _value(self, table: pd.DataFrame) -> float:
        return float(self.rule(table[table["split"] == "validation"]))
