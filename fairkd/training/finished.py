"""What a finished student is asked: its answers, its exits and their uncertainty, further evaluation sets.

Runs of their own: another posterior, predictive or subset of the evaluation rows trains nothing again.
"""

import json
import logging
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from fairkd import evaluation, files, runs
from fairkd.data import EvaluationSet, Splits, evaluation_identity, load, load_evaluation, tokenize
from fairkd.evaluation import class_probabilities
from fairkd.exits.storage import stored_posterior
from fairkd.experiment import Experiment
from fairkd.runs import Run
from fairkd.training import models
from fairkd.training.arithmetic import arithmetic, choose_instructions
from fairkd.training.checks import check
from fairkd.training.features import logits, pooled_states
from fairkd.training.refit import refit_student
from fairkd.training.student import student_name, train_student
from fairkd.training.teacher import fine_tune, teacher_name, teacher_run, write_metrics

log = logging.getLogger("fairkd")


def distil(experiment: Experiment, *, splits: Splits | None = None, exits: bool = True) -> Run:
    """The student distilled by the experiment's method, its exits fitted: finished runs are reused, others made now.

    The run holds exits.safetensors, posteriors.safetensors, metrics.json, predictions.parquet (teacher, student, and
    the exit at every layer with its Laplace predictive) and validation.parquet (the exits, of validation rows). It
    answers for the run of the student's training too (model/, epochs.parquet, history.parquet, weights.parquet), see
    `student.train_student`.

    Args:
        splits: the experiment's data, where `check` has loaded them already.
        exits: False fits none, which saves a sixth or more of the time: of the files above the run then holds
            metrics.json and predictions.parquet, of teacher and student alone.

    Raises:
        ParameterError, DataError: see `check`.
    """
    splits = check(experiment) if splits is None else splits
    teacher = fine_tune(experiment, splits=splits)
    ask = _read_exits if exits else _read_answers
    return ask(experiment, splits, teacher, made(experiment, splits))


def made(experiment: Experiment, splits: Splits, after_epoch: Callable[[int, pd.DataFrame], None] | None = None) -> Run:
    """The run of a student's training or refit, without its exits: found, or made now; see `train_student`."""
    if experiment.weighting.refits_head:
        return refit_student(experiment, splits=splits)
    return train_student(experiment, splits=splits, after_epoch=after_epoch)


def _read_exits(experiment: Experiment, splits: Splits, teacher: Run, student: Run) -> Run:
    """The run of a finished student's exits: found, or made now."""

    def compute(folder: Path) -> None:
        log.info("fitting the exits of %s", student.folder.name)
        rows, probs = _answers(splits, teacher, student)
        if experiment.weighting.refits_head:  # whose layers, and so whose exits, are those of the plain student
            probs |= _exits_of(distil(experiment.base(), splits=splits), rows["id"], folder)
        else:
            told = _exits(experiment, splits, rows, student, folder)
            probs |= told["evaluation"]
            held_out = evaluation.predictions_table(splits.validation, told["validation"], splits.attribute)
            files.write_table(folder / "validation.parquet", held_out)
        _write_answers(folder, splits, rows, probs)

    with models.quiet(), arithmetic(experiment):
        return runs.make("exits", _exits_identity(experiment), compute, of=student)


def _read_answers(experiment: Experiment, splits: Splits, teacher: Run, student: Run) -> Run:
    """The run of what teacher and finished student say of the evaluation rows: found, or made now."""

    def compute(folder: Path) -> None:
        _write_answers(folder, splits, *_answers(splits, teacher, student))

    return runs.make("answers", _answers_identity(experiment), compute, of=student)


def _answers(splits: Splits, teacher: Run, student: Run) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The evaluation rows, in the order of the student's predictions; {model: (N, C) probabilities} of them."""
    own = student.table("predictions")
    own = own[own["id"].isin(splits.evaluation["id"])]
    taught = teacher.table("predictions").set_index("id").loc[own["id"]]
    probs = {"teacher": class_probabilities(taught, "teacher"), "student": class_probabilities(own, "student")}
    return splits.evaluation.set_index("id", drop=False).loc[own["id"]], probs


def _write_answers(folder: Path, splits: Splits, rows: pd.DataFrame, probs: dict[str, np.ndarray]) -> None:
    """predictions.parquet and metrics.json of all models in `probs`."""
    table = evaluation.predictions_table(rows, probs, splits.attribute)
    files.write_table(folder / "predictions.parquet", table)
    reports = {name: evaluation.group_report(table, name, attribute=splits.attribute) for name in probs}
    write_metrics(folder, splits.dropped, reports)


def student_run(experiment: Experiment) -> Run:
    """The finished run of the experiment's student; its exits are fitted now if nobody has asked for these before.

    Raises:
        MissingRunError: the student is not trained yet; the message says which notebook does it.
    """
    choose_instructions(experiment)  # its run may be there, and what is asked of it compute before anything is trained
    command = f"papermill notebooks/02_student.ipynb out.ipynb -r student {shlex.quote(experiment.spec)}"
    student = runs.find_or_explain(student_name(experiment), f"{command} -p seed {experiment.seed}")
    if found := runs.find(exits_name(experiment)):
        return Run(found.folder, student)
    return _read_exits(experiment, load(experiment), teacher_run(experiment), student)


