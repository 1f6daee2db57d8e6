"""Who pays for an early answer: the parameters of `07_early_exit.ipynb`, what it reads, and what its clock says."""

import time
from itertools import product
from typing import Annotated, Any

import pandas as pd
from pydantic import Field, field_validator

from fairkd.data import Splits, load
from fairkd.evaluation.early import Held
from fairkd.evaluation.tables import exit_layers
from fairkd.experiment import Experiment, Profiled
from fairkd.figures import Figure
from fairkd.parameters import ParameterError
from fairkd.runs import Run
from fairkd.study.asked import RECORD, Entries, Record, Seeds, belonging, write_record
from fairkd.study.grid import check_grid
from fairkd.training import models
from fairkd.training.early import early_exit


class EarlyStudy(Profiled):
    """The parameters of `07_early_exit.ipynb`: a profile, the students, their seeds, and at which mean depths."""

    students: Annotated[Entries, Field(min_length=1)] = Field(
        ["kd", "dedier@3", "laplace@3"], description="the students, finished or trained now"
    )
    seeds: Seeds = Field([0], description="training seeds of every student")
    depths: Annotated[list[float], Field(min_length=1)] = Field(
        [0.25, 0.4, 0.55, 0.7, 0.85, 1.0], description="mean depths asked for: layers used / layers"
    )
    record: Record | None = RECORD

    @field_validator("depths")
    @classmethod
    def _rising(cls, depths: list[float]) -> list[float]:
        if depths != sorted(set(depths)) or not 0 < depths[0] <= depths[-1] <= 1:
            raise ValueError("name depths above 0 and at most 1, each once, from the least on")
        return depths

    @field_validator("changes")
    @classmethod
    def _of_the_grid(cls, changes: dict[str, Any]) -> dict[str, Any]:
        return belonging(changes, {"seed": "seeds", "method": "students", "student": "students"})

    def entries(self, experiment: Experiment) -> list[str]:
        """See `Profiled.entries`."""
        return self.students

    def check(self) -> Splits:
        """The data, loaded; everything that the grid will need is looked at.

        Raises:
            ParameterError, DataError: see `check_grid`; a depth that no answer of these students can have.
        """
        splits = check_grid(self.experiment, self.students, self.seeds, ())
        layers = models.check(self.experiment.student(self.students[0]), splits.labels)
        if self.depths[0] < 1 / layers:
            raise ParameterError(
                f"depths = {self.depths}: a student of {layers} layers answers at depths from 1/{layers} on"
            )
        return splits

    @property
    def middle(self) -> float:
        """The depth at which criteria are compared in words."""
        return self.depths[(len(self.depths) - 1) // 2]

    def write(self, tables: dict[str, pd.DataFrame], figures: dict[str, Figure]) -> list[str]:
        """Write tables as CSV and figures as PNG into `record`; the names of the files."""
        return write_record(self.record, tables, figures)


def held_out(experiment: Experiment, found: dict[str, dict[int, Run]]) -> dict[str, dict[int, Held]]:
    """What the exits of finished students say of validation and evaluation rows, by the titles of the students."""
    return {
        experiment.title(spec): {
            seed: Held(run.table("validation"), run.table("predictions")) for seed, run in of_seed.items()
        }
        for spec, of_seed in found.items()
    }


def margin_ranks(run: Run) -> pd.Series:
    """Spearman's correlation of the MAP and the Laplace margin of every exit, over the evaluation rows of a run."""
    table = run.table("predictions")
    names = [f"exit{layer}" for layer in exit_layers(table)]
    return pd.Series(
        {name: table[f"{name}_margin"].corr(table[f"{name}_laplace_margin"], method="spearman") for name in names}
    )


def early_seconds(experiment: Experiment, run: Run, depths: list[float], texts: int = 512) -> pd.DataFrame:
    """Time of early answers beside the layers they use, by both margins.

    Args:
        experiment: of the student.
        run: its finished run.
        depths: asked for; 1 is there besides.
        texts: so many evaluation rows, drawn at random.

    Returns:
        Columns criterion, target, depth (layers used / L on these rows), ms (a text, the fastest of three passes, one
        of every row after the other), share (of the fastest at depth 1, where no criterion is asked).
    """
    frame = load(experiment).evaluation
    frame = frame.sample(min(texts, len(frame)), random_state=0)[experiment.entry.text]
    asked = [dict(zip(("text", "text_pair"), row, strict=False)) for row in frame.itertuples(index=False)]
    rows = product(("margin", "laplace_margin"), sorted({*depths, 1.0}))
    answers = {row: early_exit(run, row[0], depth=row[1]) for row in rows}
    passes = []
    for _, (row, answer) in product(range(3), answers.items()):
        start = time.perf_counter()
        told = answer(asked)
        ms = 1e3 * (time.perf_counter() - start) / len(asked)
        passes.append((*row, sum(one["layer"] for one in told) / len(told) / answer.layers, ms))
    table = pd.DataFrame(passes, columns=["criterion", "target", "depth", "ms"])
    table = table.groupby(["criterion", "target"], sort=False, as_index=False).min()
    return table.assign(share=table["ms"] / table.loc[table["target"] == 1, "ms"].min())
