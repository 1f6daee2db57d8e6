"""The exact Laplace approximation of a linear exit: every curvature between its contrasts, no Kronecker factors.

The control for `laplace`: ((C-1)(D+1))^2 numbers, a gigabyte at D = 6,000 and C = 3. The Hessian
    H = H_lik / T + tau I,   H_lik = sum_n Lambda_n (x) x_n x_n^T
leaves the all-ones direction of the classes to the prior alone, so only the C-1 contrasts are held.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fairkd.exits.design import chunks
from fairkd.exits.kronecker import contrast_basis
from fairkd.exits.linear import LinearExit, check_features, checked_weights, float64_logits, result_dtype
from fairkd.exits.newton import contrast_hessian
from fairkd.exits.posterior import LaplacePosterior, Posterior, check_posterior, register_posterior


@dataclass(frozen=True, eq=False)
class DenseLaplace(LaplacePosterior):
    """The exact Gaussian posterior of an exit at its mode. Made by `fit`.

    Attributes:
        exit: the exit at its MAP.
        likelihood_temperature: T > 0.
        inverse_factor: L^{-1} of H = L L^T in the contrasts, ((C-1)(D+1), (C-1)(D+1)) float64; column i * (D+1) + j
            is weight j of contrast i (`kronecker.contrast_basis`).
    """

    exit: LinearExit
    likelihood_temperature: float
    inverse_factor: Tensor

    @classmethod
    def fit(
        cls,
        exit: LinearExit,
        features: Tensor,
        labels: Tensor,
        *,
        likelihood_temperature: float = 1.0,
        weights: Tensor | None = None,
    ) -> "DenseLaplace":
        """Return the exact Laplace approximation around an exit fitted on these very features and labels.

        Args:
            exit: at its MAP; its prior precision is the posterior's.
            features: (N, D).
            labels: (N,), needed to see that the exit is at its mode.
            likelihood_temperature: T > 0: 1 is exact, N the curvature of a mean loss.
            weights: (N,) those that the exit was fitted with.

        Raises:
            ValueError: as `KroneckerLaplace.fit`.
        """
        check_posterior(exit, features, labels, likelihood_temperature, weights)
        probs = float64_logits(exit, features).softmax(-1)
        hessian = contrast_hessian(probs, features, checked_weights(weights, features)) / likelihood_temperature
        hessian.diagonal().add_(exit.prior_precision)
        factor = torch.linalg.cholesky(hessian)
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)
        return cls(exit, likelihood_temperature, inverse)

    @property
    def effective_dimension(self) -> float:
        """d_eff = tr(H_lik / T H^{-1}), at most (C-1)(D+1) (MacKay 1992's gamma)."""
        return len(self.inverse_factor) - self.exit.prior_precision * self.inverse_factor.square().sum().item()

    def logit_covariance(self, features: Tensor) -> Tensor:
        """Return the (N, C, C) posterior covariance of the logits at (N, D) features, in their dtype or float32."""
        contrast, basis = self._contrast_covariance(features), self._basis
        covariance = torch.einsum("ci,nij,dj->ncd", basis, contrast, basis)
        squared = torch.cat([x.squared_norms() for _, x in chunks(features)])
        prior = squared / self.exit.prior_precision / len(basis)  # of the all-ones direction, an (N, C, C) constant
        return (covariance + prior[:, None, None]).to(result_dtype(features))

    def contrasts(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return each instance's own principal axes: deviations (N, C-1), basis (N, C, C-1)."""
        variances, vectors = torch.linalg.eigh(self._contrast_covariance(features))
        return variances.clamp(min=0).sqrt(), self._basis @ vectors

    @property
    def _basis(self) -> Tensor:
        return contrast_basis(len(self.exit.bias)).to(self.inverse_factor)

    def _contrast_covariance(self, features: Tensor) -> Tensor:
        """(N, C-1, C-1): with H = L L^T, entry ij is <L^{-1} (e_i (x) x), L^{-1} (e_j (x) x)>."""
        check_features(features, self.exit.weight.shape[1])
        blocks = self.inverse_factor.unflatten(1, (-1, features.shape[1] + 1))  # contrast by contrast
        n_contrasts = blocks.shape[1]
        out = blocks.new_empty(len(features), n_contrasts, n_contrasts)
        for rows, x in chunks(features):
            image = x.times(blocks.flatten(0, 1).T).unflatten(1, blocks.shape[:2]).mT  # (n, C-1, M)
            out[rows] = image @ image.mT
        return out


@register_posterior
class Dense(Posterior):
    """The exact Laplace approximation: the control."""

    name = "dense"

    def fit(self, exit: LinearExit, features: Tensor, labels: Tensor) -> DenseLaplace:
        """See `DenseLaplace.fit`."""
        return DenseLaplace.fit(exit, features, labels, likelihood_temperature=self.likelihood_temperature)
