"""The Kronecker factors of the curvature of a linear softmax head.

x_n = [phi_n; 1] is (D+1,), see `design`, and W = [weight | bias] is (C, D+1), so logits are z_n = W x_n. The bias is
the last column of W. With Lambda_n = diag(p_n) - p_n p_n^T the curvature of sum_n CE(z_n, y_n), in row-major vec(W)
order, is
    H_lik = sum_n Lambda_n (x) x_n x_n^T  ~  G (x) A,   G = mean_n Lambda_n  (C, C),   A = sum_n x_n x_n^T  (D+1, D+1).
A holds the sum over instances and G the mean, so N is counted once (Ritter et al. 2018). The only error is the
covariance between Lambda_n and x_n x_n^T. Where instances weigh w_n, sums and means are weighted: an instance of weight
2 counts as two.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fairkd.exits.design import chunks


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors (columns) of a symmetric positive semi-definite matrix."""

    values: Tensor
    vectors: Tensor


def gram_spectrum(features: Tensor, weights: Tensor | None = None) -> Spectrum:
    """Return the spectrum of A = sum_n w_n x_n x_n^T, (D+1, D+1): the constant column is in it."""
    width = features.shape[1] + 1
    gram = torch.zeros(width, width, dtype=torch.float64, device=features.device)
    for rows, x in chunks(features):
        x.add_gram(gram, None if weights is None else weights[rows])
    values, vectors = torch.linalg.eigh(gram, UPLO="L")
    return Spectrum(values.clamp(min=0), vectors)


def curvature_spectrum(probs: Tensor, weights: Tensor | None = None) -> Spectrum:
    """Return the spectrum of G = mean_n Lambda_n, (C, C), with the all-ones direction last, its eigenvalue exactly 0.

    Softmax does not see the all-ones direction: it has no curvature, only prior. Rounding must not give it some.
    """
    basis = contrast_basis(probs.shape[1]).to(probs)  # (C, C-1)
    if weights is None:
        mean_curvature = (probs.mean(0).diag() - probs.T @ probs / len(probs)).double()
    else:
        shares = (weights / weights.sum()).to(probs)
        mean_curvature = ((shares @ probs).diag() - (probs * shares[:, None]).T @ probs).double()
    values, vectors = torch.linalg.eigh(basis.T @ mean_curvature @ basis)
    ones = basis.new_full((len(basis), 1), len(basis) ** -0.5)
    return Spectrum(torch.cat([values.clamp(min=0), values.new_zeros(1)]), torch.cat([basis @ vectors, ones], dim=1))


def contrast_basis(n_classes: int) -> Tensor:
    """Return a (C, C-1) orthonormal basis of the contrasts, the space orthogonal to the all-ones vector (Helmert)."""
    basis = torch.ones(n_classes, n_classes - 1, dtype=torch.float64).triu()
    basis[range(1, n_classes), range(n_classes - 1)] = -torch.arange(1.0, n_classes, dtype=torch.float64)
    return basis / basis.norm(dim=0)
