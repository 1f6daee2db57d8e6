"""The mean of softmax(z) for a normal z: deterministic, by the trapezoidal rule, or by Monte Carlo.

Softmax does not see the all-ones direction, so z = logits + basis @ (deviations * t), t standard normal in the C-1
contrasts: `basis` (C, C-1), or (N, C, C-1) where each instance has its own, has the principal directions of the
covariance, `deviations` (N, C-1) its square roots.

On a smooth integrand with normal tails the trapezoidal rule converges exponentially in 1/spacing, with no weights to
look up (Trefethen and Weideman 2014). The poles of softmax come nearer as 1/deviation, so the spacing is taken finer
in proportion, for each dimension by itself: at a deviation of 5 that is a hundredth of the nodes that a
Gauss-Hermite rule needs for the same error.
"""

import math
from functools import cache

import torch
from torch import Tensor

CHUNK = 2**16  # numbers of one chunk of sampled logits, 0.5 MiB: it stays in a core's cache
# Spacing of the nodes up to a deviation of 0.4; up to 1; and the factor by which it shrinks from one level to the next.
WIDE, NARROW, SHRINK = 1.0, 0.75, 1.25
MAX_GRID = 2_000_000


def mean_by_quadrature(logits: Tensor, deviations: Tensor, basis: Tensor, *, entropy: bool = False) -> Tensor:
    """Return E[softmax], (N, C), to 1e-6; `entropy` appends a column with the mean entropy, in nats."""
    dims = deviations.shape[1]
    levels = 1 + (deviations.clamp(min=1e-9).log() / math.log(SHRINK)).ceil().clamp(min=0).long()  # (N, C-1)
    levels[deviations <= 0.4] = 0
    levels.clamp_(max=_finest(dims))
    out = logits.new_empty(len(logits), logits.shape[1] + entropy)
    for level in levels.unique(dim=0):
        nodes, weights = (part.to(logits) for part in _grid(tuple(level.tolist())))
        rows = (levels == level).all(1).nonzero().squeeze(1)
        for part in rows.split(max(1, CHUNK // (len(weights) * logits.shape[1]))):
            out[part] = _average(logits[part], deviations[part], _of(basis, part), nodes, weights, entropy)
    return out


def mean_by_sampling(
    logits: Tensor, deviations: Tensor, basis: Tensor, n_samples: int, seed: int, *, entropy: bool = False
) -> Tensor:
    """Return the mean of softmax over fresh samples for every instance; shapes as `mean_by_quadrature`."""
    generator = torch.Generator(logits.device).manual_seed(seed)
    weights = logits.new_full((n_samples,), 1 / n_samples)
    out = logits.new_empty(len(logits), logits.shape[1] + entropy)
    for part in torch.arange(len(logits), device=logits.device).split(max(1, CHUNK // (n_samples * logits.shape[1]))):
        nodes = torch.randn(
            len(part), n_samples, deviations.shape[1], generator=generator, dtype=logits.dtype, device=logits.device
        )
        out[part] = _average(logits[part], deviations[part], _of(basis, part), nodes, weights, entropy)
    return out


def _of(basis: Tensor, rows: Tensor) -> Tensor:
    return basis if basis.ndim == 2 else basis[rows]


def _average(
    logits: Tensor, deviations: Tensor, basis: Tensor, nodes: Tensor, weights: Tensor, entropy: bool
) -> Tensor:
    """Return the weighted mean of softmax over nodes (S, C-1), or (n, S, C-1) where every instance has its own.

    The nodes are the last dimension: a softmax over the few classes is then many additions of long rows.
    """
    directions = basis * deviations[:, None]  # (n, C, C-1)
    sampled = (directions @ nodes.mT).add_(logits[:, :, None])  # (n, C, S)
    probs = sampled.softmax(1)
    mean = probs @ weights
    if not entropy:
        return mean
    surprise = -(probs * sampled.log_softmax(1)).sum(1) @ weights  # (n,)
    return torch.cat([mean, surprise[:, None]], dim=1)


def _spacing(level: int) -> float:
    return WIDE if level == 0 else NARROW / SHRINK ** (level - 1)


def _finest(dims: int) -> int:
    """The last level whose grid is not too large; deviations beyond it (80 for C = 3) lose accuracy."""
    level = 0
    while (12 / _spacing(level + 1)) ** dims <= MAX_GRID:
        level += 1
    return level


@cache
def _grid(levels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return nodes (S, dims) and weights (S,) for a standard normal; the lightest, 1e-8 together, are left out."""
    axes = []
    for level in levels:
        spacing = _spacing(level)
        reach = math.ceil(6.2 / spacing)
        axes.append(torch.arange(-reach, reach + 1, dtype=torch.float64) * spacing)
    nodes = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    weights = (-nodes.square().sum(1) / 2).exp()
    weights = weights / weights.sum()
    order = weights.argsort()
    kept = order[weights[order].cumsum(0) > 1e-8]
    return nodes[kept], weights[kept] / weights[kept].sum()
