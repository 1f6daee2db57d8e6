"""The last layer of a finished student fitted anew, with weights: the student remains an ordinary checkpoint.

The features are made once for each plain student and kept among the caches, so that another refit costs seconds.
"""

import logging
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fairkd import evaluation, files, runs
from fairkd.data import Splits, tokenize
from fairkd.evaluation.groups import importance_of
from fairkd.exits.laplace import select_prior_precision
from fairkd.exits.linear import LinearExit
from fairkd.experiment import Experiment
from fairkd.runs import Run
from fairkd.training import models
from fairkd.training.arithmetic import arithmetic
from fairkd.training.callbacks import held_out_accuracies
from fairkd.training.cards import write_card
from fairkd.training.features import head_inputs
from fairkd.training.reading import reading
from fairkd.training.student import student_identity, train_probabilities, train_student
from fairkd.training.teacher import history_table, teacher_run
from fairkd.weighting import ByEarlyModel, ByExit, InRefit, Seen, usable

log = logging.getLogger("fairkd")


def refit_student(experiment: Experiment, *, splits: Splits) -> Run:
    """The plain student with its last layer at the MAP of the weighted training (or validation) rows.

    The run holds what a trained student's does: model/, predictions.parquet, epochs.parquet (one epoch, the last),
    history.parquet, weights.parquet. Predictions are those of the last layer in float32.

    Raises:
        ValueError: the student's last layer has no bias.
        RuntimeError: see `LinearExit.fit`.
    """
    base = train_student(experiment.base(), splits=splits)
    method = experiment.weighting
    early = train_student(experiment.early(), splits=splits) if isinstance(method, ByEarlyModel) else None

    def compute(folder: Path) -> None:
        log.info("refitting the last layer of %s, method %s", base.folder.name, experiment.method)
        student = Finished(experiment, splits, base)
        rows = "validation" if method.refits_on_validation else "train"
        given = given_weights(experiment, student, early, rows)
        used = method.applied(given, experiment.seed)
        exit = refitted_head(experiment, student, rows, used)
        student.save(exit, folder / "model")
        frame = splits.frames[rows]
        epoch = experiment.student_epochs
        table = pd.DataFrame({"epoch": epoch, "id": frame["id"], "weight": used.numpy(), "given": given.numpy()})
        who = frame[["id", "label", splits.attribute, "group"]]
        files.write_table(folder / "weights.parquet", table.merge(who, on="id", how="left"))
        held_out = student.asked(exit)
        files.write_table(folder / "epochs.parquet", held_out.assign(epoch=epoch))
        found = held_out_accuracies(held_out, "student", splits.attribute)
        logged = {"epoch": epoch} | {f"eval_{name}": value for name, value in found.items()}
        files.write_table(folder / "history.parquet", history_table([logged], "student"))
        asked = held_out[held_out["split"] == "evaluation"].drop(columns="split")
        files.write_table(folder / "predictions.parquet", asked.reset_index(drop=True))
        teacher = teacher_run(experiment).table("predictions") if method.uses_teacher else None
        write_card(folder, experiment, splits, "student", teacher)

    with models.quiet(), arithmetic(experiment):
        return runs.make(experiment.method, student_identity(experiment), compute)


