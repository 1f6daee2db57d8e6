"""Side-by-side timings for `06_benchmark.ipynb`: plain loops to compare with, clocks, peak memory.

`students` times training and re-weighting, `exits` the mathematics on features at hand, `clocks` whatever it is given.

Both sides of a ratio run in one session on the same machine, on the same pairs, encoders and batch size. Training's is
the least of a few times, since whatever else the machine does only adds to them; an exit's the one time in a process of
its own.
"""

from typing import Annotated

from pydantic import Field

from fairkd.experiment import Profiled
from fairkd.parameters import Rows, Width


class Benchmark(Profiled):
    """The parameters of `06_benchmark.ipynb`: whose encoders and pairs, and how many of each thing."""

    pairs: Rows = Field(2_000, description="training pairs of the student that is timed")
    loop_pairs: Rows = Field(256, description="training pairs of the plain loops")
    map_rows: Rows = Field(50_000, description="instances of the MAP fit")
    laplace_rows: Rows = Field(20_000, description="instances of the Laplace approximation")
    widths: Annotated[list[Width], Field(min_length=1)] = Field([384, 768], description="features an instance")
    most_rows: Rows = Field(392_702, description="instances of the largest fit: MultiNLI's")
