"""How much disk runs will take, told before they are made: from their models' sizes and the number of rows.

Of a trained model remain its weights, in float32, and tables; of all students of a seed and teacher one checkpoint,
their first epoch, among the caches. Meanwhile there are checkpoints, each with Adam's two means of every weight: two
are kept, and a third is written before the oldest goes. While exits are fitted, the states of all layers on all rows
lie on disk, if they are; in a training, those that the method's exits read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import transformers

from fairkd import runs
from fairkd.data import Splits
from fairkd.experiment import Experiment
from fairkd.study.plan import Planned
from fairkd.training import models
from fairkd.training.first_epoch import plain
from fairkd.training.halving import halve
from fairkd.training.student import student_name
from fairkd.weighting import Debiased, Rereads

_NUMBER = 4  # bytes of a float32
_CHECKPOINT = 3  # of the weights' size
_CHECKPOINTS = 3 * _CHECKPOINT
# Bytes as they were measured: of a row of a table, for each model that it tells of; of a training row's weight in an
# epoch, and of its teacher's logits; of a character of the texts, as tokens.
_ROW, _WEIGHT, _LOGITS, _CHARACTER = 33, 9, 24, 1.3


@dataclass(frozen=True)
class Disk:
    """What runs will take, in bytes, and what is free.

    Attributes:
        runs: how many are to be made.
        kept: by these runs and by caches, for good.
        meanwhile: besides, at most, while one of them is made, as often as runs are made at a time.
        free: now, where runs are.
    """

    runs: int
    kept: int
    meanwhile: int
    free: int

    def __str__(self) -> str:
        """One line, and what to do where it will not fit."""
        kept, meanwhile, free = (f"{size / 1e9:.1f} GB" for size in (self.kept, self.meanwhile, self.free))
        said = f"{self.runs} runs to make: about {kept} of disk, and {meanwhile} more meanwhile; {free} are free"
        if self.kept + self.meanwhile <= self.free:
            return said
        advice = "make room (`python -m fairkd cache clean`, `python -m fairkd runs list`) or set FAIRKD_ROOT elsewhere"
        return f"{said}. THIS WILL NOT FIT: {advice}"


def needed(experiment: Experiment, splits: Splits, planned: Iterable[Planned], at_once: int = 1) -> Disk | None:
    """The disk that those of the planned runs will take which are not there yet; None where all are.

    Args:
        experiment: of all of them, but for student and seed.
        splits: its data.
        at_once: how many runs are made at a time.
    """
    missing = [run for run in planned if not run.done]
    if not missing:
        return None
    students = [experiment.vary(seed=run.seed).student(run.student) for run in missing]
    sizes = [_of_run(run, given, splits) for run, given in zip(missing, students, strict=True)]
    kept, meanwhile = (list(each) for each in zip(*sizes, strict=True))
    begun = {student_name(base): base for base in map(plain, students) if base}
    kept += [_CHECKPOINT * _NUMBER * _student(base).num_parameters() for base in begun.values()]
    frames = splits.train, splits.whole_evaluation, splits.validation
    characters = sum(int(frame[name].str.len().sum()) for frame in frames for name in splits.entry.text)
    place = next(folder for folder in (runs.runs_folder(), *runs.runs_folder().parents) if folder.is_dir())
    most = sum(sorted(meanwhile)[-at_once:])
    return Disk(len(missing), sum(kept) + round(_CHARACTER * characters), most, shutil.disk_usage(place).free)


def _of_run(run: Planned, given: Experiment, splits: Splits) -> tuple[int, int]:
    """Bytes that a run takes for good, and meanwhile."""
    held, rows = len(splits.whole_evaluation) + len(splits.validation), len(splits.train)
    if run.part == "teacher":
        kept, meanwhile = _training(_outline(given.teacher_model), given.teacher_epochs, held)
        return kept + _LOGITS * rows, meanwhile
    student = _student(given)
    depth, states = len(models.layer_stack(student)), _NUMBER * student.config.hidden_size * (rows + held)
    if given.weighting.refits_head and run.part == "student":
        kept, _ = _training(student, 1, held)
        return kept + _WEIGHT * rows + 2 * states, 0  # the states that head and exit read remain among the caches
    if run.part == "early":
        return _training(student, given.early().student_epochs, held)
    kept, meanwhile = _training(student, given.student_epochs, held)
    if given.weighting.reweights or isinstance(given.weighting, Debiased):
        kept += _WEIGHT * rows * given.student_epochs
    if given.stops_early:  # each may be the best so far
        meanwhile += given.student_epochs * _NUMBER * student.num_parameters()
    if isinstance(given.weighting, Rereads):
        meanwhile += len(given.weighting.layers) * states
    if not run.exits:
        return kept + _ROW * held * 2, meanwhile
    exits = _ROW * held * 2 * (depth + 1) + 2 * _NUMBER * depth * (student.config.hidden_size + 1) ** 2
    return kept + exits, max(meanwhile, depth * states)


def _training(model: transformers.PreTrainedModel, epochs: int, held: int) -> tuple[int, int]:
    size = _NUMBER * model.num_parameters()
    return size + _ROW * held * (epochs + 1), _CHECKPOINTS * size


def _student(given: Experiment) -> transformers.PreTrainedModel:
    return _outline(given.student_model or given.teacher_model, halved=given.student_model is None)


def _outline(name: str, *, halved: bool = False) -> transformers.PreTrainedModel:
    """The encoder of this name, or the student of half its layers, without weights."""
    with torch.device("meta"):
        encoder = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(models.locate(name)))
        return halve(encoder) if halved else encoder
