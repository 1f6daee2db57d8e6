"""The student's training: distilled from the teacher's stored logits, its instances weighed by a method."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from torch import Tensor

from fairkd import files, ranks, runs
from fairkd.data import Splits, tokenize
from fairkd.experiment import Experiment
from fairkd.runs import Run
from fairkd.training import models
from fairkd.training.arithmetic import arithmetic
from fairkd.training.callbacks import Rereading, Reweighting
from fairkd.training.cards import write_card
from fairkd.training.checkpoints import last_checkpoint
from fairkd.training.checks import check
from fairkd.training.features import logits
from fairkd.training.first_epoch import FirstEpoch, plain
from fairkd.training.kept_epoch import KeptEpoch
from fairkd.training.task import Task
from fairkd.training.teacher import (
    fine_tune,
    prepare,
    saved,
    teacher_name,
    write_training,
)
from fairkd.weighting import ByEarlyModel, Debiased

log = logging.getLogger("fairkd")


def train_student(
    experiment: Experiment,
    *,
    splits: Splits | None = None,
    after_epoch: Callable[[int, pd.DataFrame], None] | None = None,
) -> Run:
    """The student trained by the experiment's method: the finished run of the same parameters, or trained now.

    The teacher is taken from its run, or fine-tuned first; so is the early model of a method that has one. The run
    holds model/ with its card, config.yaml, predictions.parquet (the student on all evaluation rows), epochs.parquet
    (the same after every epoch, and on validation rows), history.parquet and, of a re-weighting method,
    weights.parquet, of one whose loss takes in a biased reader, reader.parquet. Its exits are another run, see
    `finished.distil`.

    Args:
        splits: the experiment's data, where `check` has loaded them already.
        after_epoch: given every epoch that is trained now and its predictions of all held-out rows, as in
            epochs.parquet; what it raises interrupts the training, which goes on when asked for again.

    Raises:
        ParameterError, DataError: see `check`.
    """
    splits = check(experiment) if splits is None else splits
    method = experiment.weighting
    teacher = fine_tune(experiment, splits=splits) if method.uses_teacher else None
    early = train_student(experiment.early(), splits=splits) if isinstance(method, ByEarlyModel) else None

    def compute(folder: Path) -> None:
        log.info("no student with these parameters yet: training, method %s", experiment.method)
        transformers.set_seed(experiment.seed)
        tokenizer = models.load_student_tokenizer(experiment)
        task = Task.prepare(splits, experiment.max_length, tokenizer)
        model = models.load_student(experiment, splits.labels)
        taught = teacher_logits(teacher, splits) if teacher else None
        trainer, epochs = prepare(model, task, experiment, folder, "student", method=method, teacher_logits=taught)
        epochs.after_epoch = after_epoch
        kept = None
        if experiment.stops_early:
            kept = KeptEpoch(experiment.kept_epoch, epochs, folder / "epoch-models")
            trainer.add_callback(kept)
        told = {}
        if method.reweights:
            seen = train_probabilities(early, splits, experiment) if early else None
            told["weights"] = Reweighting(trainer, task, experiment, folder / "epoch-weights", seen)
        if isinstance(method, Debiased):
            told["reader"] = Rereading(trainer, task, experiment, folder / "epoch-reader")
        for callback in told.values():
            trainer.add_callback(callback)
        begun = ranks.told(lambda: last_checkpoint(folder))
        if base := plain(experiment):
            first = FirstEpoch(student_name(base), folder, epochs, list(told.values()))
            trainer.add_callback(first)
            begun = begun or first.taken_up()
        trainer.train(resume_from_checkpoint=begun)
        if not ranks.first():
            return
        if kept:
            kept.give_back(trainer.model)
        for name, callback in told.items():
            files.write_table(folder / f"{name}.parquet", callback.table())
        write_training(folder, trainer, task, epochs, saved(trainer, folder), experiment)
        write_card(folder, experiment, splits, "student", teacher.table("predictions") if teacher else None)

    with models.quiet(), arithmetic(experiment):
        return runs.make(experiment.method, student_identity(experiment), compute, together=True)


def student_name(experiment: Experiment) -> str:
    """The run of the experiment's student."""
    return runs.run_name(experiment.method, student_identity(experiment))


def student_identity(experiment: Experiment) -> dict[str, Any]:
    """What decides the student's run: its own parameters and code, its teacher's and its early model's runs."""
    method = experiment.weighting
    of = {}
    if method.uses_teacher:
        of["teacher"] = teacher_name(experiment)
    if isinstance(method, ByEarlyModel):
        of["early"] = student_name(experiment.early())
    if method.refits_head:
        of["refit of"] = student_name(experiment.base())
    posterior = type(experiment.exits(2).posterior)
    place = "fairkd.training.refit" if method.refits_head else __name__
    code = (place, type(method), posterior, *experiment.data_code)
    return runs.identity(experiment.student_parameters() | of, *code)


def teacher_logits(teacher: Run, splits: Splits) -> Tensor:
    """(N, C) stored logits, in the order of the training rows."""
    stored = teacher.table("train_logits").set_index("id").loc[splits.train["id"]]
    return torch.tensor(stored.to_numpy())


def train_probabilities(early: Run, splits: Splits, experiment: Experiment) -> Tensor:
    """(N, C) probabilities of a finished run's student on the training rows."""
    model, tokenizer = models.reopened(early)
    tokens = tokenize(splits.train, splits.entry, tokenizer, experiment.max_length)
    return logits(model, tokens, tokenizer, bf16=experiment.bf16).softmax(-1)
