"""What happens around an epoch: its predictions are kept, and every instance is weighed anew."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from torch import Tensor
from transformers.trainer_callback import ProgressCallback, TrainerCallback

from fairkd import evaluation, files, ranks
from fairkd.exits.design import feature_norm
from fairkd.experiment import Experiment
from fairkd.training.reading import reading
from fairkd.training.task import Task
from fairkd.weighting import Adjustment, ByEarlyModel, ByGroupLoss, Lifted, Rereads, usable

log = logging.getLogger("fairkd")


def held_out_accuracies(table: pd.DataFrame, model: str, attribute: str) -> dict[str, float]:
    """Every row of the group table on the evaluation split of a predictions table, and the validation split's two."""
    split = table["split"]
    found = evaluation.group_accuracy(table[split == "evaluation"], model, attribute).to_dict()
    if (split == "validation").any():
        held_out = evaluation.group_accuracy(table[split == "validation"], model, attribute)
        found |= {f"validation {row}": held_out[row] for row in ("average", "worst_group")}
    return found


class EpochResults(TrainerCallback):
    """After every epoch: the predictions on all held-out rows to disk, their accuracies to the log.

    The predictions are kept in `folder`, where a resumed training leaves them, so that which epoch to believe can be
    decided afterwards, by one rule or another.
    """

    def __init__(self, task: Task, model: str, folder: Path):
        """Evaluate on `task`; `model` is the name of its columns, "teacher" or "student"."""
        self.task, self.model, self.folder = task, model, folder
        self.after_epoch: Callable[[int, pd.DataFrame], None] | None = None  # told of every epoch; may stop by raising

    def metrics(self, prediction) -> dict[str, float]:
        """Accuracies of an evaluation by the trainer: every row of the group table, and the validation split's."""
        probs = torch.from_numpy(prediction.predictions).softmax(-1)
        attribute = self.task.splits.attribute
        self.table = evaluation.predictions_table(self.task.held_out, {self.model: probs.numpy()}, attribute)
        return held_out_accuracies(self.table, self.model, attribute)

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        """Store the epoch's predictions; say how far the training is, and what it is worth so far."""
        if not state.is_world_process_zero:
            return
        epoch, epochs = round(state.epoch or 0), round(args.num_train_epochs)
        self.folder.mkdir(exist_ok=True)
        files.write_table(self.folder / f"{epoch:04d}.parquet", self.table.assign(epoch=epoch))
        average, worst = metrics["eval_average"], metrics["eval_worst_group"]
        log.info("epoch %d of %d: average %.3f, worst group %.3f", epoch, epochs, average, worst)
        if self.after_epoch:
            self.after_epoch(epoch, self.table)

    def collect(self) -> pd.DataFrame | None:
        """The predictions of all epochs, with the column `epoch`; None of a model that was not trained."""
        parts = sorted(self.folder.glob("*.parquet")) if self.folder.exists() else []
        return pd.concat(map(pd.read_parquet, parts), ignore_index=True) if parts else None


class Progress(ProgressCallback):
    """The trainer's bar over all steps, without its dictionaries, which `EpochResults` says in a line an epoch."""

    def on_train_begin(self, args, state, control, **kwargs):
        """Refresh every few seconds: a notebook keeps every line."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar:  # in the first of several processes
            self.training_bar.mininterval = 5

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """No bar for what takes a part of an epoch."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Nothing: see the class."""


