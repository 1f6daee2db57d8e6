"""The grid of students and seeds, and the students set side by side."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import yaml
from pydantic import Field, field_validator
from tqdm import tqdm

from fairkd import runs
from fairkd.data import Splits, training_identity
from fairkd.evaluation import Comparison, compare, readable
from fairkd.experiment import Experiment, Profiled
from fairkd.figures import Figure
from fairkd.runs import Run
from fairkd.study.asked import RECORD, Entries, Record, Seeds, belonging, write_record
from fairkd.study.disk import needed
from fairkd.study.frontier import refit_students
from fairkd.study.plan import plan
from fairkd.training import check, distil, models

log = logging.getLogger("fairkd")

_PLACES = ("teacher_model", "student_model", "data")  # on one machine; stated anew on another


class Study(Profiled):
    """The parameters of `05_study.ipynb`: a profile, the students compared, and with which seeds."""

    methods: Annotated[Entries, Field(min_length=1)] = Field(
        ["erm", "kd", "jtt", "dedier@3", "laplace@3", "avcs@3", "group_dro", "refit", "dfr"],
        description="the students",
    )
    seeds: Seeds = Field([0], description="training seeds of every student")
    refits: Entries = Field(["dedier@3", "dedier@6"], description="refits tried at eight settings each; [] for none")
    record: Record | None = RECORD

    @field_validator("changes")
    @classmethod
    def _of_the_grid(cls, changes: dict[str, Any]) -> dict[str, Any]:
        return belonging(changes, {"seed": "seeds"} | dict.fromkeys(("method", "student", "students"), "methods"))

    def entries(self, experiment: Experiment) -> list[str]:
        """See `Profiled.entries`."""
        return [*self.methods, *(f"{spec},place=refit" for spec in self.refits)]

    def check(self) -> Splits:
        """The data, loaded; everything that the grid and the frontier will need is looked at.

        Raises:
            ParameterError, DataError: see `check_grid`.
        """
        return check_grid(self.experiment, self.methods, self.seeds, self.refits)

    def write(self, tables: dict[str, pd.DataFrame], figures: dict[str, Figure], experiment: Experiment) -> list[str]:
        """Write tables as CSV and figures as PNG into `record`, with the parameters; the names of the files.

        `study.yaml` is what gives the same study again: `papermill 05_study.ipynb out.ipynb -f study.yaml`, with the
        folders of models and data, where they were given, among its `changes`.
        """
        written = write_record(self.record, tables, figures)
        if self.record is None:
            return written
        folder = runs.root() / self.record
        shared = experiment.student("kd").student_parameters()
        again = {"profile": self.profile, "methods": self.methods, "refits": self.refits, "seeds": self.seeds}
        again["changes"] = {name: value for name, value in self.changes.items() if name not in _PLACES}
        for name, said in {"study": again, "parameters": again | {"kd": shared}}.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
        return sorted([*written, "study.yaml", "parameters.yaml"])


def run_grid(
    experiment: Experiment, students: list[str], seeds: list[int], refits: Iterable[str] = (), *, exits: bool = True
) -> dict[str, dict[int, Run]]:
    """All students with all seeds, {student: {seed: run}}: finished runs are reused, the others trained now.

    Seeds come in the outer loop, so that an interrupted study has whole seeds to show.

    Args:
        students: entries as in `Experiment.students`.
        seeds: training seeds of the students; the teacher has its own, one for all.
        refits: entries that `frontier` will be asked for; checked here, before anything is trained.
        exits: whether the students' exits are fitted, see `distil`.

    Raises:
        ParameterError, DataError: an entry, a parameter or the data are wrong; said before any training.
    """
    splits = check_grid(experiment, students, seeds, refits)
    grid = [(spec, experiment.vary(seed=seed).student(spec), seed) for seed in seeds for spec in students]
    planned = plan(experiment, [(spec, seed) for spec, _, seed in grid], exits=exits)
    if disk := needed(experiment, splits, planned.values()):
        log.info("%s", disk)
    found: dict[str, dict[int, Run]] = {spec: {} for spec in students}
    with tqdm(grid, desc="students") as bar:
        for spec, given, seed in bar:
            bar.set_postfix_str(f"{spec}, seed {seed}")
            same = training_identity(given) == training_identity(experiment)
            found[spec][seed] = distil(given, splits=splits if same else None, exits=exits)
    return found


def check_grid(experiment: Experiment, students: list[str], seeds: list[int], refits: Iterable[str]) -> Splits:
    """The data of a grid; arguments and errors as of `run_grid`."""
    experiment = experiment.vary(students=[*dict.fromkeys(students)])
    splits = check(experiment)
    for seed in seeds:
        for given in experiment.vary(seed=seed).compared(students).values():
            models.check(given, splits.labels)
    for given in refit_students(experiment, refits).values():
        models.check(given, splits.labels)
    return splits


def comparison(experiment: Experiment, found: dict[str, dict[int, Run]]) -> Comparison:
    """All students of a grid side by side, by their titles; the teacher heads them.

    Compared with `kd`, with the first `dedier`, and with each `dedier` that a `laplace` student is but for Laplace.

    Args:
        experiment: whose students they are.
        found: {student: {seed: run}}.
    """
    titles = {spec: experiment.title(spec) for spec in found}
    tables = {
        titles[spec]: {seed: run.table("predictions") for seed, run in of_seed.items()}
        for spec, of_seed in found.items()
    }
    dedier = [spec for spec in found if spec.startswith("dedier")]
    same = [spec for spec in dedier if spec.replace("dedier", "laplace", 1) in found]
    baselines = [titles[spec] for spec in dict.fromkeys(["kd", *dedier[:1], *same]) if spec in found]
    compared = compare(tables, baselines)
    table = next(iter(next(iter(tables.values())).values()))
    teacher = compare({"teacher": {0: table}}, [], model="teacher").report
    return replace(compared, report=pd.concat([teacher, compared.report], ignore_index=True))


def pivot(report: pd.DataFrame, who: list[str] | None = None, digits: int = 3) -> pd.DataFrame:
    """A long report for reading: a line for each student, a column for each row, "0.912 [0.905, 0.920]"."""
    who = who or ["student"]
    text = readable(report, digits)
    wide = report[[*who, "row"]].assign(text=text).pivot_table(index=who, columns="row", values="text", aggfunc="first")
    order = report[who].drop_duplicates()
    return wide.reindex(pd.MultiIndex.from_frame(order) if len(who) > 1 else order[who[0]])[report["row"].unique()]
