"""The table of ratios, and what a function costs: seconds, and peak memory in a process of its own."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch

from fairkd import runs


class Ratios:
    """The table of a benchmark, filled line by line."""

    def __init__(self):
        """An empty table."""
        self._rows: list[tuple[str, float, float, float, str, bool]] = []

    def times(self, what: str, ours: float, other: float, at_least: float) -> None:
        """How many times smaller `ours` is than `other`: seconds, or anything that costs."""
        ratio = other / ours
        self._rows.append((what, ours, other, ratio, f"at least {at_least:g}", ratio >= at_least))

    def share(self, what: str, ours: float, other: float, below: float) -> None:
        """Which part of `other` `ours` is."""
        ratio = ours / other
        self._rows.append((what, ours, other, ratio, f"below {below:g}", ratio < below))

    def table(self) -> pd.DataFrame:
        """A line for each, with whether its target is met."""
        columns = ["what", "ours", "other", "ratio", "target", "met"]
        return pd.DataFrame(self._rows, columns=columns).set_index("what")


def now() -> float:
    """Seconds by the clock, when the accelerator, if there is one, has done all that it was asked for."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def alone(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `function` returns in a process of its own, with `memory`, its peak in GiB, unless it measures a part.

    Raises:
        ImportError: the function needs a package that is not installed.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, arguments))


def _measured(function: Callable[..., dict[str, Any]], arguments: tuple) -> dict[str, Any]:
    with peak_memory() as memory:
        found = function(*arguments)
    return memory | found


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """`memory`, filled at the end: by how much the process came to exceed what it holds now, in GiB.

    The system tells only the peak so far. Ballast fills the process up to it first, so that it has to rise; its
    pieces of 4 MiB are the resolution.
    """
    found: dict[str, float] = {}
    ballast, peak = [], runs.peak_gib()
    while runs.peak_gib() <= peak:
        ballast.append(b"1" * 2**22)
    peak = runs.peak_gib()
    yield found
    found["memory"] = max(runs.peak_gib() - peak, 2**-8)


def import_seconds() -> tuple[float, float]:
    """Seconds to import torch and transformers, and those with fairkd; each in a new interpreter, least of two."""

    def clock(statement: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return time.perf_counter() - start

    both = "import torch, transformers"
    return min(clock(both) for _ in range(2)), min(clock(f"{both}, fairkd") for _ in range(2))
