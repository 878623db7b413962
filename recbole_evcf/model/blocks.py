"""Large matrices in pieces that stay in the processor's caches."""

from __future__ import annotations

from torch import Tensor

__all__ = ["item_blocks"]

# Entries of a block anywhere but on a processor: a GPU would rather start few kernels.
LARGE_BLOCK = 2**26


def item_blocks(matrix: Tensor, on_cpu: int) -> tuple[Tensor, ...]:
    """Views (items of a block, rows) of a (rows, items) matrix.

    Args:
        matrix: (rows, items).
        on_cpu: entries that a block has at most, but for a single item's, on a processor.
    """
    size = on_cpu if matrix.device.type == "cpu" else LARGE_BLOCK
    return matrix.T.split(max(size // max(len(matrix), 1), 1))
