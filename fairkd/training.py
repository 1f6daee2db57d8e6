"""Fine-tune a teacher, distil a student, and leave on disk all that the analysis reads."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from fairkd import evaluation, models, runs
from fairkd.data import Splits, load
from fairkd.experiment import Experiment
from fairkd.features import logits, pooled_states
from fairkd.heads import fit_head, fit_posterior
from fairkd.methods import METHODS
from fairkd.runs import Run
from fairkd.tables import class_probabilities
from fairkd.trainer import DistillationTrainer, EpochResults, Reweighting, Task

log = logging.getLogger("fairkd")


def check(experiment: Experiment) -> Splits:
    """Load the data and look at the models' configurations, so that what is wrong is said before any training.

    Raises:
        ParameterError: a model that cannot be had or does not fit, an aux_layer that the student does not have.
        DataError: data that cannot be had or are not what their entry says.
    """
    splits = load(experiment)
    models.check(experiment, splits.entry.labels)
    return splits


def fine_tune(experiment: Experiment, *, splits: Splits | None = None) -> Run:
    """The teacher fine-tuned on the labels: the finished run of the same parameters, or trained now.

    The run holds model/, config.yaml, metrics.json, predictions.parquet, epochs.parquet, history.parquet and
    train_logits.parquet, the logits of every training row that students distil from.

    Args:
        splits: the experiment's data, where `check` has loaded them already.

    Raises:
        ParameterError, DataError: see `check`.
    """
    return _teacher(experiment, check(experiment) if splits is None else splits)


def distil(experiment: Experiment, *, splits: Splits | None = None) -> Run:
    """The student distilled by the experiment's method: the finished run of the same parameters, or trained now.

    The teacher is taken from its run, or fine-tuned first; so is the early model of a method that has one. The run
    holds model/ (with exits.safetensors beside the weights), config.yaml, metrics.json, predictions.parquet (teacher,
    student, and the exit at every layer with its Laplace predictive), epochs.parquet (the student after every epoch,
    on evaluation and validation rows), history.parquet and, of a re-weighting method, weights.parquet.

    Args:
        splits: the experiment's data, where `check` has loaded them already.

    Raises:
        ParameterError, DataError: see `check`.
    """
    return _student(experiment, check(experiment) if splits is None else splits)


def _teacher(experiment: Experiment, splits: Splits) -> Run:
    parameters = experiment.teacher_parameters()

    def compute(folder: Path) -> None:
        log.info("no teacher with these parameters yet: fine-tuning %s", experiment.teacher_model)
        set_seed(experiment.teacher_seed)
        tokenizer = models.load_tokenizer(experiment.teacher_model, "teacher_model")
        task = Task.prepare(splits, experiment.max_length, tokenizer)
        model = models.load_teacher(experiment, splits.entry.labels)
        trainer, epochs = _trainer(model, task, experiment, folder, "teacher")
        if experiment.teacher_epochs:
            trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
        model = _saved(trainer, folder)
        stored = pd.DataFrame(logits(model, task.train, tokenizer, bf16=experiment.bf16).numpy())
        stored.add_prefix("logit_").assign(id=splits.train["id"]).to_parquet(folder / "train_logits.parquet")
        probs = {"teacher": logits(model, task.evaluation_tokens, tokenizer, bf16=experiment.bf16).softmax(-1)}
        _write_results(folder, trainer, task, probs, parameters, epochs)

    with models.quiet():
        return runs.make(teacher_name(experiment), compute)


def _student(experiment: Experiment, splits: Splits) -> Run:
    method = METHODS[experiment.method]
    teacher = _teacher(experiment, splits)
    early = _student(_early(experiment), splits) if method.early else None
    parameters = experiment.student_parameters()

    def compute(folder: Path) -> None:
        log.info("no student with these parameters yet: training, method %s", experiment.method)
        set_seed(experiment.seed)
        tokenizer = models.load_student_tokenizer(experiment)
        task = Task.prepare(splits, experiment.max_length, tokenizer)
        model = models.load_student(experiment, splits.entry.labels)
        taught = _teacher_logits(teacher, splits) if method.uses_teacher else None
        trainer, epochs = _trainer(model, task, experiment, folder, "student", teacher_logits=taught)
        reweighting = None
        if method.reweights:
            seen = None if early is None else _train_probabilities(early, task, experiment)
            reweighting = Reweighting(trainer, task, experiment, folder / "weights", seen)
            trainer.add_callback(reweighting)
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
        if reweighting:
            reweighting.table().to_parquet(folder / "weights.parquet")
            shutil.rmtree(reweighting.folder)
        model = _saved(trainer, folder)
        probs = {"teacher": _teacher_probabilities(teacher, task)}
        probs["student"] = logits(model, task.evaluation_tokens, tokenizer, bf16=experiment.bf16).softmax(-1)
        probs |= _exits(task, model, experiment, folder)
        _write_results(folder, trainer, task, probs, parameters, epochs)

    with models.quiet():
        return runs.make(student_name(experiment), compute)


def _early(experiment: Experiment) -> Experiment:
    """The early model of a student, a student itself: the labels alone, for a few epochs."""
    return experiment.vary(method="erm", student_epochs=experiment.jtt_epochs)


def teacher_run(experiment: Experiment) -> Run:
    """The finished run of the experiment's teacher.

    Raises:
        MissingRunError: there is none; the message says which notebook makes it.
    """
    return runs.find_or_explain(teacher_name(experiment), "papermill 01_teacher.ipynb out.ipynb")


def student_run(experiment: Experiment) -> Run:
    """The finished run of the experiment's student.

    Raises:
        MissingRunError: there is none; the message says which notebook makes it.
    """
    command = f"papermill 02_student.ipynb out.ipynb -p method {experiment.method} -p aux_layer {experiment.aux_layer}"
    return runs.find_or_explain(student_name(experiment), command)


def teacher_name(experiment: Experiment) -> str:
    """The run of the experiment's teacher; students that differ in their own parameters share it."""
    return f"teacher-{runs.run_key(experiment.teacher_parameters())}"


