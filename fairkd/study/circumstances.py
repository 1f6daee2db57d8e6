"""Under what circumstances the runs of one table were made."""

import pandas as pd

from fairkd.runs import Run

_VERSIONS = ("fairkd", "torch", "transformers", "datasets")
# Two runs that differ in one of these may differ in their numbers for that reason alone.
_DECISIVE = ("device", "instruction set", "threads", *_VERSIONS)


def circumstances(runs: dict[str, Run]) -> pd.DataFrame:
    """A line for each run: device, threads, versions, commit, seconds and peak memory of its training.

    Args:
        runs: finished students, {name: run}.
    """
    rows = {}
    for name, run in runs.items():
        made = (run.of or run).provenance
        rows[name] = {
            "device": made["device"],
            "instruction set": made["instruction_set"],
            "threads": _threads(made["threads"], made.get("processes", 1)),
            **{package: made["versions"][package] for package in _VERSIONS},
            "commit": made["commit"] or "",
            "seconds": made["seconds"],
            "memory, GiB": made["peak_memory_gib"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _threads(threads: int, processes: int) -> str | int:
    return threads if processes == 1 else f"{processes} x {threads}"


def differing(table: pd.DataFrame) -> str:
    """A sentence that names what the runs of a table of `circumstances` differ in, of what may move a number."""
    apart = [column for column in _DECISIVE if len(table[column].unique()) > 1]
    if not apart:
        return "all made on one kind of device, with as many threads and the same versions"
    return f"NOT comparable to the last digit: the runs differ in {', '.join(apart)}"