def evaluate_on(experiment: Experiment, name: str) -> Run:
    """What a finished student and its teacher say of a further evaluation set, in its own groups.

    The run holds predictions.parquet and metrics.json; where the set has fewer classes, theirs are merged as it says.

    Args:
        name: an entry of `evaluate_on`: a data set's name or file.

    Raises:
        MissingRunError: the student is not trained yet.
        DataError: the set cannot be had.
    """
    student = student_run(experiment)
    further = load_evaluation(name, experiment, experiment.entry.labels)

    def compute(folder: Path) -> None:
        log.info("asking %s of %s", student.folder.name, name)
        probs = {"teacher": _asked(teacher_run(experiment), further, experiment)}
        probs["student"] = _asked(student, further, experiment)
        table = evaluation.predictions_table(further.frame, probs, further.attribute)
        files.write_table(folder / "predictions.parquet", table)
        reports = {who: evaluation.group_report(table, who, attribute=further.attribute) for who in probs}
        write_metrics(folder, further.dropped, reports)

    parameters = {"student": student.folder.name, "set": further.identity}
    with models.quiet(), arithmetic(experiment):
        return runs.make("evaluation", runs.identity(parameters, __name__, *further.entry.code), compute, of=student)


def _asked(run: Run, further: EvaluationSet, experiment: Experiment) -> np.ndarray:
    """(N, C') probabilities of a run's model on a further set, over that set's classes.

    Where several of the student's classes are one there, the likeliest stands for them, so that the answer is the
    translation of the student's own (McCoy et al. 2019, section 4); then all are scaled to sum 1.
    """
    model, tokenizer = models.reopened(run)
    tokens = tokenize(further.frame, further.entry, tokenizer, experiment.max_length)
    probs = logits(model, tokens, tokenizer, bf16=experiment.bf16).softmax(-1).double().numpy()
    merged = (probs[:, :, None] * further.merge).max(axis=1)
    return merged / merged.sum(axis=1, keepdims=True)


def exits_name(experiment: Experiment) -> str:
    """The run of the exits of the experiment's student."""
    return runs.run_name("exits", _exits_identity(experiment))


def answers_name(experiment: Experiment) -> str:
    """The run of what the experiment's student and teacher say of the evaluation rows."""
    return runs.run_name("answers", _answers_identity(experiment))


def _exits_identity(experiment: Experiment) -> dict[str, Any]:
    posterior = type(experiment.finished().posterior)
    parameters = _asked_of(experiment) | experiment.exits_parameters()
    return runs.identity(parameters, __name__, posterior, *experiment.data_code)


def _answers_identity(experiment: Experiment) -> dict[str, Any]:
    parameters = _asked_of(experiment) | evaluation_identity(experiment)
    return runs.identity(parameters, __name__, *experiment.data_code)


def _asked_of(experiment: Experiment) -> dict[str, str]:
    return {"student": student_name(experiment), "teacher": teacher_name(experiment)}


def _exits_of(plain: Run, ids: pd.Series, folder: Path) -> dict[str, np.ndarray]:
    """The exits of another run: stored in `folder` too; their probabilities on the rows of `ids`."""
    for name in ("exits.safetensors", "posteriors.safetensors", "validation.parquet"):
        shutil.copyfile(plain.path(name), folder / name)
    told = plain.table("predictions").set_index("id").loc[ids]
    names = [column.removesuffix("_margin") for column in told if column.endswith("_margin")]
    return {name: class_probabilities(told, name) for name in names if name not in ("teacher", "student")}


def _exits(
    experiment: Experiment, splits: Splits, rows: pd.DataFrame, student: Run, folder: Path
) -> dict[str, dict[str, np.ndarray]]:
    """An exit at every layer of the trained student, stored in `folder`; {split: {exit: (N, C) probabilities}}.

    Of the splits "evaluation" (its `rows`) and "validation". The features lie on disk meanwhile, so that memory holds
    those of one layer.
    """
    model, tokenizer = models.reopened(student)
    exits = experiment.finished(len(splits.labels))
    layers = list(range(1, model.config.num_hidden_layers + 1))
    features = {}
    for name, frame in {"train": splits.train, "evaluation": rows, "validation": splits.validation}.items():
        if len(frame):
            tokens = tokenize(frame, splits.entry, tokenizer, experiment.max_length)
            kept = folder / "features" / name
            features[name] = pooled_states(
                model, tokens, tokenizer, layers, exits.options.pooling, bf16=experiment.bf16, folder=kept
            )
    labels = torch.tensor(splits.train["label"].to_numpy())
    train = features.pop("train")
    probs: dict[str, dict[str, np.ndarray]] = {"evaluation": {}, "validation": {}}
    tensors, priors, factors, stated = {}, {}, {}, {}
    for layer in layers:
        name = f"exit{layer}"
        head = exits.head(train[layer], labels)
        posterior = exits.uncertain(head, train[layer], labels)
        for split, states in features.items():
            probs[split][name] = head.logits(states[layer]).softmax(-1).numpy()
            probs[split][f"{name}_laplace"] = posterior.probabilities(states[layer]).numpy()
        tensors |= {f"{name}.{part}": tensor for part, tensor in head.tensors().items()}
        priors[name] = head.exit.prior_precision
        parts, stated[name] = stored_posterior(posterior)
        factors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    # One entry, since safetensors writes several in any order.
    options = json.dumps({"pooling": exits.options.pooling, "prior_precision": priors})
    save_file(tensors, folder / "exits.safetensors", {"exits": options})
    save_file(factors, folder / "posteriors.safetensors", {"posteriors": json.dumps(stated)})
    return probs
