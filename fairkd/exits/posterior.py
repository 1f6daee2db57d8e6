"""What every Gaussian posterior of an exit can be asked: the predictive, and how unsure it is.

`POSTERIORS` are the posteriors to choose from: to add one, register a `Posterior`, the parameters that it reads with
the function that fits it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from fairkd import provenance
from fairkd.exits.linear import LinearExit, float64_logits, result_dtype
from fairkd.exits.predictive import mean_by_quadrature, mean_by_sampling
from fairkd.parameters import Parameters, Tempering, parameter

PREDICTIVES = ("quadrature", "mc")
QUADRATURE_CLASSES = 4  # the grid has a dimension for every class but one
MODE_TOLERANCE = 1e-7  # relative gradient norm; a fit ends at 1e-9, storage in float32 costs about 1e-8


class LaplacePosterior(ABC):
    """A Gaussian posterior of an exit, read through the normal distribution of an instance's logits.

    Attributes:
        exit: the exit at its MAP.
    """

    exit: LinearExit

    @property
    @abstractmethod
    def effective_dimension(self) -> float:
        """The effective number of parameters d_eff = tr(H_lik / T H^{-1}), H the posterior precision (MacKay 1992)."""

    @abstractmethod
    def logit_covariance(self, features: Tensor) -> Tensor:
        """Return the (N, C, C) posterior covariance of the logits at (N, D) features."""

    @abstractmethod
    def contrasts(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the principal axes of the contrasts' covariance: deviations (N, C-1), basis (C, C-1) or (N, C, C-1).

        The contrasts are the logits orthogonal to the all-ones vector, all that softmax sees. In float64.
        """

    def predict(self, features: Tensor, method: str = "quadrature", n_samples: int = 200, seed: int = 0) -> Tensor:
        """Return E[softmax(z)] for z normal with the exit's logits as mean and `logit_covariance`.

        "quadrature" is a trapezoidal product rule in the C-1 contrasts, along the principal axes of the covariance.
        Its error is below 1e-6 up to a contrast standard deviation of 80 for C = 3 (7 for C = 4, any for C = 2), far
        beyond any posterior at likelihood temperature 1. "mc" has fresh samples for every instance, from a generator
        seeded with `seed`, and a standard error of at most 0.5 / sqrt(n_samples).

        Args:
            features: (N, D).
            method: "quadrature" or "mc".
            n_samples: samples an instance, for "mc".
            seed: of the generator, for "mc".

        Returns:
            (N, C) probabilities, computed in float64, in the features' dtype or float32 where that is coarser.

        Raises:
            ValueError: unknown method, n_samples below 1, quadrature asked for with more than 4 classes.
        """
        return self._mean(features, method, n_samples, seed, entropy=False).to(result_dtype(features))

    def mutual_information(
        self, features: Tensor, method: str = "quadrature", n_samples: int = 200, seed: int = 0
    ) -> Tensor:
        """Return H[E softmax(z)] - E H[softmax(z)] in nats, (N,): what the label would tell of the weights.

        Arguments and errors as `predict`. At least 0, at most log C (Houlsby et al. 2011, equation 2).
        """
        mean = self._mean(features, method, n_samples, seed, entropy=True)
        probs, expected = mean[:, :-1], mean[:, -1]
        return (torch.special.entr(probs).sum(1) - expected).clamp(min=0).to(result_dtype(features))

    def contrast_variance(self, features: Tensor) -> Tensor:
        """Return the posterior variance of z_(1) - z_(2), the exit's two largest logits, (N,)."""
        top = float64_logits(self.exit, features).topk(2, dim=1).indices  # (N, 2)
        rows = torch.arange(len(top), device=top.device)
        deviations, basis = self.contrasts(features)
        axes = basis.expand(len(top), -1, -1)
        difference = axes[rows, top[:, 0]] - axes[rows, top[:, 1]]  # (N, C-1)
        return (difference * deviations).square().sum(1).to(result_dtype(features))

    def _mean(self, features: Tensor, method: str, n_samples: int, seed: int, *, entropy: bool) -> Tensor:
        if method not in PREDICTIVES:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(PREDICTIVES)}")
        if n_samples < 1:
            raise ValueError(f"n_samples is {n_samples}; at least 1 is needed")
        n_classes = len(self.exit.bias)
        if method == "quadrature" and n_classes > QUADRATURE_CLASSES:
            most = f"at most {QUADRATURE_CLASSES}"
            raise ValueError(f"method 'quadrature' has too many nodes with {n_classes} classes ({most}); use 'mc'")
        deviations, basis = self.contrasts(features)
        logits = float64_logits(self.exit, features)  # (N, C)
        if method == "quadrature":
            return mean_by_quadrature(logits, deviations, basis, entropy=entropy)
        return mean_by_sampling(logits, deviations, basis, n_samples, seed, entropy=entropy)


def check_posterior(
    exit: LinearExit, features: Tensor, labels: Tensor, likelihood_temperature: float, weights: Tensor | None = None
) -> None:
    """Refuse a temperature not above 0, and an exit that is off its mode on these data."""
    if not 0 < likelihood_temperature < math.inf:
        raise ValueError(f"likelihood_temperature is {likelihood_temperature}; it must be finite and above 0")
    residual = exit.relative_gradient_norm(features, labels, weights)
    if not residual <= MODE_TOLERANCE:
        raise ValueError(
            f"the exit is off its mode on these data: relative gradient norm {residual:.1e}, at most "
            f"{MODE_TOLERANCE:.0e} allowed. Refit it with LinearExit.fit on the same features, labels, "
            "weights and prior_precision, and keep its weights in float64"
        )


class Posterior(Parameters, ABC):
    """A choice of posterior: its parameters are the fields, `fit` makes it. Register it to ask for it by name."""

    name: ClassVar[str]

    likelihood_temperature: Tempering = parameter(
        1.0, "T_lik: 1 exact, N the curvature of a mean loss", "1: Daxberger et al. 2021"
    )

    @abstractmethod
    def fit(self, exit: LinearExit, features: Tensor, labels: Tensor) -> LaplacePosterior:
        """The posterior around an exit fitted on these very features (N, D) and labels (N,)."""

    def fit_at(
        self, temperatures: Iterable[float], exit: LinearExit, features: Tensor, labels: Tensor
    ) -> Iterator[LaplacePosterior]:
        """The posteriors that `fit` gives at other likelihood temperatures."""
        return (self.vary(likelihood_temperature=at).fit(exit, features, labels) for at in temperatures)


POSTERIORS: dict[str, type[Posterior]] = {}


def register_posterior(posterior: type[Posterior]) -> type[Posterior]:
    """Make a posterior one that `posterior` may name; a decorator of its class.

    Raises:
        ValueError: see `provenance.entered`.
    """
    return provenance.entered(POSTERIORS, posterior, Posterior)
