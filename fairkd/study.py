"""Many runs as one study: the grid of students and seeds, the choice of an epoch, what a posterior does to a margin."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import yaml
from pydantic import Field, field_validator
from tqdm import tqdm
from transformers import AutoTokenizer

from fairkd import models, runs
from fairkd.data import Splits, load, tokenize
from fairkd.dedier import confidence_margin
from fairkd.drawing import Figure
from fairkd.evaluation import group_accuracy, readable
from fairkd.experiment import Experiment, Profiled, Seed
from fairkd.features import pooled_states
from fairkd.heads import HeadPosterior, fit_head, fit_posterior
from fairkd.methods import margin_weights, title
from fairkd.runs import Run
from fairkd.seeds import Comparison, compare
from fairkd.training import check, distil, student_name

log = logging.getLogger("fairkd")

# By what the epoch of a run is chosen: nothing, or the validation split without and with its group labels.
SELECTIONS = {"last epoch": None, "validation average": "average", "validation worst group": "worst_group"}
_SWEEP_ROWS = 2_000  # training rows a sweep looks at, drawn at random


class Study(Profiled):
    """The parameters of `05_study.ipynb`: a profile, the students compared, and with which seeds."""

    methods: Annotated[list[str], Field(min_length=1)] = Field(
        ["erm", "kd", "jtt", "dedier@3", "laplace@3", "avcs@3", "group_dro"],
        description="students compared",
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field([0], description="training seeds of every student")
    record: str | None = Field(None, description="folder for tables and figures of record; null: none")

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("name each seed once")
        return seeds

    def write(self, tables: dict[str, pd.DataFrame], figures: dict[str, Figure], experiment: Experiment) -> list[str]:
        """Write tables as CSV and figures as PNG into `record`, with the parameters; the names of the files."""
        if self.record is None:
            return []
        folder = runs.root() / self.record
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
        for name, figure in figures.items():
            (folder / f"{name}.png").write_bytes(figure.png())
        shared = experiment.student("kd").student_parameters()
        stated = {"profile": self.profile, "methods": self.methods, "seeds": self.seeds, "kd": shared}
        (folder / "parameters.yaml").write_text(yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
        return sorted(file.name for file in folder.iterdir())


def run_grid(experiment: Experiment, students: list[str], seeds: list[int]) -> dict[str, dict[int, Run]]:
    """All students with all seeds, {student: {seed: run}}: finished runs are reused, the others trained now.

    Seeds come in the outer loop, so that an interrupted study has whole seeds to show.

    Args:
        students: entries as in `Experiment.students`.
        seeds: training seeds of the students; the teacher has its own, one for all.

    Raises:
        ParameterError, DataError: an entry, a parameter or the data are wrong; said before any training.
    """
    grid = [(spec, experiment.vary(seed=seed).student(spec), seed) for seed in seeds for spec in students]
    splits = check(experiment)
    for _, given, _ in grid:
        models.check(given, splits.entry.labels)
    found: dict[str, dict[int, Run]] = {spec: {} for spec in students}
    with tqdm(grid, desc="students") as bar:
        for spec, given, seed in bar:
            bar.set_postfix_str(f"{spec}, seed {seed}")
            same = given.data_parameters() == experiment.data_parameters()
            found[spec][seed] = distil(given, splits=splits if same else None)
    return found


def chosen_epoch(epochs: pd.DataFrame, selection: str, attribute: str = "negation") -> int:
    """The epoch that one of `SELECTIONS` would keep; of equals the one of better average, then the earliest.

    Args:
        epochs: the table "epochs" of a student's run.

    Raises:
        ValueError: an unknown selection, or one that needs validation rows where there are none.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"selection is {selection!r}; choose one of {', '.join(SELECTIONS)}")
    row = SELECTIONS[selection]
    if row is None:
        return int(epochs["epoch"].max())
    validation = epochs[epochs["split"] == "validation"]
    if validation.empty:
        raise ValueError(f"selection {selection!r} needs validation rows: set validation_examples above 0")
    scores = {}
    for epoch, rows in validation.groupby("epoch", sort=True):
        accuracy = group_accuracy(rows, attribute=attribute)
        scores[epoch] = (accuracy[row], accuracy["average"])
    return int(max(scores, key=scores.get))