class Finite(TrainerCallback):
    """Stops a training whose loss is no number, before anything of its epoch is stored.

    The trainer notes on its device from which step on; the host asks every hundred steps, since a GPU waits for that.
    """

    def __init__(self, trainer: transformers.Trainer, experiment: Experiment, role: str):
        """Watch `trainer`, of the "teacher" or the "student"."""
        self.trainer, own = trainer, experiment.resolved()
        likely = ("teacher_learning_rate",) if role == "teacher" else ("learning_rate", "beta", "group_step_size")
        self.likely = " or ".join(f"{name} (now {own[name]:g})" for name in likely if name in own)

    def on_step_end(self, args, state, control, **kwargs):
        """Raises FloatingPointError, with the epoch, the step and what to lower."""
        if state.global_step % 100 == 0:
            self._stop_from(self.trainer.first_diverged(), state)

    def on_epoch_end(self, args, state, control, **kwargs):
        """The check of `on_step_end`, before anybody reads the model."""
        self._stop_from(self.trainer.first_diverged(), state)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """The same of what the trainer logs."""
        for name in ("eval_loss", "grad_norm"):
            if not math.isfinite(float((logs or {}).get(name, 0.0))):
                self._stop_from(state.global_step, state, name)

    def _stop_from(self, step: int, state, what: str = "loss") -> None:
        if step:
            epoch = math.ceil(step * state.num_train_epochs / state.max_steps)
            raise FloatingPointError(
                f"{what} is not finite from epoch {epoch}, step {step} on: the training diverged; lower {self.likely}"
            )


class _EveryInstance(TrainerCallback):
    """Sets something of every training instance after epochs: a column or more, in the order of the training rows.

    What is in force after each epoch is kept in `folder`, where a resumed training finds it.
    """

    def __init__(self, trainer: transformers.Trainer, task: Task, experiment: Experiment, folder: Path):
        """Set it of the instances of `trainer`."""
        self.trainer, self.task, self.experiment, self.folder = trainer, task, experiment, folder
        self.method, self.exits = experiment.weighting, experiment.exits(len(task.splits.entry.labels))
        if isinstance(self.method, Rereads):
            states = folder.with_name("features")  # of the run, which are not kept
            self.read = reading(experiment, task.splits, task.splits.train, task.tokenizer, folder=states)

    def on_train_begin(self, args, state, control, **kwargs):
        """Take up what is in force at the epoch that training resumes from."""
        self.folder.mkdir(exist_ok=True)
        self.begin()
        for part in sorted(self.folder.glob("*.parquet")):
            self.take_up(pd.read_parquet(part))

    def begin(self) -> None:
        """Set what is known before the first epoch."""

    def take_up(self, part: pd.DataFrame) -> None:
        """Put what an epoch kept in force."""
        raise NotImplementedError

    def due(self, epoch: int, args) -> bool:
        """Whether an exit is fitted anew after this epoch: not where no epoch follows that would use it."""
        return isinstance(self.method, Rereads) and self.method.due(epoch) and epoch != args.num_train_epochs

    def features(self, model, epoch: int) -> dict[int, Tensor]:
        """What the method's exit is fed of every training instance by the student as it is: {layer: (N, D)}."""
        features = self.read(model)
        for layer in [layer for layer, phi in features.items() if not math.isfinite(feature_norm(phi))]:
            raise FloatingPointError(
                f"features of layer {layer} after epoch {epoch} are not finite: the training diverged; lower "
                f"learning_rate (now {self.experiment.learning_rate:g})"
            )
        return features

    def keep(self, epoch: int, columns: dict[str, np.ndarray]) -> None:
        """Write what is in force after an epoch."""
        if not ranks.first():
            return
        part = pd.DataFrame({"epoch": epoch, "id": self.task.splits.train["id"]} | columns)
        files.write_table(self.folder / f"{epoch:04d}.parquet", part)

    def table(self) -> pd.DataFrame:
        """What was kept of all epochs, with the instances' label, attribute and group."""
        parts = [pd.read_parquet(part) for part in sorted(self.folder.glob("*.parquet"))]
        empty = pd.DataFrame({"epoch": [], "id": [], "weight": [], "given": []})
        who = self.task.splits.train[["id", "label", self.task.splits.attribute, "group"]]
        return pd.concat(parts or [empty], ignore_index=True).merge(who, on="id", how="left")