class Finished:
    """A plain student that is trained, and the features of its rows, each made once and kept among the caches."""

    def __init__(self, experiment: Experiment, splits: Splits, run: Run):
        """Open the student of `run`."""
        self.experiment, self.splits, self.run = experiment, splits, run
        self.model, self.tokenizer = models.reopened(run)
        self.frames = splits.frames | {"evaluation": splits.whole_evaluation}
        self._inputs: dict[str, Tensor] = {}

    @property
    def head(self) -> LinearExit:
        """The last layer as it was trained."""
        layer = _with_bias(models.output_layer(self.model))
        weight, bias = (part.detach().cpu().double() for part in (layer.weight, layer.bias))
        return LinearExit(weight, bias)

    def labels(self, rows: str) -> Tensor:
        """(N,) class indices of a split's rows."""
        return torch.tensor(self.frames[rows]["label"].to_numpy())

    def head_inputs(self, rows: str) -> Tensor:
        """(N, D) what the last layer is given on a split's rows; read once, for many refits."""

        def compute(folder: Path) -> None:
            frame, given = self.frames[rows], self.experiment
            tokens = tokenize(frame, self.splits.entry, self.tokenizer, given.max_length)
            inputs = head_inputs(self.model, tokens, self.tokenizer, bf16=given.bf16)
            save_file({"inputs": inputs}, folder / "inputs.safetensors")

        if rows not in self._inputs:
            self._inputs[rows] = load_file(self._cached(f"head-{rows}", compute) / "inputs.safetensors")["inputs"]
        return self._inputs[rows]

    def read(self, rows: str) -> dict[int, Tensor]:
        """{layer: (N, D)} what the method's exit is fed on a split's rows."""
        method = self.experiment.weighting
        read = reading(self.experiment, self.splits, self.frames[rows], self.tokenizer)
        if method.reader == "words":
            return read(self.model)

        def compute(folder: Path) -> None:
            states = read(self.model)
            save_file({str(layer): phi for layer, phi in states.items()}, folder / "states.safetensors")

        what = f"{rows}-{method.exit_reads}-{method.layers}-{self.experiment.pooling}"
        stored = load_file(self._cached(what, compute) / "states.safetensors")
        return {int(layer): phi for layer, phi in stored.items()}

    def asked(self, exit: LinearExit) -> pd.DataFrame:
        """The predictions on all evaluation and validation rows, with `exit` as the last layer; `split` tells them."""
        parts = []
        for name in [name for name in ("evaluation", "validation") if len(self.frames[name])]:
            probs = {"student": exit.logits(self.head_inputs(name)).softmax(-1).numpy()}
            rows = self.frames[name].assign(split=name)
            parts.append(evaluation.predictions_table(rows, probs, self.splits.attribute))
        return pd.concat(parts, ignore_index=True)

    def save(self, exit: LinearExit, folder: Path) -> None:
        """Write the student with another last layer."""
        layer = _with_bias(models.output_layer(self.model))
        with torch.no_grad():
            layer.weight.copy_(exit.weight)
            layer.bias.copy_(exit.bias)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _cached(self, what: str, compute) -> Path:
        return runs.cached(f"states-{runs.digest(self.run.folder.name, what, str(self.experiment.bf16))}", compute)


def given_weights(experiment: Experiment, student: Finished, early: Run | None, rows: str) -> Tensor:
    """(N,) weights as the method gives them.

    Raises:
        ValueError: see `weighting.usable`.
    """
    labels = student.labels(rows)
    return usable(experiment.weighting, _weights(experiment, student, early, rows, labels), len(labels))


def _weights(experiment: Experiment, student: Finished, early: Run | None, rows: str, labels: Tensor) -> Tensor:
    method, splits = experiment.weighting, student.splits
    if isinstance(method, ByEarlyModel):
        return method.weights(train_probabilities(early, splits, experiment), labels)
    if isinstance(method, ByExit):
        return method.weights(student.read(rows), labels, experiment.exits(len(splits.labels)))
    groups = torch.tensor(splits.frames[rows]["group"].cat.codes.to_numpy(dtype="int64"))
    importance = torch.tensor(importance_of(splits.frames[rows]))
    probs, exit_probs = student.head.logits(student.head_inputs(rows)).softmax(-1), None
    if experiment.aux_layer:
        exit_probs = exit_logits(experiment, student, rows).softmax(-1)
    return method.weights(Seen(labels, groups, importance, probs, exit_probs))


def exit_logits(experiment: Experiment, student: Finished, rows: str) -> Tensor:
    """(N, C) what the exit at aux_layer, fitted on the training rows, says of a split's rows."""
    states = {split: student.read(split) for split in ("train", rows)}
    fitted, asked = (states[split][max(states[split])] for split in ("train", rows))
    head = experiment.exits(len(student.splits.labels)).head(fitted, student.labels("train"))
    return head.logits(asked)


def refitted_head(experiment: Experiment, student: Finished, rows: str, weights: Tensor) -> LinearExit:
    """The last layer at its MAP on a split's rows."""
    method, splits = experiment.weighting, student.splits
    inputs, labels = student.head_inputs(rows), student.labels(rows)
    n_classes, tau = len(splits.labels), method.head_prior_precision
    if tau == "evidence":  # of as many rows as there are: weights of 2 would be a second observation of each
        return select_prior_precision(inputs, labels, n_classes, weights=weights / weights.mean())[0]
    old = student.head if isinstance(method, InRefit) and method.towards_old else None
    return LinearExit.fit(inputs, labels, tau, n_classes, weights=weights, towards=old)


def _with_bias(layer: nn.Linear) -> nn.Linear:
    if layer.bias is None:
        raise ValueError("the student's last layer has no bias to refit; choose another student_model")
    return layer