def predictions_at(run: Run, selection: str, attribute: str = "negation") -> pd.DataFrame:
    """The evaluation rows' predictions of a student at the epoch that one of `SELECTIONS` would keep."""
    epochs = run.table("epochs")
    epoch = chosen_epoch(epochs, selection, attribute)
    return epochs[(epochs["epoch"] == epoch) & (epochs["split"] == "evaluation")].reset_index(drop=True)


def posterior_tables(experiment: Experiment, run: Run, n_temperatures: int = 9) -> Run:
    """What the posterior does to the margins of a finished student's exit at aux_layer; computed once.

    The run has two tables. "sweep": how margins and weights of training rows move away from MAP as the likelihood
    temperature rises from 1 to N, see `temperature_sweep`. "agreement": the margin and the variance of the top
    contrast of every evaluation row under the Kronecker and under the dense posterior.
    """
    layer = experiment.aux_layer

    def compute(folder: Path) -> None:
        log.info("posterior of the exit at layer %d of %s", layer, run.folder.name)
        splits = load(experiment)
        states = _states(run, experiment, splits)
        labels = torch.tensor(splits.train["label"].to_numpy())
        temperatures = np.geomspace(1, len(labels), n_temperatures).tolist()
        sweep = temperature_sweep(states["train"], labels, experiment, temperatures)
        sweep.to_parquet(folder / "sweep.parquet")
        agreement = posterior_agreement(states["train"], labels, states["evaluation"], experiment)
        agreement.assign(id=splits.evaluation["id"]).to_parquet(folder / "agreement.parquet")

    key = runs.digest(student_name(experiment), str(layer), str(n_temperatures))
    with models.quiet():
        return runs.make(f"posterior-{key}", compute)


def temperature_sweep(
    features: torch.Tensor, labels: torch.Tensor, experiment: Experiment, temperatures: list[float]
) -> pd.DataFrame:
    """How far the Laplace predictive moves margins and weights away from MAP, by likelihood temperature T.

    Args:
        features: (N, D) training features of the exit's layer.
        labels: (N,).
        temperatures: T of each row.

    Returns:
        Columns likelihood_temperature; margin_shift, mean |margin - MAP margin|; weight_shift, mean |w / w_MAP - 1|;
        logit_variance, mean_n tr(Lambda_n Cov z_n); effective_dimension; expected, T d_eff / N, which
        logit_variance equals but for the Kronecker approximation; bound, T (C-1)(D+1) / N. The means are over 2,000
        training rows drawn at random, or all.
    """
    head = fit_head(features, labels, experiment)
    generator = torch.Generator().manual_seed(experiment.seed)
    rows = torch.randperm(len(labels), generator=generator)[:_SWEEP_ROWS]
    probs = head.logits(features[rows]).softmax(-1)
    margin, weights = confidence_margin(probs), margin_weights(probs, labels[rows], experiment)
    curvature = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None, :]
    found = []
    for temperature in temperatures:
        given = experiment.vary(method="laplace", likelihood_temperature=temperature)
        fitted = fit_posterior(head, features, labels, given)
        moved = fitted.probabilities(features[rows])
        covariance = fitted.posterior.logit_covariance(head.hidden(features[rows]))
        found.append(
            {
                "likelihood_temperature": temperature,
                "margin_shift": (confidence_margin(moved) - margin).abs().mean().item(),
                "weight_shift": (margin_weights(moved, labels[rows], experiment) / weights - 1).abs().mean().item(),
                "logit_variance": (curvature * covariance).sum((1, 2)).mean().item(),
                "effective_dimension": (dimension := fitted.posterior.effective_dimension),
                "expected": temperature * dimension / len(labels),
                "bound": temperature * (probs.shape[1] - 1) * (head.exit.weight.shape[1] + 1) / len(labels),
            }
        )
    return pd.DataFrame(found)


