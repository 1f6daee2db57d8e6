"""The weighting methods: what an exit reads goes in, the weight of every training instance comes out.

To add a method, write one function and its line in `METHODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fairkd.data import DATASETS
from fairkd.dedier import instance_weights
from fairkd.exits import LinearExit
from fairkd.laplace import KroneckerLaplace, select_prior_precision

if TYPE_CHECKING:
    from fairkd.experiment import Experiment


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Args:
        description: one line for tables and help.
        uses_teacher: False trains on the labels alone (the distillation term is left out).
        weights: (features (N, D) of the exit's layer, labels (N,), experiment) -> (N,); None weighs all alike.
    """

    description: str
    uses_teacher: bool = True
    weights: Callable[[Tensor, Tensor, "Experiment"], Tensor] | None = None


def fit_exit(features: Tensor, labels: Tensor, experiment: "Experiment") -> LinearExit:
    """The exit at its MAP, at the experiment's prior precision or at the one the evidence prefers."""
    n_classes = len(DATASETS[experiment.dataset].labels)
    if experiment.prior_precision == "evidence":
        return select_prior_precision(features, labels, n_classes)[0]
    return LinearExit.fit(features, labels, experiment.prior_precision, n_classes=n_classes)


def fit_laplace(exit: LinearExit, features: Tensor, labels: Tensor, experiment: "Experiment") -> KroneckerLaplace:
    """The Laplace approximation of `exit` that the experiment asks for."""
    return KroneckerLaplace.fit(
        exit, features, labels, likelihood_temperature=experiment.likelihood_temperature, prior=experiment.prior
    )


def laplace_probabilities(laplace: KroneckerLaplace, features: Tensor, experiment: "Experiment") -> Tensor:
    """The Laplace predictive p(y | x) as the experiment integrates it: (N, D) -> (N, C)."""
    return laplace.predict(features, method=experiment.predictive, n_samples=experiment.n_samples, seed=experiment.seed)


def _dedier(features: Tensor, labels: Tensor, experiment: "Experiment") -> Tensor:
    """Margin of the exit's MAP softmax (Tiwari et al. 2023)."""
    exit = fit_exit(features, labels, experiment)
    return _weights(exit.logits(features).softmax(-1), labels, experiment)


def _laplace(features: Tensor, labels: Tensor, experiment: "Experiment") -> Tensor:
    """Margin of the exit's Laplace predictive."""
    exit = fit_exit(features, labels, experiment)
    laplace = fit_laplace(exit, features, labels, experiment)
    return _weights(laplace_probabilities(laplace, features, experiment), labels, experiment)


def _weights(probs: Tensor, labels: Tensor, experiment: "Experiment") -> Tensor:
    return instance_weights(probs, labels, experiment.alpha, experiment.beta, exponent=experiment.exponent)


METHODS: dict[str, Method] = {
    "erm": Method("no teacher, cross-entropy alone", uses_teacher=False),
    "kd": Method("plain distillation (Hinton et al. 2015)"),
    "dedier": Method("margin of the exit's MAP softmax (Tiwari et al. 2023)", weights=_dedier),
    "laplace": Method("margin of the exit's Laplace predictive", weights=_laplace),
}


def merge_weights(previous: Tensor, fresh: Tensor, *, stale: bool) -> Tensor:
    """The weights after a refit, from those before and the refit's own: (N,), (N,) -> (N,).

    Args:
        stale: an instance that the refit leaves at 1 keeps its previous weight (DEDIER's released code).
    """
    return torch.where(fresh == 1, previous, fresh) if stale else fresh
