"""What decides the last bits of a number computed on a processor: how many threads add, with which instructions."""

import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fairkd.experiment import Experiment

log = logging.getLogger("fairkd")

# Of ATen, MKL and oneDNN. Each is read once a process, at the library's first computation.
_INSTRUCTIONS = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


@contextmanager
def arithmetic(experiment: Experiment) -> Iterator[None]:
    """Compute with the threads and instructions that the experiment asks for.

    A process that has computed with other instructions keeps them, and a processor may not have these: said in a
    warning, since the last digits may then differ from those of other machines.
    """
    choose_instructions(experiment)
    before = torch.get_num_threads()
    torch.set_num_threads(experiment.threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_instructions(experiment: Experiment) -> None:
    """Ask for the experiment's instruction set; earlier than the process computes anything, or it is too late."""
    wanted = experiment.instruction_set
    if wanted is None:
        return
    os.environ.update(_INSTRUCTIONS[wanted])
    if (found := torch.backends.cpu.get_cpu_capability().lower()) != wanted:
        if platform.machine().lower() in ("x86_64", "amd64"):
            why = "something was computed before the experiment was known; a new process (kernel) computes with it"
        else:
            why = "this processor does not have it"
        log.warning("instruction_set = %s, but torch computes with %s: %s", wanted, found, why)
