"""What test_ranks starts: two processes, as torchrun makes them, but forked after the imports, which saves seconds.

Usage: python tests/training/two_processes.py PROFILE STUDENT STUDENT

The students are made, then a third begins, in whose training the second process fails.
"""

import logging
import sys
import traceback

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from fairkd import Experiment, distil, ranks
from fairkd.training import callbacks


def fail_in_the_second(self, args, state, control, **kwargs):
    if args.process_index == 1:
        raise OSError("the second process has failed")


def train(profile, *students):
    try:
        train_all(profile, students)
    except Exception:
        traceback.print_exc()  # as a process of torchrun does; the launcher tells of the one that it saw first
        raise


def train_all(profile, students):
    for student in students:
        made = distil(Experiment.from_file(profile, student=student))
        print(f"seed {torch.initial_seed()}\n" + (f"made {made.folder}\n" if ranks.first() else ""), end="", flush=True)
    callbacks.EpochResults.on_epoch_end = fail_in_the_second
    distil(Experiment.from_file(profile, student="erm"))
    print("not reached")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fairkd").setLevel("INFO")
    two = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork", max_restarts=0)
    elastic_launch(two, train)(*sys.argv[1:])
