"""A bound on what a model's constructor may allocate, whatever the sizes in its file say."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["AllocationBound", "bound_by_weights"]

# A constructor makes its weights, and little else: numbers that it may make for each byte of the
# file's, and apart from them.
NUMBERS_PER_BYTE, NUMBERS_APART = 8, 10**7


class AllocationBound(TorchDispatchMode):
    """A context in which tensors are made of so many numbers at most, all together.

    Args:
        most: how many numbers.

    Raises:
        ValueError: inside, more would be made.
    """

    def __init__(self, most: int):
        super().__init__()
        self._left = most

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # Functions that make a tensor take its size first; others a tensor, which is there already.
        if args and isinstance(args[0], (list, tuple)) and all(isinstance(n, int) for n in args[0]):
            self._left -= math.prod(args[0])
            if self._left < 0:
                raise ValueError("the sizes that it gives are larger than its weights.")
        return func(*args, **(kwargs or {}))


def bound_by_weights(state: Mapping[str, Tensor], more: int = 0) -> AllocationBound:
    """A bound for the constructor of a model with these weights.

    Args:
        state: the weights by name.
        more: how many numbers it may make besides.
    """
    n_bytes = sum(value.untyped_storage().nbytes() for value in state.values())
    return AllocationBound(NUMBERS_PER_BYTE * n_bytes + NUMBERS_APART + more)
