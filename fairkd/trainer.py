"""What `transformers.Trainer` lacks: a weight for every instance, refreshed after an epoch by an exit."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from fairkd import evaluation, methods
from fairkd.data import Splits, tokenize
from fairkd.dedier import distillation_loss
from fairkd.experiment import Experiment
from fairkd.features import pooled_states

log = logging.getLogger("fairkd")


@dataclass(frozen=True)
class Task:
    """The data of one model: its tokenizer and the tokens of both splits.

    The evaluation split is ordered by length, so that the trainer's batches hold little padding.
    """

    splits: Splits
    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    evaluation: Dataset

    @classmethod
    def prepare(cls, splits: Splits, max_length: int, tokenizer: PreTrainedTokenizerBase) -> "Task":
        """Tokenise both splits; the evaluation split comes out in another order than it went in."""
        train, rows = (
            tokenize(frame, splits.entry, tokenizer, max_length) for frame in (splits.train, splits.evaluation)
        )
        order = torch.argsort(torch.tensor(rows["length"][:]), stable=True).tolist()
        ordered = Splits(splits.train, splits.evaluation.iloc[order], splits.entry, splits.dropped)
        return cls(ordered, tokenizer, train, rows.select(order))

    @property
    def labels(self) -> Tensor:
        """(N,) class indices of the training rows."""
        return torch.tensor(self.splits.train["label"].to_numpy())

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Pad to the batch; `labels` and the row's `index` come along."""
        names = [name for name in self.tokenizer.model_input_names if name in rows[0]]
        batch = self.tokenizer.pad([{name: row[name] for name in names} for row in rows], return_tensors="pt")
        return dict(batch) | {name: torch.tensor([row[name] for row in rows]) for name in ("labels", "index")}

    def metrics(self, prediction) -> dict[str, float]:
        """Accuracies of an evaluation by the trainer, one for every row of the group table."""
        probs = torch.from_numpy(prediction.predictions).softmax(-1)
        table = evaluation.predictions_table(self.splits, {"student": probs})
        return evaluation.group_accuracy(table, attribute=self.splits.entry.attribute).to_dict()


class EpochLog(TrainerCallback):
    """A line after every epoch, for whoever waits where no progress table is drawn."""

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        """Say how far the training is, and what it is worth so far."""
        average, worst = metrics["eval_average"], metrics["eval_worst_group"]
        epoch, epochs = round(state.epoch or 0), round(args.num_train_epochs)
        log.info("epoch %d of %d: average %.3f, worst group %.3f", epoch, epochs, average, worst)


class DistillationTrainer(Trainer):
    """Trains on `distillation_loss` with stored teacher logits and one weight an instance.

    Args:
        experiment: temperature, kd_weight and reweight of the loss.
        teacher_logits: (N, C), in the order of the training rows; None trains on the labels alone.
    """

    def __init__(self, *args: Any, experiment: Experiment, teacher_logits: Tensor | None = None, **kwargs: Any):
        """Start with all weights 1."""
        super().__init__(*args, **kwargs)
        self.experiment = experiment
        self.teacher_logits = self.instance_weights = None
        if teacher_logits is not None:
            self.teacher_logits = teacher_logits.to(self.args.device)
            self.instance_weights = torch.ones(len(teacher_logits), device=self.args.device)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> SequentialSampler:
        """In the order of the rows, which `Task.metrics` relies on; group_by_length would shuffle them here too."""
        return SequentialSampler(eval_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The batch's distillation loss; cross-entropy without a teacher, and in evaluation."""
        index = inputs.pop("index")
        if self.teacher_logits is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = distillation_loss(
            outputs.logits,
            self.teacher_logits[index],
            labels,
            self.instance_weights[index],
            temperature=self.experiment.temperature,
            kd_weight=self.experiment.kd_weight,
            reweight=self.experiment.reweight,
        )
        return (loss, outputs) if return_outputs else loss


class Reweighting(TrainerCallback):
    """After an epoch: refit the exit on the student as it is, and weigh every training instance afresh.

    The weights of each epoch are kept in `folder`, where a resumed training finds them.
    """

    def __init__(self, trainer: DistillationTrainer, task: Task, experiment: Experiment, folder: Path):
        """Weigh the instances of `trainer`."""
        self.trainer, self.task, self.experiment, self.folder = trainer, task, experiment, folder
        self.weights = torch.ones(len(task.train))

    def on_train_begin(self, args, state, control, **kwargs):
        """Take up the weights in force at the epoch that training resumes from."""
        self.folder.mkdir(exist_ok=True)
        for part in sorted(self.folder.iterdir()):
            stored = pd.read_parquet(part)
            if stored["epoch"].iloc[0] > round(state.epoch or 0):
                part.unlink()
            else:
                self._apply(torch.tensor(stored["weight"].to_numpy()))

    def on_epoch_end(self, args, state, control, model, **kwargs):
        """Reweigh, unless no epoch follows that would use the weights."""
        epoch = round(state.epoch)
        if epoch % self.experiment.reweight_every or epoch == args.num_train_epochs:
            return
        layer = self.experiment.aux_layer
        states = pooled_states(model, self.task.train, self.task.tokenizer, [layer], self.experiment.pooling)
        fresh = methods.METHODS[self.experiment.method].weights(states[layer], self.task.labels, self.experiment)
        self._apply(methods.merge_weights(self.weights, fresh.float().cpu(), stale=self.experiment.stale_weights))
        part = pd.DataFrame({"epoch": epoch, "id": self.task.splits.train["id"], "weight": self.weights.numpy()})
        part.to_parquet(self.folder / f"{epoch:04d}.parquet")

    def _apply(self, weights: Tensor) -> None:
        self.weights = weights
        scale = weights.mean() if self.experiment.normalize_weights else 1.0
        self.trainer.instance_weights = (weights / scale).to(self.trainer.args.device)

    def table(self) -> pd.DataFrame:
        """All epochs' weights, before normalisation: epoch, id, weight, label, the attribute, group."""
        parts = [pd.read_parquet(part) for part in sorted(self.folder.iterdir())]
        empty = pd.DataFrame({"epoch": [], "id": [], "weight": []})
        who = self.task.splits.train[["id", "label", self.task.splits.entry.attribute, "group"]]
        return pd.concat(parts or [empty], ignore_index=True).merge(who, on="id", how="left")
