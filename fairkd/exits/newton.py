"""Damped Newton-CG for the MAP of a linear softmax head.

The objective is f(W) = sum_n w_n CE(W x_n, y_n) + tau/2 ||W - M||^2, with Hessian sum_n w_n Lambda_n (x) x_n x_n^T +
tau I (notation of `kronecker`; weights w_n are 1 and the prior's mean M is 0 unless given). Newton steps are solved
by conjugate gradients, preconditioned with the Kronecker approximation of that Hessian, so nothing larger than (D+1,
D+1) and one chunk of features in float64 is held. On nearly separable data, where that approximation is poor, the
preconditioner is the Hessian of the contrasts itself, ((C-1)(D+1))^2 numbers.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fairkd.exits.design import chunks, feature_norm
from fairkd.exits.kronecker import Spectrum, contrast_basis, curvature_spectrum

TOLERANCE = 1e-9  # relative gradient norm at which the MAP is reached
MAX_NEWTON = 200
MAX_CG = 40  # of the same cost as one exact Hessian, about

Operator = Callable[[Tensor], Tensor]


class Problem(NamedTuple):
    """What a head is fitted to.

    Attributes:
        features: (N, D).
        labels: (N,).
        tau: prior precision.
        weights: (N,) float64 weights of the instances; None is 1.
        mean: (C, D+1) the prior's mean; None is 0.
    """

    features: Tensor
    labels: Tensor
    tau: float
    weights: Tensor | None = None
    mean: Tensor | None = None


class Evaluation(NamedTuple):
    """The objective at one W."""

    value: float
    gradient: Tensor  # (C, D+1)
    probs: Tensor  # (N, C)
    residual: float  # relative gradient norm


def minimise(problem: Problem, gram: Spectrum, start: Tensor) -> Tensor:
    """Return the (C, D+1) minimiser of f to a relative gradient norm of 1e-9, from `start`; `gram` is A's spectrum."""
    norm = feature_norm(problem.features)
    weight, here = start, evaluate(start, problem, norm)
    dense = False
    for _ in range(MAX_NEWTON):
        if here.residual <= TOLERANCE:
            return weight
        inverse = _dense_inverse(here.probs, problem) if dense else _kronecker_inverse(here.probs, gram, problem)
        step, solved = _newton_step(here, problem, inverse)
        dense = dense or not solved
        found = _line_search(weight, step, here, lambda w: evaluate(w, problem, norm))
        if found is None:
            break
        weight, here = found
    raise RuntimeError(
        f"LinearExit.fit stopped at a relative gradient norm of {here.residual:.1e}, above {TOLERANCE:.0e}; "
        f"rescale the features or raise prior_precision (now {problem.tau:g})"
    )


def evaluate(weight: Tensor, problem: Problem, norm: float) -> Evaluation:
    """Return the objective, its gradient and the probabilities at W in one pass; `norm` is `feature_norm`."""
    apart = weight if problem.mean is None else weight - problem.mean
    value = problem.tau / 2 * apart.square().sum().item()
    gradient = problem.tau * apart
    probs = weight.new_empty(len(problem.features), len(weight))
    errors = 0.0
    for rows, x in chunks(problem.features):
        label = problem.labels[rows, None].long()
        log_probs = x.times(weight.T).log_softmax(-1)  # (n, C)
        probs[rows] = log_probs.exp()
        error = probs[rows].scatter(1, label, 0.0)
        missed = error.sum(1, keepdim=True)  # 1 - p_y, without the cancellation as p_y nears 1
        error.scatter_(1, label, -missed)
        losses = torch.where(missed < 0.5, -(-missed).log1p(), -log_probs.gather(1, label))  # (n, 1)
        if problem.weights is not None:
            losses, error = (part * problem.weights[rows, None] for part in (losses, error))
        value += losses.sum().item()
        x.add_transposed(gradient, error)
        errors += error.square().sum().item()
    scale = math.sqrt(errors) * norm + problem.tau * apart.norm().item()
    residual = gradient.norm().item() / scale if scale else 0.0  # all right for certain, and the prior's mean
    return Evaluation(value, gradient, probs, residual)


