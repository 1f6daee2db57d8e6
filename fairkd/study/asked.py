"""Parameters that the notebooks of many runs share: seeds, entries of students, a folder of record."""

from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, Field

from fairkd import runs
from fairkd.experiment import read_student
from fairkd.figures import Figure
from fairkd.parameters import ParameterError, Seed


def _each_once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ParameterError("name each seed once")
    return seeds


def _without_seeds(specs: list[str]) -> list[str]:
    if wrong := [spec for spec in specs if "seed" in read_student(spec)]:
        raise ParameterError(f"{wrong[0]!r}: seeds stand in seeds, for all students alike")
    return specs


def inside(path: str) -> bool:
    """Whether a path, relative ones taken from the project's folder, leads to somewhere in it."""
    return runs.root() in (runs.root() / path).resolve().parents


def _folder(record: str) -> str:
    if not inside(record):
        raise ParameterError("should be a folder inside the project's, such as reports/record/demo")
    return record


Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_each_once)]
Entries = Annotated[list[str], AfterValidator(_without_seeds)]
Record = Annotated[str, AfterValidator(_folder)]
RECORD = Field(None, description="folder for tables and figures of record; null: none")


def write_record(record: str | None, tables: dict[str, pd.DataFrame], figures: dict[str, Figure]) -> list[str]:
    """Write tables as CSV and figures as PNG into a folder of record, made if there is none; the names of the files."""
    if record is None:
        return []
    folder = runs.root() / record
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    for name, figure in figures.items():
        (folder / f"{name}.png").write_bytes(figure.png())
    return sorted([*(f"{name}.csv" for name in tables), *(f"{name}.png" for name in figures)])


def belonging(changes: dict[str, Any], own: dict[str, str]) -> dict[str, Any]:
    """The changes of a profile, if none is stated elsewhere: `own` is {parameter: the notebook's own for it}.

    Raises:
        ParameterError: one is.
    """
    if wrong := sorted(own.keys() & changes.keys()):
        raise ParameterError(f"{wrong[0]}: this notebook does not read it; state {own[wrong[0]]}")
    return changes
