"""The training of a student and its re-weighting, beside two loops written plainly."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, set_seed

from fairkd.benchmark.clocks import now
from fairkd.exits import Head
from fairkd.experiment import Experiment
from fairkd.training import check, models
from fairkd.training.callbacks import Reweighting
from fairkd.training.features import outputs, pool, pooled_states
from fairkd.training.task import Task
from fairkd.training.trainer import DistillationTrainer, training_arguments
from fairkd.weighting import confidence_margin
from fairkd.weighting.loss import distillation_terms


def task_of(experiment: Experiment, pairs: int) -> Task:
    """The student's data: `pairs` training pairs of the experiment's, the fewest evaluation pairs."""
    given = experiment.vary(train_examples=pairs, evaluation_examples=6, validation_examples=0)
    return Task.prepare(check(given), given.max_length, models.load_student_tokenizer(given))


class _Clock(TrainerCallback):
    """Seconds of every epoch, without what callbacks added after this one do at its end."""

    def __init__(self):
        self.epochs: list[float] = []

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.start = now()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.epochs.append(now() - self.start)


class _TimedReweighting(Reweighting):
    """Seconds of every re-weighting."""

    seconds: list[float]

    def on_epoch_end(self, args, state, control, **kwargs):
        start = now()
        super().on_epoch_end(args, state, control, **kwargs)
        self.seconds = [*getattr(self, "seconds", []), now() - start]


@dataclass(frozen=True)
class Variant:
    """Another way to train the same student.

    Attributes:
        arguments: of `TrainingArguments`, where they differ from `training_arguments`.
        padding: of the tokenizer, where it does not pad to the longest of the batch.
        attention: which of its implementations transformers takes.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    padding: dict[str, Any] = field(default_factory=dict)
    attention: str = "sdpa"


_AS_IT_IS = Variant()


def variants(experiment: Experiment) -> dict[str, Variant]:
    """What training may do otherwise, one thing at a time; torch.compile where there is the compiler it needs."""
    found = {
        "as it is": _AS_IT_IS,
        "float32" if experiment.bf16 else "bf16 autocast": Variant({"bf16": not experiment.bf16}),
        "pairs drawn at random": Variant({"train_sampling_strategy": "random"}),
        "padded to max_length": Variant(padding={"padding": "max_length", "max_length": experiment.max_length}),
        "padded to multiples of 8": Variant(padding={"pad_to_multiple_of": 8}),
        "eager attention": Variant(attention="eager"),
        "AdamW tensor by tensor": Variant({"optim": "adamw_torch"}),
    }
    if shutil.which(os.environ.get("CXX", "g++")):
        found["torch.compile"] = Variant({"torch_compile": True})
    return found


