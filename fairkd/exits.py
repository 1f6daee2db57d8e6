"""Linear exits at their maximum a posteriori (MAP).

Notation, here and in `laplace`: x_n = [phi_n; 1] is a feature vector with the constant appended, (D+1,), and
W = [weight | bias] is (C, D+1), so logits are z_n = W x_n. The bias is the last column of W and has the same prior.

The objective is  f(W) = sum_n CE(W x_n, y_n) + tau/2 ||W||^2, a sum and not a mean. It is strictly convex, so the
optimum is one point whatever the start. Its Hessian is  sum_n Lambda_n (x) x_n x_n^T + tau I  in row-major vec(W)
order, Lambda_n = diag(p_n) - p_n p_n^T. Newton steps are solved by conjugate gradients, preconditioned with the
Kronecker approximation of that Hessian (Ritter et al. 2018), so nothing larger than (D+1, D+1) and one chunk of
features in float64 is ever held.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2**19  # numbers of one chunk of features in float64: 4 MiB, about a core's cache
TOLERANCE = 1e-9  # relative gradient norm at which the MAP is reached
MAX_NEWTON = 200
MAX_CG = 400
MAX_PRODUCTS = 15


@dataclass(frozen=True, eq=False)
class LinearExit:
    """A linear head on the features of one layer, with the precision of its Gaussian prior.

    Attributes:
        weight: (C, D) float64.
        bias: (C,) float64.
        prior_precision: tau > 0, of weight and bias alike. A mean loss with L2 penalty wd has tau = N * wd.
    """

    weight: Tensor
    bias: Tensor
    prior_precision: float = 1.0

    def __post_init__(self) -> None:
        """Refuse shapes that do not belong together and a prior that is none."""
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            shapes = f"{tuple(self.weight.shape)} and {tuple(self.bias.shape)}"
            raise ValueError(f"weight and bias have shapes {shapes}; they must be (C, D) and (C,)")
        check_prior_precision(self.prior_precision)

    @classmethod
    def fit(
        cls,
        features: Tensor,
        labels: Tensor,
        prior_precision: float = 1.0,
        n_classes: int | None = None,
        *,
        start: "LinearExit | None" = None,
    ) -> "LinearExit":
        """Return the exit that minimises sum_n CE(W x_n, y_n) + tau/2 ||W||^2.

        Deterministic, in float64 whatever the features' dtype. It ends at a relative gradient norm of 1e-9, see
        `relative_gradient_norm`.

        Args:
            features: (N, D) pooled states, floating point.
            labels: (N,) classes 0..C-1, integers.
            prior_precision: tau > 0, on weights and bias alike.
            n_classes: C; by default one more than the largest label.
            start: an exit to start from, for speed alone: the optimum does not depend on it.

        Raises:
            ValueError: empty or non-finite features, labels that are no classes, a prior precision that is not
                above 0.
            RuntimeError: the gradient norm was not reached.
        """
        check_prior_precision(prior_precision)
        n_classes = check_data(features, labels, n_classes)
        spectrum = gram_spectrum(features)
        return fit_with_spectrum(features, labels, prior_precision, n_classes, spectrum, start)

    @property
    def stacked(self) -> Tensor:
        """W = [weight | bias], (C, D+1) in float64."""
        return torch.cat([self.weight, self.bias[:, None]], dim=1).double()

    def logits(self, features: Tensor) -> Tensor:
        """Return the (N, C) logits of (N, D) features: computed in float64, in the features' dtype or float32."""
        check_features(features, self.weight.shape[1])
        weight = self.stacked
        parts = [x @ weight.T for _, x in augmented_chunks(features)]
        return torch.cat(parts).to(result_dtype(features))  # (N, C)

    def relative_gradient_norm(self, features: Tensor, labels: Tensor) -> float:
        """Return ||grad f|| / (||P - Y|| ||X|| + tau ||W||) on these data, Frobenius norms; 0 is the mode.

        The denominator bounds the two terms of the gradient (Cauchy-Schwarz), so the ratio lies in [0, 1] and does
        not depend on N or on the features' unit. The exit's own fit ends at 1e-9.

        Raises:
            ValueError: as `fit`, and features of another width than the exit's.
        """
        check_features(features, self.weight.shape[1])
        check_data(features, labels, self.weight.shape[0])
        return _evaluate(self.stacked, features, labels, self.prior_precision, _norm(features)).residual


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors (columns) of a symmetric positive semi-definite matrix."""

    values: Tensor
    vectors: Tensor


class Evaluation(NamedTuple):
    """The objective at one W."""

    value: float
    gradient: Tensor  # (C, D+1)
    probs: Tensor  # (N, C)
    residual: float  # relative gradient norm


def gram_spectrum(features: Tensor, weights: Tensor | None = None) -> Spectrum:
    """Return the spectrum of A = sum_n w_n x_n x_n^T, (D+1, D+1), w_n = 1 by default: the constant is in it."""
    width = features.shape[1] + 1
    gram = features.new_zeros(width, width, dtype=torch.float64)
    for rows, x in augmented_chunks(features):
        gram.addmm_((x if weights is None else x * weights[rows, None]).T, x)
    values, vectors = torch.linalg.eigh(gram)
    return Spectrum(values.clamp(min=0), vectors)


def curvature_spectrum(probs: Tensor) -> Spectrum:
    """Return the spectrum of G = mean_n Lambda_n, (C, C), with the all-ones direction last, its eigenvalue exactly 0.

    Softmax does not see the all-ones direction: it has no curvature, only prior. Rounding must not give it some.
    """
    basis = contrast_basis(probs.shape[1]).to(probs)  # (C, C-1)
    mean_curvature = (probs.mean(0).diag() - probs.T @ probs / len(probs)).double()
    values, vectors = torch.linalg.eigh(basis.T @ mean_curvature @ basis)
    ones = basis.new_full((len(basis), 1), len(basis) ** -0.5)
    return Spectrum(torch.cat([values.clamp(min=0), values.new_zeros(1)]), torch.cat([basis @ vectors, ones], dim=1))


def contrast_basis(n_classes: int) -> Tensor:
    """Return a (C, C-1) orthonormal basis of the contrasts, the space orthogonal to the all-ones vector (Helmert)."""
    basis = torch.ones(n_classes, n_classes - 1, dtype=torch.float64).triu()
    basis[range(1, n_classes), range(n_classes - 1)] = -torch.arange(1.0, n_classes, dtype=torch.float64)
    return basis / basis.norm(dim=0)


def augmented_chunks(features: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows and their [phi; 1] in float64, (n, D+1). The memory is used again: copy what is to be kept."""
    n, width = features.shape
    rows = max(1, CHUNK // (width + 1))
    buffer = features.new_ones(min(rows, n), width + 1, dtype=torch.float64)
    for start in range(0, n, rows):
        part = features[start : start + rows].detach()
        x = buffer[: len(part)]
        x[:, :-1] = part
        yield slice(start, start + len(part)), x


def fit_with_spectrum(
    features: Tensor, labels: Tensor, tau: float, n_classes: int, spectrum: Spectrum, start: LinearExit | None
) -> LinearExit:
    """Return the MAP by damped Newton-CG; `spectrum` is the features' own, which serves every prior precision."""
    size = (features.shape[1] + 1, n_classes)
    weight = features.new_zeros(size[::-1], dtype=torch.float64) if start is None else start.stacked
    norm = _norm(features)
    here = _evaluate(weight, features, labels, tau, norm)
    for _ in range(MAX_NEWTON):
        if here.residual <= TOLERANCE:
            return LinearExit(weight[:, :-1].clone(), weight[:, -1].clone(), tau)
        step, products = _newton_step(here, features, tau, spectrum)
        if products > MAX_PRODUCTS:  # confident instances carry next to no curvature: leave them out of A
            uncertainty = 1 - here.probs.square().sum(1)  # tr Lambda_n, (N,)
            spectrum = gram_spectrum(features, uncertainty / uncertainty.mean())
        found = _line_search(weight, step, here, lambda w: _evaluate(w, features, labels, tau, norm))
        if found is None:
            break
        weight, here = found
    raise RuntimeError(
        f"LinearExit.fit stopped at a relative gradient norm of {here.residual:.1e}, above {TOLERANCE:.0e}; "
        f"rescale the features or raise prior_precision (now {tau:g})"
    )


def _evaluate(weight: Tensor, features: Tensor, labels: Tensor, tau: float, norm: float) -> Evaluation:
    value = tau / 2 * weight.square().sum().item()
    gradient = tau * weight
    probs = weight.new_empty(len(features), len(weight))
    errors = 0.0
    for rows, x in augmented_chunks(features):
        label = labels[rows, None]
        log_probs = (x @ weight.T).log_softmax(-1)  # (n, C)
        probs[rows] = log_probs.exp()
        error = probs[rows].scatter(1, label, 0.0)
        error.scatter_(1, label, -error.sum(1, keepdim=True))  # p_y - 1 without its cancellation as p_y nears 1
        value -= log_probs.gather(1, label).sum().item()
        gradient.addmm_(error.T, x)
        errors += error.square().sum().item()
    scale = math.sqrt(errors) * norm + tau * weight.norm().item()
    return Evaluation(value, gradient, probs, gradient.norm().item() / scale)


def _newton_step(here: Evaluation, features: Tensor, tau: float, spectrum: Spectrum) -> Tensor:
    """Return an inexact solution of Hessian @ step = -gradient, by conjugate gradients from 0."""
    curvature = curvature_spectrum(here.probs)
    eigenvalues = curvature.values[:, None] * spectrum.values + tau  # (C, D+1)

    def precondition(v: Tensor) -> Tensor:
        rotated = curvature.vectors.T @ v @ spectrum.vectors
        return curvature.vectors @ (rotated / eigenvalues) @ spectrum.vectors.T

    step = torch.zeros_like(here.gradient)
    remainder = -here.gradient
    direction = solved = precondition(remainder)
    energy = first = (remainder * solved).sum()
    forcing = min(0.1, math.sqrt(here.residual)) ** 2
    for products in range(MAX_CG):
        if energy <= forcing * first:
            break
        image = _hessian_product(direction, here.probs, features, tau)
        rate = energy / (direction * image).sum()
        step = step + rate * direction
        remainder = remainder - rate * image
        solved = precondition(remainder)
        energy, previous = (remainder * solved).sum(), energy
        direction = solved + energy / previous * direction
    return step, products


def _hessian_product(v: Tensor, probs: Tensor, features: Tensor, tau: float) -> Tensor:
    """Return (sum_n Lambda_n (x) x_n x_n^T + tau I) v for v of shape (C, D+1)."""
    image = tau * v
    for rows, x in augmented_chunks(features):
        p = probs[rows]  # (n, C)
        weighted = p * (x @ v.T)
        image.addmm_((weighted - p * weighted.sum(1, keepdim=True)).T, x)
    return image


def _line_search(weight: Tensor, step: Tensor, here: Evaluation, evaluate) -> tuple[Tensor, Evaluation] | None:
    """Halve the step until the objective falls (Armijo), or None. The slack is the rounding of a sum this large."""
    slope = (here.gradient * step).sum().item()
    slack = 1e-13 * abs(here.value)
    for halvings in range(40):
        rate = 0.5**halvings
        there = evaluate(weight + rate * step)
        if there.value <= here.value + 1e-4 * rate * slope + slack:
            return weight + rate * step, there
    return None


def _norm(features: Tensor) -> float:
    """Return the Frobenius norm of X, the constant column included."""
    return math.hypot(torch.linalg.vector_norm(features.detach(), dtype=torch.float64).item(), len(features) ** 0.5)


def result_dtype(features: Tensor) -> torch.dtype:
    """Return the dtype of results: the features', but never coarser than float32."""
    return torch.promote_types(features.dtype, torch.float32)


def check_prior_precision(tau: float) -> None:
    """Refuse what is no finite number above 0."""
    if not 0 < tau < math.inf:
        raise ValueError(f"prior_precision is {tau}; it must be a finite number above 0 (N * wd for a mean loss)")


def check_features(features: Tensor, width: int | None = None) -> None:
    """Refuse what is not a finite, floating point (N, D), N >= 1, D = `width` if given."""
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(f"features have shape {tuple(features.shape)}; they must be (N, D), neither of them 0")
    if not features.is_floating_point():
        raise ValueError(f"features have dtype {features.dtype}; they must be floating point")
    if width is not None and features.shape[1] != width:
        raise ValueError(f"features have width {features.shape[1]}, the exit {width}; take them from the exit's layer")
    if not math.isfinite(_norm(features)):
        raise ValueError("features hold NaN or infinity; look for a diverged model or half-precision overflow")


def check_data(features: Tensor, labels: Tensor, n_classes: int | None) -> int:
    """Refuse features or labels that make no classification problem; return the number of classes."""
    check_features(features)
    if labels.shape != features.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; they must be ({len(features)},), one a row of features")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels have dtype {labels.dtype}; they must be an integer type: class numbers")
    low, high = (int(v) for v in labels.aminmax())
    n_classes = high + 1 if n_classes is None else n_classes
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; at least 2 classes make an exit")
    if low < 0 or high >= n_classes:
        raise ValueError(f"labels run from {low} to {high}; they must lie in 0..{n_classes - 1}: drop unlabelled rows")
    return n_classes
