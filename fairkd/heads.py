"""The exits, as an experiment asks for them: hidden layers, linear layer at its MAP, posterior, predictive."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fairkd.data import DATASETS
from fairkd.dense import DenseLaplace
from fairkd.exits import LinearExit
from fairkd.hidden import HiddenLayers
from fairkd.laplace import KroneckerLaplace, select_prior_precision
from fairkd.posterior import LaplacePosterior

if TYPE_CHECKING:
    from fairkd.experiment import Experiment


@dataclass(frozen=True, eq=False)
class Head:
    """An exit head: hidden layers, if any, and the linear exit on top of them."""

    hidden: HiddenLayers
    exit: LinearExit

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) features of the student's layer -> (N, C)."""
        return self.exit.logits(self.hidden(features))

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to use the head, by name."""
        named = {"weight": self.exit.weight.contiguous(), "bias": self.exit.bias.contiguous()}
        for i, (weight, bias) in enumerate(zip(self.hidden.weights, self.hidden.biases, strict=True)):
            named |= {f"hidden{i}.weight": weight.contiguous(), f"hidden{i}.bias": bias.contiguous()}
        return named


def fit_head(features: Tensor, labels: Tensor, experiment: "Experiment") -> Head:
    """The head at its MAP, at the experiment's prior precision or at the one the evidence prefers."""
    n_classes = len(DATASETS[experiment.dataset].labels)
    hidden = HiddenLayers.fit(features, labels, experiment.exit_hidden, experiment.seed)
    read = hidden(features)
    if experiment.prior_precision == "evidence":
        return Head(hidden, select_prior_precision(read, labels, n_classes)[0])
    return Head(hidden, LinearExit.fit(read, labels, experiment.prior_precision, n_classes=n_classes))


@dataclass(frozen=True, eq=False)
class HeadPosterior:
    """The Laplace approximation of a head's linear layer, asked at the features that the head reads."""

    head: Head
    posterior: LaplacePosterior
    predictive: dict[str, str | int]

    def probabilities(self, features: Tensor) -> Tensor:
        """The Laplace predictive p(y | x) as the experiment integrates it: (N, D) -> (N, C)."""
        return self.posterior.predict(self.head.hidden(features), **self.predictive)

    def mutual_information(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,), see `LaplacePosterior.mutual_information`."""
        return self.posterior.mutual_information(self.head.hidden(features), **self.predictive)

    def contrast_variance(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,), see `LaplacePosterior.contrast_variance`."""
        return self.posterior.contrast_variance(self.head.hidden(features))


def fit_posterior(head: Head, features: Tensor, labels: Tensor, experiment: "Experiment") -> HeadPosterior:
    """The Laplace approximation of `head` that the experiment asks for."""
    read, temperature = head.hidden(features), experiment.likelihood_temperature
    if experiment.posterior == "dense":
        posterior = DenseLaplace.fit(head.exit, read, labels, likelihood_temperature=temperature)
    else:
        posterior = KroneckerLaplace.fit(
            head.exit, read, labels, likelihood_temperature=temperature, prior=experiment.prior
        )
    predictive = {"method": experiment.predictive, "n_samples": experiment.n_samples, "seed": experiment.seed}
    return HeadPosterior(head, posterior, predictive)