def posterior_agreement(
    features: torch.Tensor, labels: torch.Tensor, evaluated: torch.Tensor, experiment: Experiment
) -> pd.DataFrame:
    """Margin and contrast variance of every evaluated row, under MAP, the Kronecker and the dense posterior.

    Returns:
        Columns map_margin, kronecker_margin, dense_margin, kronecker_variance, dense_variance; a row for each row of
        `evaluated` (M, D).
    """
    head = fit_head(features, labels, experiment)
    table = {"map_margin": confidence_margin(head.logits(evaluated).softmax(-1))}
    for kind in ("kronecker", "dense"):
        fitted: HeadPosterior = fit_posterior(head, features, labels, experiment.vary(posterior=kind))
        table[f"{kind}_margin"] = confidence_margin(fitted.probabilities(evaluated))
        table[f"{kind}_variance"] = fitted.contrast_variance(evaluated)
    return pd.DataFrame({name: values.numpy() for name, values in table.items()})


def _states(run: Run, experiment: Experiment, splits: Splits) -> dict[str, torch.Tensor]:
    """{split: features (N, D)} of a finished student's aux_layer; computed once, then mapped into memory from disk."""
    layer, frames = experiment.aux_layer, {"train": splits.train, "evaluation": splits.evaluation}

    def compute(folder: Path) -> None:
        model, tokenizer = models.reopen(run.model_folder), AutoTokenizer.from_pretrained(run.model_folder)
        for split, frame in frames.items():
            tokens = tokenize(frame, splits.entry, tokenizer, experiment.max_length)
            states = pooled_states(model, tokens, tokenizer, [layer], experiment.pooling, bf16=experiment.bf16)
            np.save(folder / f"{split}.npy", states[layer].numpy())

    folder = runs.cached(f"features-{runs.digest(run.folder.name, str(layer))}", compute)
    # Copy on write: torch wants memory that it might write to, and the file is not touched.
    return {split: torch.from_numpy(np.load(folder / f"{split}.npy", mmap_mode="c")) for split in frames}


def comparison(found: dict[str, dict[int, Run]], attribute: str) -> Comparison:
    """All students of a grid side by side, compared with `kd` and with the first `dedier`; the teacher heads it."""
    tables = {
        title(spec): {seed: run.table("predictions") for seed, run in of_seed.items()}
        for spec, of_seed in found.items()
    }
    dedier = [spec for spec in found if spec.startswith("dedier")]
    compared = compare(tables, ["kd", *dedier[:1]], attribute=attribute)
    table = next(iter(next(iter(tables.values())).values()))
    teacher = compare({"teacher": {0: table}}, [], model="teacher", attribute=attribute).report
    return replace(compared, report=pd.concat([teacher, compared.report], ignore_index=True))


def selection_report(found: dict[str, dict[int, Run]], rules: Iterable[str], attribute: str) -> pd.DataFrame:
    """What students are worth at the epochs that each rule would keep: student, selection, row, value, low, high."""
    parts = []
    for rule in rules:
        tables = {
            title(spec): {seed: predictions_at(run, rule, attribute) for seed, run in of_seed.items()}
            for spec, of_seed in found.items()
        }
        report = compare(tables, [], attribute=attribute).report
        report.insert(1, "selection", rule)
        parts.append(report)
    return pd.concat(parts, ignore_index=True)


def pivot(report: pd.DataFrame, who: list[str] | None = None, digits: int = 3) -> pd.DataFrame:
    """A long report for reading: a line for each student, a column for each row, "0.912 [0.905, 0.920]"."""
    who = who or ["student"]
    text = readable(report, digits)
    wide = report[[*who, "row"]].assign(text=text).pivot_table(index=who, columns="row", values="text", aggfunc="first")
    order = report[who].drop_duplicates()
    return wide.reindex(pd.MultiIndex.from_frame(order) if len(who) > 1 else order[who[0]])[report["row"].unique()]
