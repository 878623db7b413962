"""Limit what a model's constructor allocates, whatever sizes its file names.

``torch.device("meta")`` would not do: RecBole's autoencoders index NumPy arrays with tensors in
their constructors, and tensors on that device hold no numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["AllocationBound", "bound_by_weights"]

# A constructor creates little but its weights: numbers per byte of weights, and in addition.
NUMBERS_PER_BYTE, EXTRA_NUMBERS = 8, 10**7


class AllocationBound(TorchDispatchMode):
    """A context in which new tensors hold at most ``limit`` numbers in total.

    Raises:
        ValueError: code inside asks for more.
    """

    def __init__(self, limit: int):
        super().__init__()
        self._left = limit

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        # Functions that make a tensor take its size first; others take an existing tensor.
        if args and isinstance(args[0], (list, tuple)) and all(isinstance(n, int) for n in args[0]):
            self._left -= math.prod(args[0])
            if self._left < 0:
                raise ValueError("the sizes that it gives are larger than its weights.")
        return func(*args, **(kwargs or {}))


def bound_by_weights(state: Mapping[str, Tensor], more: int = 0) -> AllocationBound:
    """Return the bound for a model with these weights, and ``more`` additional numbers."""
    n_bytes = sum(value.untyped_storage().nbytes() for value in state.values())
    return AllocationBound(NUMBERS_PER_BYTE * n_bytes + EXTRA_NUMBERS + more)
