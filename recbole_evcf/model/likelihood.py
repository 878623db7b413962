"""Likelihoods of a history given the decoder's logits: multinomial (equation 1) and Bernoulli.

Sums over all items are made block by block of items, in single precision whatever the logits
come in, so that what lies between stays in the processor's caches. In the backward pass the
gradient takes the place of the logits: keep a copy to use them afterwards.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_evcf.data.histories import HistoryBatch
from recbole_evcf.model.dropout import item_blocks

# Logits in a block.
BLOCK = 2**19


class Likelihood(torch.autograd.Function):
    """log p(history | logits) and its gradient."""

    @classmethod
    def log_prob(cls, logits: Tensor, history: HistoryBatch) -> Tensor:
        """Logits (batch, items) -> log-likelihood of each user's history, (batch,)."""
        return cls.apply(logits, history)


class Multinomial(Likelihood):
    """``sum_i x_i log softmax(logits)_i``: Mult(n, softmax(logits)) without the constant that
    counts orderings. It is the sum of the logits at the history minus n logsumexp."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, history: HistoryBatch) -> Tensor:
        # logsumexp over the items, (batch,).
        top = logits.new_full((len(logits),), -torch.inf, dtype=_precision(logits))
        total = torch.zeros_like(top)
        for block, _ in _copies(logits):
            before, top = top, torch.maximum(top, block.amax(0))
            total = total * (before - top).exp() + block.sub_(top).exp_().sum(0)
        normalizer = top + total.log()
        ctx.save_for_backward(logits, normalizer)
        ctx.history = history
        return _sum_of_logits(logits, history) - history.lengths * normalizer

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, normalizer = ctx.saved_tensors
        factor = -grad * ctx.history.lengths
        for block, part in _copies(logits):
            part.copy_(block.sub_(normalizer).exp_().mul_(factor))
        return _add_at_history(logits, ctx.history, grad), None


class Bernoulli(Likelihood):
    """``sum_i x_i log p_i + (1 - x_i) log(1 - p_i)`` with p = sigmoid(logits). It is the sum of the
    logits at the history minus the sum of softplus over all items."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, history: HistoryBatch) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.history = history
        missed = sum(F.softplus(block).sum(0) for block, _ in _copies(logits))
        return _sum_of_logits(logits, history) - missed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        for block, part in _copies(logits):
            part.copy_(block.sigmoid_().mul_(-grad))
        return _add_at_history(logits, ctx.history, grad), None


LIKELIHOODS: dict[str, type[Likelihood]] = {"multinomial": Multinomial, "bernoulli": Bernoulli}


def sampled_items(history: HistoryBatch, negatives: int) -> tuple[Tensor, Tensor, HistoryBatch]:
    """The items of a batch's histories, and some of the others to stand for all of them.

    The others are drawn uniformly, without replacement. A logit of theirs, shifted by the log of
    how many of them there are for each drawn, counts in the sum of the softmax as often as it has
    to for the sum's expectation to be that over all items (sampled softmax; Bengio & Senécal 2008).

    Args:
        history: the batch.
        negatives: how many of the others are drawn; if there are no more, all are taken.

    Returns:
        item columns, ascending, and the shift of each, (items,); and the histories in these items
        alone, column ``c`` being ``items[c]``.
    """
    shift = torch.zeros(history.n_items, device=history.column.device)
    kept = torch.zeros_like(shift, dtype=torch.bool).index_fill_(0, history.column, True)
    others = drawn = (~kept).nonzero()[:, 0]
    if negatives < len(others):
        drawn = others[torch.randperm(len(others), device=others.device)[:negatives]]
        shift[drawn] = math.log(len(others) / negatives)
    kept[drawn] = True
    items, place = kept.nonzero()[:, 0], kept.cumsum(0) - 1
    column = place[history.column]
    within = replace(history, column=column, n_items=len(items), _transposed=[])
    return items, shift[items], within


def _precision(logits: Tensor) -> torch.dtype:
    # Under autocast the logits come in half precision; a sum over all items needs more.
    return torch.promote_types(logits.dtype, torch.float32)


def _copies(logits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The blocks one by one: a copy to calculate in, and the block itself."""
    return ((x.to(_precision(logits), copy=True), x) for x in item_blocks(logits, BLOCK))


def _sum_of_logits(logits: Tensor, history: HistoryBatch) -> Tensor:
    return history.sum_rows(logits[history.row, history.column].to(_precision(logits)))


def _add_at_history(matrix: Tensor, history: HistoryBatch, value: Tensor) -> Tensor:
    # No item is in a history twice, so a plain read-add-write is exact.
    matrix[history.row, history.column] += value[history.row].to(matrix.dtype)
    return matrix