class Reweighting(_EveryInstance):
    """Weighs every training instance when the method says so: before the first epoch, after an epoch, at every step.

    Kept are the weights as the method gave them, and as the loss used them.
    """

    def __init__(
        self,
        trainer: transformers.Trainer,
        task: Task,
        experiment: Experiment,
        folder: Path,
        early_probs: Tensor | None = None,
    ):
        """Weigh the instances of `trainer`; `early_probs` (N, C) are the early model's, if the method has one."""
        super().__init__(trainer, task, experiment, folder)
        self.early_probs, self.given = early_probs, torch.ones(len(task.train))
        if isinstance(self.method, ByGroupLoss):
            trainer.online = self.method.start(task.groups).to(trainer.args.device)

    def begin(self) -> None:
        """See `_EveryInstance.begin`."""
        if isinstance(self.method, ByEarlyModel):
            given = self.method.weights(self.early_probs, self.task.labels)
            self._store(0, usable(self.method, given, len(self.task.train)))

    def take_up(self, part: pd.DataFrame) -> None:
        """See `_EveryInstance.take_up`."""
        self._apply(torch.tensor(part["given"].to_numpy()))

    def on_epoch_end(self, args, state, control, model, **kwargs):
        """Reweigh, unless no epoch follows that would use the weights."""
        epoch = round(state.epoch)
        if isinstance(self.method, ByGroupLoss):
            self._store(epoch, self.trainer.online.instance_weights.cpu())
        if self.due(epoch, args):
            self._store(epoch, ranks.told(lambda: self._fresh(model, epoch)))

    def _fresh(self, model, epoch: int) -> Tensor:
        """(N,) the weights that the method gives by the student as it is."""
        fresh = self.method.weights(self.features(model, epoch), self.task.labels, self.exits)
        return self.method.merged(self.given, usable(self.method, fresh, len(self.task.train)).cpu())

    def _store(self, epoch: int, given: Tensor) -> None:
        used = self._apply(given)
        if not used.isfinite().all():
            advice = "; lower beta, or set weight_cap" if "beta" in type(self.method).model_fields else ""
            raise FloatingPointError(f"the weights of {self.method.name} after epoch {epoch} are not finite{advice}")
        self.keep(epoch, {"weight": used.numpy(), "given": given.numpy()})

    def _apply(self, given: Tensor) -> Tensor:
        """Put the method's weights into the loss; returned as the loss uses them."""
        self.given = given
        if self.trainer.online:
            self.trainer.online.restore(given)
        used = self.method.applied(given, self.experiment.seed) if isinstance(self.method, Lifted) else given
        self.trainer.instance_weights = used.to(self.trainer.args.device)
        return used


class Rereading(_EveryInstance):
    """Tells the loss what a biased reader, fitted anew after epochs, says of every training instance.

    Kept are the reader's probabilities, a column `prob_{class index}` each.
    """

    def take_up(self, part: pd.DataFrame) -> None:
        """See `_EveryInstance.take_up`."""
        self._apply(torch.tensor(part.filter(regex=r"^prob_\d+$").to_numpy()))

    def on_epoch_end(self, args, state, control, model, **kwargs):
        """Ask the reader, unless no epoch follows that would use it."""
        epoch = round(state.epoch)
        if self.due(epoch, args):
            probs = ranks.told(lambda: self._fresh(model, epoch))
            self._apply(probs)
            self.keep(epoch, {f"prob_{c}": probs[:, c].numpy() for c in range(probs.shape[1])})

    def _fresh(self, model, epoch: int) -> Tensor:
        """(N, C) what the reader says by the student as it is."""
        [phi] = self.features(model, epoch).values()
        return self.exits.head(phi, self.task.labels).logits(phi).softmax(-1).float().cpu()

    def _apply(self, probs: Tensor) -> None:
        parts = self.method.adjustment(probs, self.task.labels)
        device = self.trainer.args.device
        self.trainer.adjustment = Adjustment(*(None if part is None else part.to(device) for part in parts))
