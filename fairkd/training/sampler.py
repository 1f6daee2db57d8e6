"""The draw that goes with group weights learnt while training (Sagawa et al. 2020, algorithm 1)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from fairkd import ranks


class UniformGroupSampler(Sampler[int]):
    """As many rows as there are, with replacement: a group uniformly, then a row of it; batches of similar length."""

    def __init__(self, groups: Tensor, lengths: list[int], batch_size: int):
        """Draw from `groups` (N,); `lengths` (N,) are those of the rows."""
        _, group_of, counts = groups.unique(return_inverse=True, return_counts=True)
        self.chances, self.lengths, self.batch_size = 1 / counts[group_of], lengths, batch_size

    def __iter__(self) -> Iterator[int]:
        """One epoch's rows, from torch's own generator, whose state a checkpoint holds."""
        rows = torch.multinomial(self.chances.double(), len(self), replacement=True).tolist()
        order = get_length_grouped_indices([self.lengths[row] for row in rows], self.batch_size)
        return iter([rows[place] for place in order])

    def __len__(self) -> int:
        """The rows of one epoch."""
        return len(self.chances)


class Agreed(Sampler[int]):
    """The rows that a sampler draws in the first process, in every process: each takes its part of a batch of them."""

    def __init__(self, sampler: Sampler[int]):
        """Draw from `sampler`."""
        self.sampler = sampler

    def __iter__(self) -> Iterator[int]:
        """One epoch's rows."""
        return iter(ranks.told(lambda: list(self.sampler)))

    def __len__(self) -> int:
        """The rows of one epoch."""
        return len(self.sampler)
