import math

import torch

from fairkd.training.sampler import UniformGroupSampler


def test_groups_are_drawn_uniformly_and_batches_are_of_similar_length():
    groups = torch.tensor([0] * 900 + [3] * 80 + [5] * 20)
    lengths = torch.randint(5, 100, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    torch.manual_seed(0)
    sampler = UniformGroupSampler(groups, lengths, 10)
    rows = list(sampler)
    assert len(rows) == len(sampler) == 1000
    counts = groups[rows].bincount()[[0, 3, 5]]
    assert (counts - 1000 / 3).abs().max() < 5 * math.sqrt(1000 * 2 / 9)
    batches = torch.tensor(lengths)[rows].reshape(100, 10).double()
    assert batches.std(1).mean() < 0.2 * torch.tensor(lengths).double().std()
    torch.manual_seed(0)
    assert list(sampler) == rows != list(sampler)
