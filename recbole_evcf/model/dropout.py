"""Dropout of the input: of the entries of histories, and of pseudo-inputs with their clamp."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recbole_evcf.data.histories import BatchShard, HistoryBatch

# Levels of a 16-bit draw.
LEVELS = 2**16
# Entries of a block of a matrix on a processor; a GPU would rather start few kernels.
BLOCK, LARGE_BLOCK = 2**17, 2**26


def drop_entries(x: HistoryBatch, p: float) -> HistoryBatch:
    """Dropout of probability ``p`` on the entries of histories only: a zero stays zero."""
    if p == 0.0:
        return x
    values, shard = x.values, x.entry_shard
    assert values is not None, "the encoder gives every entry a value"
    # Drawn for the whole batch: what an entry gets does not depend on how it is divided.
    total, rows = (len(values), slice(None)) if shard is None else (shard.total, shard.rows)
    keep, scale = keep_mask(values.new_empty(total), p)
    return replace(x, values=values * keep[rows] * scale)


def clamp_and_drop(x: Tensor, p: float, shard: BatchShard | None = None) -> Tensor:
    """Pseudo-inputs (rows, items) clamped to [0, 1], then dropout of probability ``p``, in the
    layout of ``x``; under autocast in its precision. ``shard`` says which rows of all these are."""
    device = x.device.type
    half = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if half else x.dtype
    if p or (torch.is_grad_enabled() and x.requires_grad):
        return _ClampAndDrop.apply(x, p, dtype, shard)
    return x.clamp(0, 1).to(dtype)


def keep_mask(like: Tensor, p: float) -> tuple[Tensor, float]:
    """Draw which entries of a tensor dropout keeps: the mask (uint8), in the tensor's layout, and
    what to multiply kept entries by to keep the expectation.

    A processor draws 16 bits an entry, several times faster than torch's Bernoulli numbers; ``p``,
    in [0, 1), is then rounded to a multiple of 2^-16, and the scale is that of the rounded one.
    """
    if like.device.type != "cpu":
        return torch.empty_like(like, dtype=torch.uint8).bernoulli_(1 - p), 1 / (1 - p)
    dropped = min(round(p * LEVELS), LEVELS - 1)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    # Of a piece of a larger matrix the strides leave gaps; those of a tensor like it do not.
    stride = torch.empty_like(like, device="meta").stride()
    bits = words.view(torch.int16)[: like.numel()].as_strided(like.shape, stride)
    keep = bits >= dropped - LEVELS // 2
    return keep.view(torch.uint8), LEVELS / (LEVELS - dropped)


def item_blocks(matrix: Tensor, on_cpu: int, rows: int | None = None) -> tuple[Tensor, ...]:
    """Views (items of a block, rows) of a (rows, items) matrix that fit into the caches: on a CPU
    of at most ``on_cpu`` entries each, but of at least one item. For a part of a larger matrix with
    that many ``rows``, blocks hold the same items as those of the larger one."""
    size = on_cpu if matrix.device.type == "cpu" else LARGE_BLOCK
    return matrix.T.split(max(size // max(rows or len(matrix), 1), 1))


class _ClampAndDrop(torch.autograd.Function):
    """Both in one, block by block, so that what lies between stays in the processor's caches. The
    gradient passes at the bounds too, unlike that of torch.clamp since 2.15: a pseudo-input that
    starts at 0 or 1 would never move."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, p: float, dtype: torch.dtype, shard: BatchShard | None
    ) -> Tensor:
        result = torch.empty_like(x, dtype=dtype)
        passes = torch.empty_like(x, dtype=torch.uint8)
        ctx.dtype, ctx.scale = x.dtype, 1.0
        total, rows = (len(x), slice(None)) if shard is None else (shard.total, shard.rows)
        pieces = _pieces(x.dtype, x, result, passes, rows=total)
        for source, target, through, clamped, factor in pieces:
            torch.clamp(source, 0, 1, out=clamped)
            torch.eq(clamped, source, out=through.view(torch.bool))
            if p:
                # Drawn for all rows: what one gets does not depend on how they are divided.
                like = source if shard is None else source.new_empty(len(source), total)
                keep, ctx.scale = keep_mask(like, p)
                keep = keep[:, rows]
                through.mul_(keep)
                clamped.mul_(factor.copy_(keep))
            target.copy_(clamped.mul_(ctx.scale))
        ctx.save_for_backward(passes)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (passes,) = ctx.saved_tensors
        result = torch.empty_like(passes, dtype=ctx.dtype)
        for source, target, through, factor, _ in _pieces(ctx.dtype, grad, result, passes):
            target.copy_(source).mul_(ctx.scale).mul_(factor.copy_(through))
        return result, None, None, None


def _pieces(
    dtype: torch.dtype, *matrices: Tensor, rows: int | None = None
) -> Iterator[tuple[Tensor, ...]]:
    """The matrices' blocks one by one, with two buffers of that size to reuse: with mixed types,
    torch would allocate one in each operation, whose pages the system would clear first."""
    blocks = list(zip(*(item_blocks(matrix, BLOCK, rows) for matrix in matrices)))
    buffers = [torch.empty_like(blocks[0][0], dtype=dtype) for _ in range(2)]
    for block in blocks:
        yield *block, *(buffer[: len(block[0])] for buffer in buffers)
