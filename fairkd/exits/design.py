"""The design matrix X of a linear exit: features with the constant appended, x_n = [phi_n; 1], in float64, by chunks.

Features are dense, or sparse (torch's COO layout) where nearly all of them are 0, as in a bag of words: then products
cost what is not 0, and no more than a chunk is ever held dense.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 2**19  # numbers of one chunk of features in float64: 4 MiB, about a core's cache
SPARSE = 16  # times as many rows are sparse
PANEL = 96  # columns of the Gram matrix at a time: of a symmetric matrix only the lower triangle is made


@dataclass(frozen=True, eq=False)
class Rows:
    """n rows of X, dense; their memory is used again for the next: copy what is to be kept.

    Attributes:
        x: (n, D+1) float64.
    """

    x: Tensor

    def times(self, matrix: Tensor) -> Tensor:
        """X M, for M of (D+1, K): (n, K)."""
        return self.x @ matrix

    def add_transposed(self, total: Tensor, errors: Tensor) -> None:
        """Add E^T X, for E of (n, C), to a total of (C, D+1)."""
        total.addmm_(errors.T, self.x)

    def add_gram(self, total: Tensor, weights: Tensor | None = None) -> None:
        """Add sum_n w_n x_n x_n^T, for w of (n,), to a total of (D+1, D+1), of which only the lower triangle counts."""
        weighted = self.x if weights is None else self.x * weights[:, None]
        for start in range(0, self.x.shape[1], PANEL):
            columns = slice(start, start + PANEL)
            total[start:, columns].addmm_(weighted[:, start:].T, self.x[:, columns])

    def squared_norms(self) -> Tensor:
        """||x_n||^2, (n,)."""
        return self.x.square().sum(1)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """n rows of X, the constant column left implicit.

    Attributes:
        phi: (n, D) float64, coalesced COO.
    """

    phi: Tensor

    def times(self, matrix: Tensor) -> Tensor:
        """See `Rows.times`."""
        return self.phi @ matrix[:-1] + matrix[-1]

    def add_transposed(self, total: Tensor, errors: Tensor) -> None:
        """See `Rows.add_transposed`."""
        row, column = self.phi.indices()
        total[:, :-1].T.index_add_(0, column, self.phi.values()[:, None] * errors[row])
        total[:, -1] += errors.sum(0)

    def add_gram(self, total: Tensor, weights: Tensor | None = None) -> None:
        """See `Rows.add_gram`."""
        (row, column), values = self.phi.indices(), self.phi.values()
        weights = values.new_ones(len(self.phi)) if weights is None else weights
        weighted = _sparse(row, column, values * weights[row], self.phi.shape)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            total[:-1, :-1] += torch.sparse.mm(weighted.T, self.phi).to_dense()
        total[-1, :-1].index_add_(0, column, weighted.values())
        total[-1, -1] += weights.sum()

    def squared_norms(self) -> Tensor:
        """See `Rows.squared_norms`."""
        ones = self.phi.values().new_ones(len(self.phi))
        return ones.index_add_(0, self.phi.indices()[0], self.phi.values().square())


def chunks(features: Tensor) -> Iterator[tuple[slice, Rows | SparseRows]]:
    """Yield which rows they are, and the rows of X, of features (N, D) dense or sparse."""
    size = max(1, CHUNK // (features.shape[1] + 1))
    if features.layout == torch.sparse_coo:
        return _sparse_chunks(features.detach().coalesce(), SPARSE * size)
    return _dense_chunks(features, size)


def _dense_chunks(features: Tensor, size: int) -> Iterator[tuple[slice, Rows]]:
    n, width = features.shape
    buffer = features.new_empty(min(size, n), width + 1, dtype=torch.float64)
    for start in range(0, n, size):
        part = features[start : start + size].detach()
        x = buffer[: len(part)]
        x[:, :-1], x[:, -1] = part, 1
        yield slice(start, start + len(part)), Rows(x)


def _sparse_chunks(features: Tensor, size: int) -> Iterator[tuple[slice, SparseRows]]:
    n, width = features.shape
    (row, column), values = features.indices(), features.values().double()
    bounds = torch.searchsorted(row, torch.arange(0, n + size, size, device=row.device)).tolist()
    for i, start in enumerate(range(0, n, size)):
        part, stop = slice(bounds[i], bounds[i + 1]), min(start + size, n)
        phi = _sparse(row[part] - start, column[part], values[part], (stop - start, width))
        yield slice(start, stop), SparseRows(phi)


def feature_norm(features: Tensor) -> float:
    """Return the Frobenius norm of X, the constant column included."""
    return math.sqrt(sum(x.squared_norms().sum().item() for _, x in chunks(features)))


def selected(features: Tensor, rows: Tensor) -> Tensor:
    """The features, dense or sparse, of the rows with these indices."""
    return features.index_select(0, rows.to(features.device))


def _sparse(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """The coalesced COO of entries in the order of their rows."""
    where = torch.stack([row, column])
    return torch.sparse_coo_tensor(where, values, shape, is_coalesced=True, check_invariants=False)
