"""What the posterior does to the margins of a finished student's exit."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fairkd import files, runs
from fairkd.data import load
from fairkd.exits import POSTERIORS, Exits
from fairkd.exits.design import selected
from fairkd.experiment import Experiment
from fairkd.runs import Run
from fairkd.training import exits_name, models
from fairkd.training.arithmetic import arithmetic
from fairkd.training.finished import made
from fairkd.training.reading import reading
from fairkd.weighting import confidence_margin
from fairkd.weighting.dedier import ExitWeighted, confidence

log = logging.getLogger("fairkd")

_SWEEP_ROWS = 2_000  # training rows a sweep looks at, drawn at random


def posterior_tables(experiment: Experiment, n_temperatures: int = 9) -> Run:
    """What the posterior does to the margins of the finished student's exit at aux_layer; computed once.

    The run has two tables. "sweep": how margins and weights of training rows move away from MAP as the likelihood
    temperature rises from 1 to N, see `temperature_sweep`. "agreement": the margin and the variance of the top
    contrast of every evaluation row under the Kronecker and under the dense posterior.
    """
    layer, method = experiment.aux_layer, experiment.weighting

    def compute(folder: Path) -> None:
        splits = load(experiment)
        run = made(experiment, splits)
        log.info("posterior of the exit at layer %d of %s", layer, run.folder.name)
        exits, states = experiment.finished(len(splits.labels)), {}
        model, tokenizer = models.reopened(run)
        for split, frame in {"train": splits.train, "evaluation": splits.evaluation}.items():
            [states[split]] = reading(experiment, splits, frame, tokenizer, exits.options.pooling)(model).values()
        labels = torch.tensor(splits.train["label"].to_numpy())
        temperatures = np.geomspace(1, len(labels), n_temperatures).tolist()
        sweep = temperature_sweep(states["train"], labels, exits, method, temperatures)
        files.write_table(folder / "sweep.parquet", sweep)
        agreement = posterior_agreement(states["train"], labels, states["evaluation"], exits)
        files.write_table(folder / "agreement.parquet", agreement.assign(id=splits.evaluation["id"]))

    parameters = {"exits": exits_name(experiment), "layer": layer, "temperatures": n_temperatures} | method.model_dump()
    with models.quiet(), arithmetic(experiment):
        return runs.make("posterior", runs.identity(parameters, __name__), compute)


def temperature_sweep(
    features: torch.Tensor, labels: torch.Tensor, exits: Exits, method: ExitWeighted, temperatures: list[float]
) -> pd.DataFrame:
    """How far the Laplace predictive moves margins and weights away from MAP, by likelihood temperature T.

    Args:
        features: (N, D) training features of the exit's layer.
        labels: (N,).
        method: whose weights are looked at, by its own signal.
        temperatures: T of each row.

    Returns:
        Columns likelihood_temperature; margin_shift, mean |margin - MAP margin|; weight_shift, mean |w / w_MAP - 1|
        where w_MAP is above 0; logit_variance, mean_n tr(Lambda_n Cov z_n); effective_dimension; expected, T d_eff / N,
        which logit_variance equals but for the Kronecker approximation; bound, T (C-1)(D+1) / N. The means are over
        2,000 training rows drawn at random, or all.
    """
    head = exits.head(features, labels)
    generator = torch.Generator().manual_seed(exits.seed)
    rows = torch.randperm(len(labels), generator=generator)[:_SWEEP_ROWS]
    drawn = selected(features, rows)
    probs = head.logits(drawn).softmax(-1)
    signal = getattr(method, "signal", "margin")
    margin, weights = confidence_margin(probs), method.lift(probs, labels[rows], confidence(None, drawn, probs, signal))
    curvature = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None, :]
    found = []
    for temperature, fitted in zip(temperatures, exits.uncertain_at(temperatures, head, features, labels), strict=True):
        moved = fitted.probabilities(drawn)
        lifted = method.lift(moved, labels[rows], confidence(fitted, drawn, moved, signal))
        covariance = fitted.posterior.logit_covariance(head.hidden(drawn))
        found.append(
            {
                "likelihood_temperature": temperature,
                "margin_shift": (confidence_margin(moved) - margin).abs().mean().item(),
                "weight_shift": (lifted / weights - 1)[weights > 0].abs().mean().item(),
                "logit_variance": (curvature * covariance).sum((1, 2)).mean().item(),
                "effective_dimension": (dimension := fitted.posterior.effective_dimension),
                "expected": temperature * dimension / len(labels),
                "bound": temperature * (probs.shape[1] - 1) * (head.exit.weight.shape[1] + 1) / len(labels),
            }
        )
    return pd.DataFrame(found)


def posterior_agreement(
    features: torch.Tensor, labels: torch.Tensor, evaluated: torch.Tensor, exits: Exits
) -> pd.DataFrame:
    """Margin and contrast variance of every evaluated row, under MAP, the Kronecker and the dense posterior.

    Where one of these is the posterior of `exits`, it is that, as it is set up there.

    Returns:
        Columns map_margin, kronecker_margin, dense_margin, kronecker_variance, dense_variance; a row for each row of
        `evaluated` (M, D).
    """
    head = exits.head(features, labels)
    temperature = exits.posterior.likelihood_temperature
    table = {"map_margin": confidence_margin(head.logits(evaluated).softmax(-1))}
    for kind in ("kronecker", "dense"):
        own = exits.posterior if exits.posterior.name == kind else POSTERIORS[kind](likelihood_temperature=temperature)
        fitted = Exits(**dict(exits) | {"posterior": own}).uncertain(head, features, labels)
        table[f"{kind}_margin"] = confidence_margin(fitted.probabilities(evaluated))
        table[f"{kind}_variance"] = fitted.contrast_variance(evaluated)
    return pd.DataFrame({name: values.numpy() for name, values in table.items()})
