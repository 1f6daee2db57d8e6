"""A device that computes as the processor does, but is another: tensors on it and on the processor do not mix.

It stands in for a GPU where there is none: what forgets to say where a new tensor is to be fails as on a GPU. Its name
is one that PyTorch knows and nothing uses.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

ELSEWHERE = torch.device("lazy")
# As on a GPU: a copy goes from one to the other, and rows may be named by a tensor on the processor.
_MIXED = {torch.ops.aten.copy_.default, torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}


class _There(Tensor):
    """A tensor elsewhere; `here` holds its numbers."""

    @staticmethod
    def __new__(cls, here: Tensor):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        made = Tensor._make_wrapper_subclass(
            cls, here.size(), device=ELSEWHERE, dispatch_sizes_strides_policy="sizes", **layout
        )
        made.here = here
        return made

    def tolist(self):
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


class _Watch(TorchDispatchMode):
    """Sees every operation, those also that are given no tensor."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


def _compute(function, args, kwargs):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, _There)]
    here = [tensor for tensor in tensors if not isinstance(tensor, _There) and tensor.ndim]
    if there and here and function not in _MIXED:
        raise RuntimeError(f"{function}: tensors are on {ELSEWHERE} and on the processor")
    place = kwargs.get("device") or (ELSEWHERE if there else None)
    args, kwargs = tree_map_only(_There, lambda tensor: tensor.here, (args, kwargs))
    if kwargs.get("device") == ELSEWHERE:
        kwargs = kwargs | {"device": torch.device("cpu")}
    made = function(*args, **kwargs)
    return tree_map_only(Tensor, _There, made) if place == ELSEWHERE else made


@contextmanager
def elsewhere() -> Iterator[None]:
    """Within, `tensor.to(ELSEWHERE)` and every tensor made there are on that device; generators draw as ever."""
    generator = torch.Generator
    torch.Generator = lambda device="cpu": generator()
    try:
        with _Watch():
            yield
    finally:
        torch.Generator = generator