def student_name(experiment: Experiment) -> str:
    """The run of the experiment's student."""
    return f"{experiment.method}-{runs.run_key(experiment.student_parameters())}"


def training_arguments(experiment: Experiment, folder: Path, role: str) -> TrainingArguments:
    """Section 1 of the method: AdamW, linear schedule with warm-up; checkpoints at every epoch, for resuming."""
    teacher = role == "teacher"
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=experiment.teacher_epochs if teacher else experiment.student_epochs,
        learning_rate=experiment.teacher_learning_rate if teacher else experiment.learning_rate,
        seed=experiment.teacher_seed if teacher else experiment.seed,
        per_device_train_batch_size=experiment.batch_size,
        per_device_eval_batch_size=128,
        lr_scheduler_type="linear",
        warmup_steps=experiment.warmup_ratio,
        weight_decay=experiment.weight_decay,
        bf16=experiment.bf16,
        use_cpu=not torch.accelerator.is_available(),  # said aloud, or bf16 is refused there
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        accelerator_config={"non_blocking": torch.cuda.is_available()},
        logging_nan_inf_filter=False,  # it asks the device for the loss at every step, and hides that one diverged
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        report_to=experiment.report_to,
        run_name=folder.name.removesuffix(".partial"),
    )


def _trainer(
    model: PreTrainedModel, task: Task, experiment: Experiment, folder: Path, role: str, **more: Any
) -> tuple[DistillationTrainer, EpochResults]:
    epochs = EpochResults(task, role, folder / "epochs")
    trainer = DistillationTrainer(
        model,
        training_arguments(experiment, folder, role),
        experiment=experiment,
        train_dataset=task.train,
        eval_dataset=task.held_out_tokens,
        data_collator=task.collate,
        processing_class=task.tokenizer,
        compute_metrics=epochs.metrics,
        callbacks=[epochs],
        **more,
    )
    return trainer, epochs


