"""The mean of softmax(z) for a normal z: deterministic, by Gauss-Hermite quadrature, or by Monte Carlo.

Softmax does not see the all-ones direction, so z = logits + basis @ (deviations * t), t standard normal in the C-1
contrasts: `basis` (C, C-1) has the principal directions of the covariance, `deviations` (N, C-1) its square roots.
"""

from functools import cache

import torch
from scipy.special import roots_hermitenorm
from torch import Tensor

CHUNK = 2**19  # numbers of one chunk of sampled logits, 4 MiB
# Nodes a dimension, and the largest standard deviation of a contrast for which they are right to 1e-6. The poles of
# softmax come nearer as 1/deviation while the nodes' spacing shrinks as 1/sqrt(nodes).
LADDER = ((20, 1.1), (80, 2.6), (320, 5.5))
MAX_GRID = 2_000_000


def mean_by_quadrature(logits: Tensor, deviations: Tensor, basis: Tensor) -> Tensor:
    """Return E[softmax] with the coarsest rule of the ladder that is right for an instance; (N, C) in, (N, C) out."""
    dims = deviations.shape[1]
    ladder = [rung for rung in LADDER if rung[0] ** dims <= MAX_GRID]
    limits = deviations.new_tensor([limit for _, limit in ladder[:-1]])
    rung_of = torch.bucketize(deviations.amax(1), limits)  # (N,)
    out = torch.empty_like(logits)
    for rung, (count, _) in enumerate(ladder):
        rows = (rung_of == rung).nonzero().squeeze(1)
        if len(rows):
            nodes, weights = (part.to(logits) for part in _hermite_grid(count, dims))
            for part in rows.split(max(1, CHUNK // (len(weights) * len(basis)))):
                out[part] = _average(logits[part], deviations[part], basis, nodes, weights)
    return out


def mean_by_sampling(logits: Tensor, deviations: Tensor, basis: Tensor, n_samples: int, seed: int) -> Tensor:
    """Return the mean of softmax over fresh samples for every instance; (N, C) in, (N, C) out."""
    generator = torch.Generator(logits.device).manual_seed(seed)
    weights = logits.new_full((n_samples,), 1 / n_samples)
    out = torch.empty_like(logits)
    for part in torch.arange(len(logits), device=logits.device).split(max(1, CHUNK // (n_samples * len(basis)))):
        nodes = torch.randn(
            len(part), n_samples, basis.shape[1], generator=generator, dtype=logits.dtype, device=logits.device
        )
        out[part] = _average(logits[part], deviations[part], basis, nodes, weights)
    return out


def _average(logits: Tensor, deviations: Tensor, basis: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of softmax over nodes (S, C-1), or (n, S, C-1) where every instance has its own."""
    sampled = logits[:, None] + (deviations[:, None] * nodes) @ basis.T  # (n, S, C)
    return torch.einsum("nsc,s->nc", sampled.softmax(-1), weights)


@cache
def _hermite_grid(count: int, dims: int) -> tuple[Tensor, Tensor]:
    """Return nodes (S, dims) and weights (S,) for a standard normal; the lightest, 1e-8 together, are left out."""
    points, masses = (torch.from_numpy(part) for part in roots_hermitenorm(count))
    nodes = torch.cartesian_prod(*[points] * dims).reshape(-1, dims)
    weights = torch.cartesian_prod(*[masses / masses.sum()] * dims).reshape(-1, dims).prod(1)
    order = weights.argsort()
    kept = order[weights[order].cumsum(0) > 1e-8]
    return nodes[kept], weights[kept] / weights[kept].sum()
