"""The model card beside every checkpoint: what it is worth to each group, of which data, with its limits.

A README.md with the hub's metadata, so that the hub shows it where the folder is uploaded (Mitchell et al. 2019,
Model Cards for Model Reporting). It holds no date and no path: the same run writes the same card. Its words are a
template, which is in no key, so that a better word trains nothing again.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fairkd import files, runs
from fairkd.data import Splits
from fairkd.evaluation import group_report, readable, target_groups
from fairkd.evaluation.selection import BY_GROUPS
from fairkd.experiment import Experiment

TEMPLATE = Path(__file__).with_name("card.md.j2")
# With fewer evaluation rows a group's interval may be wider than 20 points.
_FEW = 100


def write_card(
    folder: Path, experiment: Experiment, splits: Splits, role: str, teacher: pd.DataFrame | None = None
) -> None:
    """Write the README.md of a run's model/, from its predictions.parquet.

    Args:
        folder: the run's.
        role: "teacher" or "student", as in the predictions.
        teacher: of a student, its teacher's predictions on the same rows, if it has one.
    """
    predictions = {role: pd.read_parquet(folder / "predictions.parquet")}
    if teacher is not None:
        predictions["teacher"] = teacher
    reports = {
        who: group_report(table, who, attribute=splits.attribute, n_boot=0) for who, table in predictions.items()
    }
    card = ModelCard.from_template(
        _metadata(experiment, splits, reports[role], role),
        template_path=str(TEMPLATE),
        title=_title(experiment, role),
        made=_made(experiment, role),
        table=_table(splits, reports),
        lowest=_lowest(splits, reports[role]),
        few=[group for group, n in reports[role]["n"][splits.groups].items() if n < _FEW],
        reads_groups=role == "student" and experiment.weighting.reads_groups,
        chosen_by_groups=role == "student" and experiment.kept_epoch == BY_GROUPS,
        entry=experiment.entry,
        attribute=splits.attribute,
        train=f"{len(splits.train):,}",
        version=version("fairkd"),
        parameters=yaml.safe_dump(_parameters(experiment, role), sort_keys=False).strip(),
        text="text" if len(splits.entry.text) == 1 else '{"text": FIRST, "text_pair": SECOND}',
    )
    files.write_text(folder / "model" / "README.md", f"{card}\n")


def _metadata(experiment: Experiment, splits: Splits, report: pd.DataFrame, role: str) -> ModelCardData:
    """What the hub reads: the task, the accuracies on average and in the worst group, the encoder it was made from."""
    encoder = getattr(experiment, f"{role}_model")
    of_hub = {"base_model": encoder} if runs.fingerprint(encoder) == encoder else {}
    values = report["value"].to_dict()
    found = {"accuracy": "average", "worst-group accuracy": "worst_group"}
    task = {"task_type": "text-classification", "dataset_type": splits.entry.name, "dataset_name": splits.entry.name}
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["fairkd", "knowledge-distillation" if role == "student" else "teacher"],
        model_name=_title(experiment, role),
        eval_results=[
            EvalResult(**task, metric_type="accuracy", metric_name=name, metric_value=round(values[row], 4))
            for name, row in found.items()
        ],
        **of_hub,
    )


def _parameters(experiment: Experiment, role: str) -> dict[str, Any]:
    return experiment.teacher_parameters() if role == "teacher" else experiment.student_parameters()


def _title(experiment: Experiment, role: str) -> str:
    if role == "teacher":
        return f"teacher on {experiment.entry.name}, seed {experiment.teacher_seed}"
    layer = f"@{experiment.aux_layer}" if experiment.aux_layer else ""
    return f"{experiment.method}{layer} on {experiment.entry.name}, seed {experiment.seed}"


def _made(experiment: Experiment, role: str) -> str:
    """How the model was trained, in a sentence."""
    if role == "teacher":
        return "An encoder fine-tuned on the labels, for students to be distilled from."
    method = experiment.weighting
    learnt = "distilled from a teacher" if method.uses_teacher else "trained on the labels, without a teacher"
    after = " Its last layer was fitted anew afterwards." if method.refits_head else ""
    kept = f" Of its epochs the best by {experiment.kept_epoch}." if experiment.stops_early else ""
    told = f": {method.description}" if method.description else ""
    return f"A student, {learnt}. Method `{experiment.method}`{told}.{kept}{after}"


def _table(splits: Splits, reports: dict[str, pd.DataFrame]) -> str:
    """Markdown: a row a group, those that are rare in training first, then the average; a column a model."""
    rare = target_groups(splits.train, splits.attribute)
    groups = [*rare, *(group for group in splits.groups if group not in rare)]
    sizes = splits.train["group"].value_counts()
    told = {who: readable(report) for who, report in reports.items()}
    lines = [["group", "training rows", "evaluation rows", *reports], ["---"] * (3 + len(reports))]
    first = next(iter(reports.values()))
    for row in [*groups, "average"]:
        trained = len(splits.train) if row == "average" else sizes[row]
        name = f"**{row}**" if row in rare else row
        lines.append([name, f"{trained:,}", f"{first['n'][row]:,}", *(text[row] for text in told.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lowest(splits: Splits, report: pd.DataFrame) -> str:
    """The group that the model is worst at, and by how much."""
    group = report["value"][splits.groups].idxmin()
    told = readable(report)
    return f"It is least accurate in **{group}**: {told[group]}, {report['value']['gap']:.3f} below the average."
