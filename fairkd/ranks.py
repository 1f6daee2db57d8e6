"""Several processes that train one model together, as torchrun and accelerate launch start them: who does what.

All run the same program. The first computes alone whatever is not a training, holds locks and writes; the others train
with it and wait for what it says. With one process all of this is nothing: it is the first, and hears itself.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# How long a process waits for another: in a step of training; and for the first, which fits exits meanwhile, or waits
# itself for another program that makes the same run.
_STEP, _ALONE = timedelta(minutes=10), timedelta(days=1)
# What accelerate launch asks for by the environment, and would change numbers without changing a run's name.
_ASKED = tuple(f"ACCELERATE_{what}" for what in ("MIXED_PRECISION", "DYNAMO_BACKEND", "USE_FSDP", "USE_DEEPSPEED"))

_talk: dist.ProcessGroup | None = None
_apart = False


class Ended(RuntimeError):
    """The first process has ended before its time; it says itself why."""


def join() -> None:
    """Join the other processes of a launcher, if there are any, each on its own GPU where there are GPUs.

    From then on the first alone says what it does; what goes wrong is said by each.
    """
    global _talk
    for name in _ASKED:
        os.environ.pop(name, None)
    if _talk or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    if torch.accelerator.is_available():
        torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group(timeout=_STEP)
    _talk = dist.new_group(backend="gloo", timeout=_ALONE)
    if not first():
        logging.getLogger("fairkd").setLevel("WARNING")


def leave() -> None:
    """Part from the other processes, all of which are done."""
    global _talk
    if _talk:
        dist.destroy_process_group()
        _talk = None


def count() -> int:
    """How many processes work together at this place; 1 where the first works `apart`."""
    return dist.get_world_size() if _talk and not _apart else 1


def first() -> bool:
    """Whether this process is the one that computes, holds locks and writes."""
    return count() == 1 or dist.get_rank() == 0


def told(say: Callable[[], T]) -> T:
    """What the first process says, in every process; `say` is called in the first alone.

    Raises:
        Ended: in the others, where the first has gone.
    """
    if count() == 1:
        return say()
    said = [say() if first() else None]
    try:
        dist.broadcast_object_list(said, group=_talk)
    except RuntimeError as error:
        raise Ended("the first process has ended") from error
    return said[0]


def wait() -> None:
    """Go on when all processes are here."""
    if count() > 1:
        dist.barrier(_talk)


@contextmanager
def apart() -> Iterator[None]:
    """What the first process does alone, while the others wait for what they are told next."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before
