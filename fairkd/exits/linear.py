"""Linear exits at their maximum a posteriori (MAP).

The objective is  f(W) = sum_n w_n CE(W x_n, y_n) + tau/2 ||W - M||^2  with W = [weight | bias] and x_n = [phi_n; 1]:
a sum and not a mean, and a prior on weights and bias alike. Instances weigh w_n = 1 and the prior's mean M is 0 unless
given. It is strictly convex, so the optimum is one point whatever the start.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fairkd.exits.design import chunks, feature_norm
from fairkd.exits.kronecker import Spectrum, gram_spectrum
from fairkd.exits.newton import Problem, evaluate, minimise


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
        weights: Tensor | None = None,
        towards: "LinearExit | None" = None,
    ) -> "LinearExit":
        """Return the exit that minimises sum_n w_n CE(W x_n, y_n) + tau/2 ||W - M||^2.

        Deterministic, in float64 whatever the features' dtype. It ends at a relative gradient norm of 1e-9, see
        `relative_gradient_norm`.

        Args:
            features: (N, D) pooled states, floating point; dense, or sparse (COO), as a bag of words.
            labels: (N,) classes 0..C-1, integers.
            prior_precision: tau > 0, on weights and bias alike.
            n_classes: C; by default one more than the largest label.
            weights: (N,) w_n, at least 0, some above; None is 1: an instance of weight 2 counts as two.
            towards: the exit whose weight and bias are the prior's mean M; None is 0. A posterior is of an exit with
                M = 0 alone.

        Raises:
            ValueError: empty or non-finite features, labels that are no classes, a prior precision that is not
                above 0, weights that are none, another exit's shape.
            RuntimeError: the gradient norm was not reached.
        """
        check_prior_precision(prior_precision)
        n_classes = check_data(features, labels, n_classes)
        weights = checked_weights(weights, features)
        if towards is not None and towards.weight.shape != (n_classes, features.shape[1]):
            raise ValueError(f"towards has weights {tuple(towards.weight.shape)}, not {(n_classes, features.shape[1])}")
        mean = None if towards is None else towards.stacked
        problem = Problem(features, labels, prior_precision, weights, mean)
        return solve(problem, n_classes, gram_spectrum(features, weights), towards)

    @property
    def stacked(self) -> Tensor:
        """W = [weight | bias], (C, D+1) in float64."""
        return torch.cat([self.weight, self.bias[:, None]], dim=1).double()

    def logits(self, features: Tensor) -> Tensor:
        """Return the (N, C) logits of (N, D) features: computed in float64, in the features' dtype or float32."""
        check_features(features, self.weight.shape[1])
        return float64_logits(self, features).to(result_dtype(features))

    def relative_gradient_norm(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """Return ||grad f|| / (||w (P - Y)|| ||X|| + tau ||W||) on these data, Frobenius norms; 0 is the mode.

        The denominator bounds the two terms of the gradient (Cauchy-Schwarz), so the ratio lies in [0, 1] and does
        not depend on N or on the features' unit. The exit's own fit ends at 1e-9. M = 0 here.

        Raises:
            ValueError: as `fit`, and features of another width than the exit's.
        """
        check_data(features, labels, self.weight.shape[0], self.weight.shape[1])
        problem = Problem(features, labels, self.prior_precision, checked_weights(weights, features))
        return evaluate(self.stacked, problem, feature_norm(features)).residual


def solve(problem: Problem, n_classes: int, gram: Spectrum, start: LinearExit | None = None) -> LinearExit:
    """Fit a checked problem with the spectrum of A at hand, which serves every prior precision, from any start."""
    features = problem.features
    if start is None:
        first = torch.zeros(n_classes, features.shape[1] + 1, dtype=torch.float64, device=features.device)
    else:
        first = start.stacked
    weight = minimise(problem, gram, first)
    return LinearExit(weight[:, :-1].clone(), weight[:, -1].clone(), problem.tau)


def float64_logits(exit: LinearExit, features: Tensor) -> Tensor:
    """Return the (N, C) logits unrounded, features checked already."""
    weight = exit.stacked
    return torch.cat([x.times(weight.T) for _, x in chunks(features)])


def result_dtype(features: Tensor) -> torch.dtype:
    """Return the dtype of results: the features', but never coarser than float32."""
    return torch.promote_types(features.dtype, torch.float32)


def check_prior_precision(tau: float) -> None:
    """Refuse what is no finite number above 0."""
    if not 0 < tau < math.inf:
        raise ValueError(f"prior_precision is {tau}; it must be a finite number above 0 (N * wd for a mean loss)")


def check_features(features: Tensor, width: int | None = None) -> None:
    """Refuse what is not a finite, floating point (N, D), N >= 1, D = `width` if given."""
    _check_tensor("features", features)
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(f"features have shape {tuple(features.shape)}; they must be (N, D), neither of them 0")
    if not features.is_floating_point():
        raise ValueError(f"features have dtype {features.dtype}; they must be floating point")
    if features.layout not in (torch.strided, torch.sparse_coo):
        raise ValueError(f"features have layout {features.layout}; they must be dense or COO: .to_sparse_coo()")
    if width is not None and features.shape[1] != width:
        raise ValueError(f"features have width {features.shape[1]}, the exit {width}; take them from the exit's layer")
    if not math.isfinite(feature_norm(features)):
        raise ValueError("features hold NaN or infinity; look for a diverged model or half-precision overflow")


def _check_tensor(name: str, given: Tensor) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(f"{name} are {type(given).__name__}; they must be a torch tensor: torch.as_tensor({name})")


def checked_weights(weights: Tensor | None, features: Tensor) -> Tensor | None:
    """The weights (N,) in float64 beside the features; refuse what are none."""
    if weights is None:
        return None
    if weights.shape != features.shape[:1]:
        raise ValueError(f"weights have shape {tuple(weights.shape)}; they must be ({len(features)},), one a row")
    weights = weights.to(features.device, torch.float64)
    if not (weights.isfinite().all() and weights.min() >= 0 and weights.max() > 0):
        low, high = (float(value) for value in weights.aminmax())
        raise ValueError(f"weights run from {low:g} to {high:g}; they must be finite, at least 0, and not all 0")
    return weights


def check_data(features: Tensor, labels: Tensor, n_classes: int | None, width: int | None = None) -> int:
    """Refuse features or labels that make no classification problem; return the number of classes."""
    check_features(features, width)
    _check_tensor("labels", labels)
    if labels.shape != features.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; they must be ({len(features)},), one a row")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels have dtype {labels.dtype}; they must be an integer type: class numbers")
    low, high = (int(v) for v in labels.aminmax())
    n_classes = high + 1 if n_classes is None else n_classes
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}; at least 2 classes make an exit")
    if low < 0 or high >= n_classes:
        raise ValueError(f"labels run from {low} to {high}; they must lie in 0..{n_classes - 1}: drop unlabelled rows")
    return n_classes