def _last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint of an interrupted training; its state is the file written last."""
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(complete, key=lambda path: int(path.name.rpartition("-")[2]))) if complete else None


def _saved(trainer: Trainer, folder: Path) -> PreTrainedModel:
    """Save the trained model and read it back: what is reported is what the saved model says."""
    trainer.save_model(str(folder / "model"))
    (folder / "model" / "training_args.bin").unlink()  # a pickle that nothing needs
    return models.reopen(folder / "model")


def _teacher_logits(teacher: Run, splits: Splits) -> Tensor:
    """(N, C) stored logits, in the order of the training rows."""
    stored = teacher.table("train_logits").set_index("id").loc[splits.train["id"]]
    return torch.tensor(stored.to_numpy())


def _teacher_probabilities(teacher: Run, task: Task) -> Tensor:
    """(N, C) probabilities, in the order of the task's evaluation rows."""
    stored = teacher.table("predictions").set_index("id").loc[task.evaluation["id"]]
    return torch.tensor(class_probabilities(stored, "teacher"))


def _train_probabilities(early: Run, task: Task, experiment: Experiment) -> Tensor:
    """(N, C) probabilities of a finished run's student on the training rows."""
    return logits(models.reopen(early.model_folder), task.train, task.tokenizer, bf16=experiment.bf16).softmax(-1)


def _exits(task: Task, model: PreTrainedModel, experiment: Experiment, folder: Path) -> dict[str, Tensor]:
    """An exit at every layer of the trained student, saved beside it; their probabilities on the evaluation rows."""
    layers = list(range(1, model.config.num_hidden_layers + 1))
    train, evaluated = (
        pooled_states(model, rows, task.tokenizer, layers, experiment.pooling, bf16=experiment.bf16)
        for rows in (task.train, task.evaluation_tokens)
    )
    probs, tensors, priors = {}, {}, {}
    for layer in layers:
        head = fit_head(train[layer], task.labels, experiment)
        posterior = fit_posterior(head, train[layer], task.labels, experiment)
        probs[f"exit{layer}"] = head.logits(evaluated[layer]).softmax(-1)
        probs[f"exit{layer}_laplace"] = posterior.probabilities(evaluated[layer])
        tensors |= {f"exit{layer}.{name}": tensor for name, tensor in head.tensors().items()}
        priors[f"exit{layer}.prior_precision"] = str(head.exit.prior_precision)
    save_file(tensors, folder / "model" / "exits.safetensors", {"pooling": experiment.pooling} | priors)
    return probs


def _write_results(
    folder: Path,
    trainer: Trainer,
    task: Task,
    probs: dict[str, Tensor],
    parameters: dict[str, Any],
    epochs: EpochResults,
) -> None:
    """History, predictions, metrics and configuration."""
    _history(trainer.state.log_history, epochs.model).to_parquet(folder / "history.parquet")
    if (after_epochs := epochs.collect()) is not None:
        after_epochs.to_parquet(folder / "epochs.parquet")
        shutil.rmtree(epochs.folder)
    attribute = task.splits.entry.attribute
    predictions = evaluation.predictions_table(task.evaluation.drop(columns="split"), probs, attribute)
    predictions.to_parquet(folder / "predictions.parquet")
    reports = {
        model: evaluation.group_report(predictions, model, attribute=attribute).to_dict("index") for model in probs
    }
    runs.write_json(folder / "metrics.json", {"dropped": task.splits.dropped} | reports)
    (folder / "config.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")


def _history(log_history: list[dict[str, float]], role: str) -> pd.DataFrame:
    """What the trainer logged of every epoch, a row each: epoch, metric, value, role."""
    logged = pd.DataFrame(log_history)
    wanted = [c for c in logged if c == "loss" or (c.startswith("eval_") and not c.endswith(("runtime", "per_second")))]
    long = logged.melt(id_vars="epoch", value_vars=wanted, var_name="metric").dropna()
    return long.assign(
        metric=long["metric"].str.removeprefix("eval_").mask(long["metric"] == "loss", "train_loss"), role=role
    )
