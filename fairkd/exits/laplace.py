"""Kronecker-factored Laplace approximation of a linear exit, its predictive distribution and its evidence.

Sources: Ritter et al. 2018 (Kronecker factors), Daxberger et al. 2021 (last layer), Meronen et al. 2023 (early
exits), MacKay 1992 (evidence).

Conventions of `kronecker`: x_n = [phi_n; 1], W = [weight | bias] (C, D+1), Lambda_n = diag(p_n) - p_n p_n^T,
    G = mean_n Lambda_n  (C, C),   A = sum_n x_n x_n^T  (D+1, D+1),   in row-major vec(W) order
    H = H_lik / T + tau I,   H_lik = sum_n Lambda_n (x) x_n x_n^T  ~  G (x) A
With G = R diag(g) R^T and A = Q diag(a) Q^T
both posteriors are diagonal in R (x) Q, with eigenvalues
    prior "exact":     g_i a_j / T + tau                                      H itself, up to the Kronecker step
    prior "factored":  (g_i + sqrt(tau)) (a_j / T + sqrt(tau))                Meronen et al.'s damping; more precise
and the logits of an instance have covariance  sum_i (sum_j (Q^T x)_j^2 / eigenvalue_ij) r_i r_i^T.

Where the exit was fitted with weights w_n, they are in G, A and the likelihood as there: see `kronecker`.

T is `likelihood_temperature`: 1 is the posterior, N the curvature of a mean loss. It tempers the curvature alone: the
exit remains the MAP of the untempered objective, so the sweep over T changes the spread and never the centre.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import scipy
import torch
from torch import Tensor

from fairkd.exits.design import chunks
from fairkd.exits.kronecker import Spectrum, curvature_spectrum, gram_spectrum
from fairkd.exits.linear import (
    LinearExit,
    check_data,
    check_features,
    checked_weights,
    float64_logits,
    result_dtype,
    solve,
)
from fairkd.exits.newton import Problem
from fairkd.exits.posterior import LaplacePosterior, Posterior, check_posterior, register_posterior
from fairkd.parameters import parameter

PRIORS = ("exact", "factored")
_TAUS = 11  # tried first, a decade apart between the default bounds


@dataclass(frozen=True, eq=False)
class KroneckerLaplace(LaplacePosterior):
    """The Gaussian posterior of an exit. Made by `fit`.

    Attributes:
        exit: the exit at its MAP.
        likelihood_temperature: T > 0.
        prior: "exact" or "factored".
        curvature: spectrum of G, the all-ones direction last with eigenvalue 0.
        gram: spectrum of A.
        log_likelihood: sum_n w_n log p(y_n | x_n) at the exit, in nats.
    """

    exit: LinearExit
    likelihood_temperature: float
    prior: str
    curvature: Spectrum
    gram: Spectrum
    log_likelihood: float

    @classmethod
    def fit(
        cls,
        exit: LinearExit,
        features: Tensor,
        labels: Tensor,
        *,
        likelihood_temperature: float = 1.0,
        prior: str = "exact",
        weights: Tensor | None = None,
    ) -> "KroneckerLaplace":
        """Return the Laplace approximation around an exit fitted on these very features and labels.

        Args:
            exit: at its MAP; its prior precision is the posterior's.
            features: (N, D).
            labels: (N,), needed to see that the exit is at its mode.
            likelihood_temperature: T > 0, see the module; N gives the curvature of a mean loss.
            prior: "exact" or "factored".
            weights: (N,) those that the exit was fitted with.

        Raises:
            ValueError: the exit is off its mode on these data (relative gradient norm above 1e-7), a temperature not
                above 0, an unknown prior, features or labels that `LinearExit.fit` refuses.
        """
        if prior not in PRIORS:
            raise ValueError(f"prior is {prior!r}; choose one of {', '.join(PRIORS)}")
        check_posterior(exit, features, labels, likelihood_temperature, weights)
        weights = checked_weights(weights, features)
        problem = Problem(features, labels, exit.prior_precision, weights)
        return _around(exit, problem, gram_spectrum(features, weights), likelihood_temperature, prior)

    @property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues of the posterior precision, (C, D+1)."""
        tau = self.exit.prior_precision
        curvature, gram = self.curvature.values[:, None], self.gram.values / self.likelihood_temperature
        if self.prior == "factored":
            return (curvature + tau**0.5) * (gram + tau**0.5)
        return curvature * gram + tau

    @property
    def effective_dimension(self) -> float:
        """d_eff = tr(H_lik / T H^{-1}), at most (C-1)(D+1) (MacKay 1992's gamma).

        Of the exact prior sum_ij g_i a_j / (g_i a_j + T tau); a factored one adds more to H, and leaves less.
        """
        likelihood = self.curvature.values[:, None] * self.gram.values / self.likelihood_temperature
        return (likelihood / self.eigenvalues).sum().item()

    def logit_covariance(self, features: Tensor) -> Tensor:
        """Return the (N, C, C) posterior covariance of the logits at (N, D) features.

        Computed in float64, returned in the features' dtype or float32 where that is coarser.
        """
        vectors, variances = self.curvature.vectors, self._logit_variances(features)
        return torch.einsum("ni,ci,di->ncd", variances, vectors, vectors).to(result_dtype(features))

    def contrasts(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return deviations (N, C-1) along the eigenvectors of G, (C, C-1), which all instances share."""
        return self._logit_variances(features)[:, :-1].sqrt(), self.curvature.vectors[:, :-1]

    def log_marginal_likelihood(self) -> float:
        """Return the Laplace evidence in nats (MacKay 1992), the posterior precision H being the factored one here.

        With M = C(D+1), and the constants of prior and posterior cancelling,
            sum_n log p(y_n|x_n) / T - tau/2 ||W||^2 + M/2 log tau - 1/2 log det H + 1/2 s^T H^{-1} s
        s = (1/T - 1) tau vec(W) is the slope left at the exit, which is the mode for T = 1 alone: the last term, 0
        for T = 1, makes this the integral of the second-order expansion of the tempered joint for any T.
        """
        tau, temperature = self.exit.prior_precision, self.likelihood_temperature
        weight = self.exit.stacked
        rotated = self.curvature.vectors.T @ weight @ self.gram.vectors  # (C, D+1)
        slope = (1 / temperature - 1) * tau * rotated
        volume = (math.log(tau) - self.eigenvalues.log() + slope.square() / self.eigenvalues).sum() / 2
        return self.log_likelihood / temperature - tau / 2 * weight.square().sum().item() + volume.item()

    def _logit_variances(self, features: Tensor) -> Tensor:
        """Return the (N, C) float64 variances of the logits along the eigenvectors of G."""
        check_features(features, self.exit.weight.shape[1])
        covariance = 1 / self.eigenvalues.T  # (D+1, C)
        return torch.cat([x.times(self.gram.vectors).square() @ covariance for _, x in chunks(features)])


def select_prior_precision(
    features: Tensor,
    labels: Tensor,
    n_classes: int | None = None,
    *,
    bounds: tuple[float, float] = (1e-4, 1e6),
    weights: Tensor | None = None,
) -> tuple[LinearExit, float]:
    """Return the exit and the prior precision tau of largest evidence, the exit refitted at every tau tried.

    A scalar search on log tau of `log_marginal_likelihood` at T = 1 with the exact prior: a grid between the bounds,
    since features of several scales give the evidence several maxima, then Brent beside the best of it. The total
    derivative is followed, refits and all, so it is zero at the answer, unlike at the fixed point of MacKay 1992,
    which takes the curvature as constant. Features that tell nothing of the labels send tau to the upper bound,
    which is then what is returned.

    Args:
        features: (N, D).
        labels: (N,).
        n_classes: C; by default one more than the largest label.
        bounds: smallest and largest tau tried.
        weights: (N,) as of `LinearExit.fit`; a weight of 2 is two observations, so scaling all changes the answer.

    Raises:
        ValueError: bounds that are not 0 < low < high, features or labels that `LinearExit.fit` refuses.
    """
    low, high = bounds
    if not 0 < low < high < math.inf:
        raise ValueError(f"bounds are {bounds}; they must be two finite numbers, 0 < low < high")
    n_classes = check_data(features, labels, n_classes)
    weights = checked_weights(weights, features)
    gram = gram_spectrum(features, weights)
    best: tuple[float, LinearExit | None] = (-math.inf, None)

    def cost(log_tau: float) -> float:
        nonlocal best
        problem = Problem(features, labels, math.exp(log_tau), weights)
        exit = solve(problem, n_classes, gram, best[1])
        evidence = _around(exit, problem, gram, 1.0, "exact").log_marginal_likelihood()
        best = max(best, (evidence, exit), key=lambda pair: pair[0])
        return -evidence

    grid = torch.linspace(math.log(high), math.log(low), _TAUS, dtype=torch.float64).tolist()
    costs = [cost(log_tau) for log_tau in grid]
    least = costs.index(min(costs))
    beside = (grid[min(least + 1, _TAUS - 1)], grid[max(least - 1, 0)])
    scipy.optimize.minimize_scalar(cost, bounds=beside, method="bounded", options={"xatol": 1e-3})
    return best[1], best[1].prior_precision


def _around(exit: LinearExit, problem: Problem, gram: Spectrum, temperature: float, prior: str) -> KroneckerLaplace:
    log_probs = float64_logits(exit, problem.features).log_softmax(-1)  # (N, C)
    gold = log_probs.gather(1, problem.labels[:, None].long()).squeeze(1)
    log_likelihood = (gold if problem.weights is None else gold * problem.weights).sum().item()
    curvature = curvature_spectrum(log_probs.exp(), problem.weights)
    return KroneckerLaplace(exit, temperature, prior, curvature, gram, log_likelihood)


@register_posterior
class Kronecker(Posterior):
    """The Kronecker-factored Laplace approximation."""

    name = "kronecker"

    prior: Literal["exact", "factored"] = parameter(
        "exact", "how the prior enters the Kronecker factors", "factored: Meronen et al. 2023's damping"
    )

    def fit(self, exit: LinearExit, features: Tensor, labels: Tensor) -> KroneckerLaplace:
        """See `KroneckerLaplace.fit`."""
        temperature = self.likelihood_temperature
        return KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=temperature, prior=self.prior)

    def fit_at(
        self, temperatures: Iterable[float], exit: LinearExit, features: Tensor, labels: Tensor
    ) -> Iterator[KroneckerLaplace]:
        """See `Posterior.fit_at`; the factors are the same at every temperature, and computed once."""
        asked = [self.vary(likelihood_temperature=at).likelihood_temperature for at in temperatures]
        fitted = self.fit(exit, features, labels)
        return (replace(fitted, likelihood_temperature=at) for at in asked)
