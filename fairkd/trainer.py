"""What `transformers.Trainer` lacks: a weight for every instance, and predictions kept after every epoch."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from fairkd import evaluation
from fairkd.data import Splits, tokenize
from fairkd.dedier import distillation_terms, weighted_losses
from fairkd.experiment import Experiment
from fairkd.features import pooled_states
from fairkd.group_dro import GroupWeights, UniformGroupSampler
from fairkd.methods import METHODS, applied_weights, merge_weights

log = logging.getLogger("fairkd")


@dataclass(frozen=True)
class Task:
    """The data of one model: its tokenizer and the tokens of all splits.

    `held_out` has the evaluation and the validation rows, ordered by length, so that the trainer's batches hold little
    padding; its column `split` tells them apart. The evaluation rows alone are in the same order.
    """

    splits: Splits
    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    held_out: pd.DataFrame
    held_out_tokens: Dataset

    @classmethod
    def prepare(cls, splits: Splits, max_length: int, tokenizer: PreTrainedTokenizerBase) -> "Task":
        """Tokenise all splits."""
        held_out = pd.concat(
            [splits.frames[name].assign(split=name) for name in ("evaluation", "validation")], ignore_index=True
        )
        train, tokens = (tokenize(frame, splits.entry, tokenizer, max_length) for frame in (splits.train, held_out))
        order = torch.argsort(torch.tensor(tokens["length"][:]), stable=True).tolist()
        held_out = held_out.iloc[order].reset_index(drop=True)
        return cls(splits, tokenizer, train, held_out, tokens.select(order))

    @property
    def evaluation(self) -> pd.DataFrame:
        """The evaluation rows, ordered by length."""
        return self.held_out[self.held_out["split"] == "evaluation"].reset_index(drop=True)

    @property
    def evaluation_tokens(self) -> Dataset:
        """The tokens of `evaluation`."""
        return self.held_out_tokens.select(np.flatnonzero(self.held_out["split"] == "evaluation"))

    @property
    def labels(self) -> Tensor:
        """(N,) class indices of the training rows."""
        return torch.tensor(self.splits.train["label"].to_numpy())

    @property
    def groups(self) -> Tensor:
        """(N,) group of every training row, counted in the order of `splits.groups`."""
        return torch.tensor(self.splits.train["group"].cat.codes.to_numpy(dtype="int64"))

    def collate(self, rows: list[dict[str, Any]], **padding: Any) -> dict[str, Tensor]:
        """Pad to the batch, or as the tokenizer is told to; `labels` and the row's `index` come along."""
        names = [name for name in self.tokenizer.model_input_names if name in rows[0]]
        inputs = [{name: row[name] for name in names} for row in rows]
        batch = self.tokenizer.pad(inputs, return_tensors="pt", **padding)
        return dict(batch) | {name: torch.tensor([row[name] for row in rows]) for name in ("labels", "index")}


class EpochResults(TrainerCallback):
    """After every epoch: the predictions on all held-out rows to disk, their accuracies to the log.

    The predictions are kept in `folder`, where a resumed training leaves them, so that which epoch to believe can be
    decided afterwards, by one rule or another.
    """

    def __init__(self, task: Task, model: str, folder: Path):
        """Evaluate on `task`; `model` is the name of its columns, "teacher" or "student"."""
        self.task, self.model, self.folder = task, model, folder

    def metrics(self, prediction) -> dict[str, float]:
        """Accuracies of an evaluation by the trainer: every row of the group table, and the validation split's."""
        probs = torch.from_numpy(prediction.predictions).softmax(-1)
        self.table = evaluation.predictions_table(self.task.held_out, {self.model: probs}, self._attribute)
        split = self.table["split"]
        found = evaluation.group_accuracy(self.table[split == "evaluation"], self.model, self._attribute).to_dict()
        if (split == "validation").any():
            held_out = evaluation.group_accuracy(self.table[split == "validation"], self.model, self._attribute)
            found |= {f"validation {row}": held_out[row] for row in ("average", "worst_group")}
        return found

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        """Store the epoch's predictions; say how far the training is, and what it is worth so far."""
        epoch, epochs = round(state.epoch or 0), round(args.num_train_epochs)
        self.folder.mkdir(exist_ok=True)
        self.table.assign(epoch=epoch).to_parquet(self.folder / f"{epoch:04d}.parquet")
        average, worst = metrics["eval_average"], metrics["eval_worst_group"]
        log.info("epoch %d of %d: average %.3f, worst group %.3f", epoch, epochs, average, worst)

    def collect(self) -> pd.DataFrame | None:
        """The predictions of all epochs, with the column `epoch`; None of a model that was not trained."""
        parts = sorted(self.folder.iterdir()) if self.folder.exists() else []
        return pd.concat(map(pd.read_parquet, parts), ignore_index=True) if parts else None

    @property
    def _attribute(self) -> str:
        return self.task.splits.entry.attribute