@contextmanager
def prepared(
    experiment: Experiment,
    task: Task,
    variant: Variant = _AS_IT_IS,
    kind: type[DistillationTrainer] = DistillationTrainer,
    epochs: int = 3,
) -> Iterator[tuple[DistillationTrainer, _Clock]]:
    """A trainer that saves and says nothing, with its clock.

    The teacher's logits are at hand, as its run has stored them once for all students.
    """
    given = experiment.vary(student_epochs=epochs, report_to="none")
    set_seed(0)
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        silent = {"eval_strategy": "no", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
        arguments = replace(training_arguments(given, Path(folder), "student"), **silent | variant.arguments)
        student = models.load_student(given, task.splits.labels)
        student.set_attn_implementation(variant.attention)
        trainer = kind(
            student,
            arguments,
            method=given.weighting,
            train_dataset=task.train,
            data_collator=partial(task.collate, **variant.padding),
            processing_class=task.tokenizer,
            teacher_logits=torch.randn(len(task.train), len(task.splits.labels)),
        )
        trainer.remove_callback(PrinterCallback)
        clock = _Clock()
        trainer.add_callback(clock)
        yield trainer, clock


def student_seconds(experiment: Experiment, task: Task) -> tuple[float, float]:
    """Seconds of one epoch of distillation as `fairkd.distil` does it, and of the re-weighting that it is followed by.

    The least of four epochs, and of the three re-weightings between them.
    """
    with prepared(experiment, task, epochs=4) as (trainer, clock):
        folder = Path(trainer.args.output_dir) / "weights"
        reweighting = _TimedReweighting(trainer, task, experiment, folder)
        trainer.add_callback(reweighting)
        trainer.train()
    return min(clock.epochs), min(reweighting.seconds[:-1])


def variant_seconds(experiment: Experiment, task: Task) -> pd.DataFrame:
    """Seconds of the first epoch of plain distillation, and of the faster of two after it, for all `variants`."""
    rows = {}
    for name, variant in variants(experiment).items():
        with prepared(experiment.vary(method="kd"), task, variant) as (trainer, clock):
            trainer.train()
        rows[name] = {"first epoch, s": clock.epochs[0], "later epoch, s": min(clock.epochs[1:])}
    return pd.DataFrame.from_dict(rows, orient="index")


class _Keeping(DistillationTrainer):
    """Keeps the pooled states of a layer as the training pass puts them out, dropout and all."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        index, mask = inputs["index"], inputs["attention_mask"]
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        [hidden] = self.hidden.values()
        self.kept[index] = pool(hidden.detach(), mask, self.pooling).float()
        return loss


def kept_and_fresh(experiment: Experiment, task: Task) -> tuple[pd.DataFrame, dict[str, float]]:
    """What `laplace` makes of features kept from the training pass, and of those read afresh after the epoch.

    Returns:
        a row for each training pair, with its margin and weight by either and, of the fresh features, the margin of
        the exit's softmax; and the seconds of the epoch that keeps, of the fresh pass, and of all that follows it.
    """
    layer, seconds, pairs = experiment.aux_layer, {}, pd.DataFrame(index=range(len(task.train)))
    with prepared(experiment.vary(method="kd"), task, kind=_Keeping) as (trainer, clock):
        student = trainer.model
        trainer.kept = torch.empty(len(task.train), student.config.hidden_size, device=trainer.args.device)
        trainer.pooling = experiment.pooling
        with outputs(student.base_model, [layer]) as trainer.hidden:
            trainer.train()
    seconds["epoch"] = min(clock.epochs)
    start = now()
    states = pooled_states(student, task.train, task.tokenizer, [layer], experiment.pooling, bf16=experiment.bf16)
    fresh, seconds["fresh pass"] = states[layer], now() - start
    start = now()
    head, pairs["weight, fresh"], pairs["margin, fresh"] = _weighed(fresh, task, experiment)
    seconds["exit"] = now() - start
    _, pairs["weight, kept"], pairs["margin, kept"] = _weighed(trainer.kept.cpu(), task, experiment)
    pairs["margin, softmax"] = confidence_margin(head.logits(fresh).softmax(-1)).numpy()
    return pairs, seconds


def _weighed(features: Tensor, task: Task, experiment: Experiment) -> tuple[Head, np.ndarray, np.ndarray]:
    """The head on (N, D) features, and the weights and margins (N,) by its Laplace predictive."""
    exits = experiment.exits(len(task.splits.labels))
    head = exits.head(features, task.labels)
    probs = exits.uncertain(head, features, task.labels).probabilities(features)
    return head, experiment.weighting.lift(probs, task.labels).numpy(), confidence_margin(probs).numpy()


def dedier_loop_seconds(experiment: Experiment, task: Task) -> float:
    """Seconds of one epoch of a loop of the shape of DEDIER's released code, its re-weighting pass included.

    Every pair padded to `max_length` tokens, float32, the teacher asked in every step, and after the epoch a pass of
    the whole student over all pairs for the features of the auxiliary head (which is not timed).
    """
    teacher = models.load_teacher(experiment, task.splits.labels).eval().to(_device())
    student = _student(experiment, task).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate)

    def step(batch: dict[str, Tensor]) -> None:
        labels = batch.pop("labels")
        with torch.no_grad():
            taught = teacher(**batch).logits
        seen = student(**_of(student, batch)).logits
        ce, kd = distillation_terms(seen, taught, labels, experiment.weighting.temperature)
        _descend((ce + kd).mean(), student, optimiser)

    start = now()
    for batch in _padded(experiment, task):
        step(batch)
    student.eval()
    with torch.no_grad():
        for batch in _padded(experiment, task):
            batch.pop("labels")
            student(**_of(student, batch), output_hidden_states=True)
    return now() - start


def glue_loop_seconds(experiment: Experiment, task: Task) -> float:
    """Seconds of one epoch of the stock GLUE example's shape: padded to `max_length`, float32, no teacher."""
    student = _student(experiment, task).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate)
    start = now()
    for batch in _padded(experiment, task):
        _supervised_step(student, batch, optimiser)
    return now() - start


def loss_curves(experiment: Experiment, task: Task, steps: int = 10) -> dict[str, list[float]]:
    """Losses of one student on the same batches, dropout off, float32: padded to `max_length`, and to the longest."""
    curves = {}
    for name, padding in (("padded to max_length", "max_length"), ("padded to the longest", "longest")):
        set_seed(0)
        student = _student(experiment, task).eval()
        optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate)
        curves[name] = []
        for batch, _ in zip(_padded(experiment, task, padding), range(steps), strict=False):
            curves[name].append(_supervised_step(student, batch, optimiser))
    return curves


def _padded(experiment: Experiment, task: Task, padding: str = "max_length") -> Iterator[dict[str, Tensor]]:
    collate = partial(task.collate, padding=padding, max_length=experiment.max_length)
    for batch in DataLoader(task.train, batch_size=experiment.batch_size, collate_fn=collate):
        batch.pop("index")
        yield {name: part.to(_device()) for name, part in batch.items()}


def _device() -> torch.device:
    """Where the trainer has its model, so that what it is compared with is there too."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def _student(experiment: Experiment, task: Task) -> PreTrainedModel:
    return models.load_student(experiment, task.splits.labels).to(_device())


def _of(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model takes of a batch: a student of alternate layers knows no token types."""
    known = model.config.model_type != "distilbert"
    return {name: part for name, part in batch.items() if known or name != "token_type_ids"}


def _supervised_step(
    model: PreTrainedModel, batch: dict[str, Tensor], optimiser: torch.optim.Optimizer, bf16: bool = False
) -> float:
    """One step on the labels alone; the loss before it."""
    labels = batch.pop("labels")
    with torch.autocast(_device().type, torch.bfloat16) if bf16 else nullcontext():
        logits = model(**_of(model, batch)).logits
    loss = functional.cross_entropy(logits.float(), labels)
    _descend(loss, model, optimiser)
    return loss.item()


def _descend(loss: Tensor, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()


def where_the_time_goes(experiment: Experiment, task: Task, steps: int = 8) -> pd.DataFrame:
    """Share of the processor's time that each operation takes in steps of distillation, the largest first."""
    set_seed(0)
    student = _student(experiment, task).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate, fused=True)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        for batch, _ in zip(_padded(experiment, task, "longest"), range(steps), strict=False):
            _supervised_step(student, batch, optimiser, experiment.bf16)
    events = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    rows = sorted(((event.self_cpu_time_total / total, event.count, event.key) for event in events), reverse=True)
    return pd.DataFrame(rows, columns=["share", "calls", "operation"]).set_index("operation")
