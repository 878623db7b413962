"""A bound on what a model's constructor may allocate, whatever the sizes in its file say."""

from __future__ import annotations

import math

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["AllocationBound"]


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
