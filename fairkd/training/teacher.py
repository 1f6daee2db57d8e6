"""The teacher: fine-tuned on the labels, once for all students that share it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import transformers

from fairkd import evaluation, files, ranks, runs
from fairkd.data import Splits
from fairkd.experiment import Experiment
from fairkd.runs import Run
from fairkd.training import models
from fairkd.training.arithmetic import arithmetic
from fairkd.training.callbacks import EpochResults, Finite, Progress
from fairkd.training.cards import write_card
from fairkd.training.checkpoints import Manifested, last_checkpoint
from fairkd.training.checks import check
from fairkd.training.features import logits
from fairkd.training.task import Task

log = logging.getLogger("fairkd")


def fine_tune(experiment: Experiment, *, splits: Splits | None = None) -> Run:
    """The teacher fine-tuned on the labels: the finished run of the same parameters, or trained now.

    The run holds model/ with its card, config.yaml, metrics.json, predictions.parquet, epochs.parquet, history.parquet
    and train_logits.parquet, the logits of every training row that students distil from.

    Args:
        splits: the experiment's data, where `check` has loaded them already.

    Raises:
        ParameterError, DataError: see `check`.
    """
    splits = check(experiment) if splits is None else splits

    def compute(folder: Path) -> None:
        log.info("no teacher with these parameters yet: fine-tuning %s", experiment.teacher_model)
        transformers.set_seed(experiment.teacher_seed)
        tokenizer = models.load_tokenizer(experiment.teacher_model, "teacher_model")
        task = Task.prepare(splits, experiment.max_length, tokenizer)
        model = models.load_teacher(experiment, splits.labels)
        trainer, epochs = prepare(model, task, experiment, folder, "teacher")
        if experiment.teacher_epochs:
            trainer.train(resume_from_checkpoint=ranks.told(lambda: last_checkpoint(folder)))
        if not ranks.first():
            return
        model = saved(trainer, folder)
        stored = pd.DataFrame(logits(model, task.train, tokenizer, bf16=experiment.bf16).numpy())
        stored = stored.add_prefix("logit_").assign(id=splits.train["id"])
        files.write_table(folder / "train_logits.parquet", stored)
        write_training(folder, trainer, task, epochs, model, experiment)
        write_card(folder, experiment, splits, "teacher")
        predictions = pd.read_parquet(folder / "predictions.parquet")
        reports = {"teacher": evaluation.group_report(predictions, "teacher", attribute=splits.attribute)}
        write_metrics(folder, splits.dropped, reports)

    with models.quiet(), arithmetic(experiment):
        return runs.make("teacher", teacher_identity(experiment), compute, together=True)


def teacher_run(experiment: Experiment) -> Run:
    """The finished run of the experiment's teacher.

    Raises:
        MissingRunError: there is none; the message says which notebook makes it.
    """
    return runs.find_or_explain(teacher_name(experiment), "papermill notebooks/01_teacher.ipynb out.ipynb")


def teacher_name(experiment: Experiment) -> str:
    """The run of the experiment's teacher."""
    return runs.run_name("teacher", teacher_identity(experiment))


def teacher_identity(experiment: Experiment) -> dict[str, Any]:
    """What decides the teacher's run; students that differ in their own parameters share it."""
    return runs.identity(experiment.teacher_parameters(), __name__, *experiment.data_code)


def prepare(
    model: transformers.PreTrainedModel, task: Task, experiment: Experiment, folder: Path, role: str, **more: Any
) -> tuple[transformers.Trainer, EpochResults]:
    """The `DistillationTrainer` of a model, "teacher" or "student", and what it keeps of every epoch."""
    from fairkd.training.trainer import DistillationTrainer, training_arguments  # here: see `_load_trainer`

    epochs = EpochResults(task, role, folder / "epoch-results")
    trainer = DistillationTrainer(
        model,
        training_arguments(experiment, folder, role),
        train_dataset=task.train,
        eval_dataset=task.held_out_tokens,
        data_collator=task.collate,
        processing_class=task.tokenizer,
        compute_metrics=epochs.metrics,
        callbacks=[Progress(), epochs, Manifested()],
        **more,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(Finite(trainer, experiment, role))
    return trainer, epochs


def saved(trainer: transformers.Trainer, folder: Path) -> transformers.PreTrainedModel:
    """Save the trained model and read it back: what is reported is what the saved model says."""
    trainer.save_model(str(folder / "model"))
    (folder / "model" / "training_args.bin").unlink()  # a pickle that nothing needs
    return models.reopen(folder / "model")


def write_training(
    folder: Path,
    trainer: transformers.Trainer,
    task: Task,
    epochs: EpochResults,
    model: transformers.PreTrainedModel,
    experiment: Experiment,
) -> None:
    """What every trained model leaves: history, predictions after every epoch, and the saved model's own."""
    files.write_table(folder / "history.parquet", history_table(trainer.state.log_history, epochs.model))
    if (after_epochs := epochs.collect()) is not None:
        files.write_table(folder / "epochs.parquet", after_epochs)
    probs = logits(model, task.evaluation_tokens, task.tokenizer, bf16=experiment.bf16).softmax(-1)
    table = evaluation.predictions_table(task.evaluation, {epochs.model: probs.numpy()}, task.splits.attribute)
    files.write_table(folder / "predictions.parquet", table)


def write_metrics(folder: Path, dropped: dict[str, dict[str, int]], reports: dict[str, pd.DataFrame]) -> None:
    """metrics.json: what was dropped of the data, and every model's group report.

    To nine digits: the last ones of a logarithm depend on the processor.
    """
    told = {model: report.round(9).to_dict("index") for model, report in reports.items()}
    files.write_json(folder / "metrics.json", {"dropped": dropped} | told)


def history_table(log_history: list[dict[str, float]], role: str) -> pd.DataFrame:
    """What the trainer logged of every epoch, a row each: epoch, metric, value, role."""
    if not log_history:
        return pd.DataFrame({"epoch": [], "metric": [], "value": [], "role": []})
    logged = pd.DataFrame(log_history)
    wanted = [c for c in logged if c == "loss" or (c.startswith("eval_") and not c.endswith(("runtime", "per_second")))]
    long = logged.melt(id_vars="epoch", value_vars=wanted, var_name="metric").dropna()
    metric = long["metric"].str.removeprefix("eval_").mask(long["metric"] == "loss", "train_loss")
    # In an order of its own: a resumed training has read its log from JSON, with the names sorted.
    return long.assign(metric=metric, role=role).sort_values(["epoch", "metric"], ignore_index=True)