class DistillationTrainer(Trainer):
    """Trains on `distillation_loss` with stored teacher logits and one weight an instance.

    Attributes:
        instance_weights: (N,) weights in force, on the model's device; `online` takes their place if it is set.
    """

    def __init__(self, *args, experiment: Experiment, teacher_logits: Tensor | None = None, **kwargs):
        """Args as of `Trainer`.

        Args:
            teacher_logits: (N, C), row for row those of the training data; None trains on the labels alone.
        """
        super().__init__(*args, **kwargs)
        self.experiment = experiment
        self.teacher_logits = None if teacher_logits is None else teacher_logits.to(self.args.device)
        self.instance_weights = torch.ones(len(self.train_dataset), device=self.args.device)
        self.online: GroupWeights | None = None

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """All rows once, batches of similar length; with online group weights, rows of uniform groups."""
        lengths = self.train_dataset["length"][:]
        if self.online:
            return UniformGroupSampler(self.online.group_of.cpu(), lengths, self.args.train_batch_size)
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            sampler.lengths = lengths  # it would sort by a column on disk, a tenth of a millisecond a row
        return sampler

    def _get_eval_sampler(self, eval_dataset: Dataset) -> SequentialSampler:
        """In the order of the rows, which `EpochResults.metrics` relies on; group_by_length would shuffle them."""
        return SequentialSampler(eval_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The batch's distillation loss; cross-entropy without a teacher, and in evaluation."""
        index = inputs.pop("index")
        if self.teacher_logits is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        given = self.experiment
        ce, kd = distillation_terms(outputs.logits, self.teacher_logits[index], labels, given.temperature)
        if self.online:
            weights = self.online.step(weighted_losses(ce, kd, 1.0, given.kd_weight, given.reweight), index)
        else:
            weights = self.instance_weights[index]
        loss = weighted_losses(ce, kd, weights, given.kd_weight, given.reweight).mean()
        return (loss, outputs) if return_outputs else loss


class Reweighting(TrainerCallback):
    """Weighs every training instance when the method says so: before the first epoch, after an epoch, at every step.

    The weights of each epoch are kept in `folder`, where a resumed training finds them.
    """

    def __init__(
        self,
        trainer: DistillationTrainer,
        task: Task,
        experiment: Experiment,
        folder: Path,
        early_probs: Tensor | None = None,
    ):
        """Weigh the instances of `trainer`; `early_probs` (N, C) are the early model's, if the method has one."""
        self.trainer, self.task, self.experiment, self.folder = trainer, task, experiment, folder
        self.method = METHODS[experiment.method]
        self.early_probs = early_probs
        self.weights = torch.ones(len(task.train))
        if self.method.online:
            trainer.online = self.method.online(task.groups, experiment).to(trainer.args.device)

    def on_train_begin(self, args, state, control, **kwargs):
        """Take up the weights in force at the epoch that training resumes from."""
        self.folder.mkdir(exist_ok=True)
        if self.method.early:
            self._store(0, self.method.early(self.early_probs, self.task.labels, self.experiment))
        for part in sorted(self.folder.iterdir()):
            stored = pd.read_parquet(part)
            if stored["epoch"].iloc[0] > round(state.epoch or 0):
                part.unlink()
            else:
                self._apply(torch.tensor(stored["weight"].to_numpy()))

    def on_epoch_end(self, args, state, control, model, **kwargs):
        """Reweigh, unless no epoch follows that would use the weights."""
        epoch = round(state.epoch)
        if self.method.online:
            self._store(epoch, self.trainer.online.instance_weights.cpu())
        given = self.experiment
        due = epoch >= given.warm_start_epochs and (epoch - given.warm_start_epochs) % given.reweight_every == 0
        if not self.method.refit or not due or epoch == args.num_train_epochs:
            return
        layers = self.method.layers(given)
        states = pooled_states(model, self.task.train, self.task.tokenizer, layers, given.pooling, bf16=given.bf16)
        fresh = self.method.refit(states, self.task.labels, given)
        self._store(epoch, merge_weights(self.weights, fresh.float().cpu(), stale=given.stale_weights))

    def _store(self, epoch: int, weights: Tensor) -> None:
        self._apply(weights)
        part = pd.DataFrame({"epoch": epoch, "id": self.task.splits.train["id"], "weight": weights.numpy()})
        part.to_parquet(self.folder / f"{epoch:04d}.parquet")

    def _apply(self, weights: Tensor) -> None:
        self.weights = weights
        if self.trainer.online:
            self.trainer.online.restore(weights)
        self.trainer.instance_weights = applied_weights(weights, self.experiment).to(self.trainer.args.device)

    def table(self) -> pd.DataFrame:
        """All epochs' weights as the method gave them: epoch, id, weight, label, the attribute, group."""
        parts = [pd.read_parquet(part) for part in sorted(self.folder.iterdir())]
        empty = pd.DataFrame({"epoch": [], "id": [], "weight": []})
        who = self.task.splits.train[["id", "label", self.task.splits.entry.attribute, "group"]]
        return pd.concat(parts or [empty], ignore_index=True).merge(who, on="id", how="left")