def _newton_step(here: Evaluation, problem: Problem, inverse: Operator) -> tuple[Tensor, bool]:
    """Return an inexact solution of Hessian @ step = -gradient by preconditioned CG, and whether it is solved."""
    step = torch.zeros_like(here.gradient)
    remainder = -here.gradient
    direction = inverse(remainder)
    energy = first = (remainder * direction).sum()
    forcing = min(0.1, math.sqrt(here.residual)) ** 2
    for _ in range(MAX_CG):
        image = _hessian_product(direction, here.probs, problem)
        rate = energy / (direction * image).sum()
        step = step + rate * direction
        remainder = remainder - rate * image
        preconditioned = inverse(remainder)
        energy, previous = (remainder * preconditioned).sum(), energy
        if energy <= forcing * first:
            return step, True
        direction = preconditioned + energy / previous * direction
    return step, False


def _kronecker_inverse(probs: Tensor, gram: Spectrum, problem: Problem) -> Operator:
    """Return v -> (G (x) A + tau I)^{-1} v for v of shape (C, D+1)."""
    curvature = curvature_spectrum(probs, problem.weights)
    eigenvalues = curvature.values[:, None] * gram.values + problem.tau  # (C, D+1)

    def inverse(v: Tensor) -> Tensor:
        rotated = curvature.vectors.T @ v @ gram.vectors / eigenvalues
        return curvature.vectors @ rotated @ gram.vectors.T

    return inverse


def contrast_hessian(probs: Tensor, features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the exact curvature of the likelihood in the contrasts, ((C-1)(D+1), (C-1)(D+1)), symmetric."""
    basis = contrast_basis(probs.shape[1]).to(probs)  # (C, C-1)
    width, contrasts = features.shape[1] + 1, basis.shape[1]
    hessian = probs.new_zeros(contrasts, width, contrasts, width)
    for rows, x in chunks(features):
        q = probs[rows] @ basis  # (n, C-1)
        for i in range(contrasts):
            for j in range(i + 1):
                curvature = probs[rows] @ (basis[:, i] * basis[:, j]) - q[:, i] * q[:, j]  # (n,)
                if weights is not None:
                    curvature = curvature * weights[rows]
                x.add_gram(hessian[i, :, j], curvature)
    for i in range(contrasts):
        for j in range(i + 1):  # each block is symmetric, and so are those of i, j and j, i
            lower = hessian[i, :, j].tril()
            hessian[i, :, j] = hessian[j, :, i] = lower + lower.tril(-1).T
    return hessian.reshape(contrasts * width, -1)


def _dense_inverse(probs: Tensor, problem: Problem) -> Operator:
    """Return v -> Hessian^{-1} v for v of shape (C, D+1), up to rounding: a Cholesky factor in the contrast space."""
    basis = contrast_basis(probs.shape[1]).to(probs)  # (C, C-1)
    hessian = contrast_hessian(probs, problem.features, problem.weights)
    hessian.diagonal().add_(problem.tau)
    scale = hessian.diagonal().rsqrt()
    hessian = hessian * scale[:, None] * scale
    hessian.diagonal().add_(1e-12)
    factor = torch.linalg.cholesky(hessian)

    def inverse(v: Tensor) -> Tensor:
        contrast = (basis.T @ v).reshape(-1, 1) * scale[:, None]
        solved = torch.cholesky_solve(contrast, factor) * scale[:, None]
        return basis @ solved.reshape(basis.shape[1], -1) + v.mean(0) / problem.tau

    return inverse


def _hessian_product(v: Tensor, probs: Tensor, problem: Problem) -> Tensor:
    """Return (sum_n w_n Lambda_n (x) x_n x_n^T + tau I) v for v of shape (C, D+1)."""
    image = problem.tau * v
    for rows, x in chunks(problem.features):
        p = probs[rows]  # (n, C)
        weighted = p * x.times(v.T)
        if problem.weights is not None:
            weighted *= problem.weights[rows, None]
        x.add_transposed(image, weighted - p * weighted.sum(1, keepdim=True))
    return image


def _line_search(
    weight: Tensor, step: Tensor, here: Evaluation, evaluate_at: Callable[[Tensor], Evaluation]
) -> tuple[Tensor, Evaluation] | None:
    """Halve the step until the objective falls (Armijo), or None. The slack is the rounding of a sum this large."""
    slope = (here.gradient * step).sum().item()
    slack = 1e-13 * abs(here.value)
    for halvings in range(40):
        rate = 0.5**halvings
        there = evaluate_at(weight + rate * step)
        if there.value <= here.value + 1e-4 * rate * slope + slack:
            return weight + rate * step, there
    return None
