"""A search of settings that several processes may work on, and that goes on when one of them is killed.

The search is Optuna's; what it knows lies in a storage: a journal, one file, for the processes of one machine, or a
data base for several. Nothing here knows what a trial does.
"""

import logging
import os
import re
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from fairkd import runs
from fairkd.parameters import ParameterError

log = logging.getLogger("fairkd")

# Seconds: between two signs of life of a trial in a data base, and of silence after which its process counts as gone.
_BEAT, _SILENT = 10, 60
# So often are settings tried whose process was killed.
_TRIES = 3
_AT_RANDOM = 4  # trials before the others are learnt from
_GIVEN_OUT = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Numbered(BaseSampler):
    """Tree-structured Parzen estimators, each draw decided by the seed, the trial's place and the trials before.

    So two processes draw different settings, and a search that was killed and begun again draws the same.
    """

    def __init__(self, seed: int, first: dict[str, Any]):
        """`first` are the settings of the first trial, by name."""
        self.seed, self.first = seed, first

    def infer_relative_search_space(self, study, trial):
        """See `optuna.samplers.BaseSampler`."""
        return self._drawing(0).infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        """See `optuna.samplers.BaseSampler`."""
        place = place_of(study, trial)
        return self._drawing(place).sample_relative(study, trial, search_space) if place else {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        """See `optuna.samplers.BaseSampler`."""
        if not (place := place_of(study, trial)):
            return self.first[param_name]
        return self._drawing(place, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _drawing(self, place: int, of: str = "") -> TPESampler:
        seed = int(runs.digest(str(self.seed), str(place), of), 16) % 2**32
        return TPESampler(seed=seed, n_startup_trials=_AT_RANDOM)


def place_of(study: optuna.Study, trial: FrozenTrial | Trial) -> int:
    """How many trials were begun before, without those that were broken off."""
    before = study.get_trials(deepcopy=False)[: trial.number]
    return sum(other.state != TrialState.FAIL for other in before)


def opened(storage: str | None, folder: Path, name: str) -> BaseStorage:
    """Where a search lies: the data base of a URL, or the journal `name`.journal in `folder`.

    Raises:
        ParameterError: the data base cannot be reached.
    """
    if storage is None:
        folder.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(folder / f"{name}.journal")))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                storage, heartbeat_interval=_BEAT, grace_period=_SILENT, heartbeat_stale_trial_callback=_again
            )
    except Exception as error:  # whatever the data base's driver raises
        shown = re.sub(r"(//[^:/@]*):[^@]*@", r"\1:...@", storage)
        why = " ".join(str(error).split())[:300]
        raise ParameterError(
            f"storage = {shown!r}: should be the URL of a data base that can be reached; {why}"
        ) from None


def search(
    study: optuna.Study, storage: BaseStorage, objective: Callable[[Trial], float], trials: int, folder: Path
) -> list[FrozenTrial]:
    """Try settings until so many trials are finished, by this process or others; these trials, in their order.

    Who finds all trials given out waits for those that run, and tries again the settings of a process that is gone.

    Args:
        study: lies in `storage`, which `opened` gave.
        objective: gives a trial's value; raises `optuna.TrialPruned` to end it early.
        trials: pruned ones count.
        folder: where processes show that they live.
    """
    with _at_work(folder) as worker:

        def tried(trial: Trial) -> float:
            trial.set_user_attr("worker", worker)
            before = study.get_trials(deepcopy=False, states=_GIVEN_OUT)
            if sum(other.number < trial.number for other in before) >= trials:
                raise _Surplus
            try:
                return objective(trial)
            except optuna.TrialPruned:
                raise
            except BaseException:
                _again(study, trial)
                raise

        waits = False
        while len(done := study.get_trials(states=_FINISHED)) < trials:
            _take_up(study, storage, folder)
            if len(study.get_trials(deepcopy=False, states=_GIVEN_OUT)) < trials:
                study.optimize(tried, n_trials=1, catch=(_Surplus,))
                waits = False
            else:
                if not waits:
                    log.info("all trials are given out; waiting for those of other processes")
                waits = True
                time.sleep(1)
    return sorted(done, key=lambda trial: trial.number)[:trials]


class _Surplus(Exception):
    """Two processes asked at once for the last trial."""


@contextmanager
def _at_work(folder: Path) -> Iterator[str]:
    """The name of this process, and of a lock that it holds as long as it lives."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f".{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
    with FileLock(folder / name):
        yield name
    (folder / name).unlink(missing_ok=True)


def _take_up(study: optuna.Study, storage: BaseStorage, folder: Path) -> None:
    """Give up the trials of processes that are gone; their settings wait to be tried again.

    Of a journal the locks tell, on this machine; a data base is told by every process that it lives.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)  # nothing, of a journal
    if isinstance(storage, JournalStorage):
        with FileLock(folder / f".{study.study_name}.lock"):
            for trial in study.get_trials(states=(TrialState.RUNNING,)):
                if _gone(trial, folder):
                    study.tell(trial.number, state=TrialState.FAIL)
                    _again(study, trial)


def _gone(trial: FrozenTrial, folder: Path) -> bool:
    """Whether the process of a running trial is no more."""
    worker = trial.user_attrs.get("worker")
    if worker is None:  # it has not said yet whose it is, or never will
        return (datetime.now() - trial.datetime_start).total_seconds() > _SILENT
    try:
        with FileLock(folder / worker, timeout=0):
            pass
    except Timeout:
        return False
    (folder / worker).unlink(missing_ok=True)
    return True


def _again(study: optuna.Study, trial: FrozenTrial | Trial) -> None:
    """Let the settings of a trial that was broken off be tried again, unless they were often enough."""
    tries = trial.user_attrs.get("tries", 1)
    log.info("trial %d was broken off, try %d of %d", trial.number + 1, tries, _TRIES)
    if trial.params and tries < _TRIES:
        study.enqueue_trial(trial.params, user_attrs={"tries": tries + 1})
