"""Likelihoods of a history given the decoder's logits: multinomial (equation 1) and Bernoulli."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_evcf.data.histories import HistoryBatch

__all__ = ["LIKELIHOODS", "Bernoulli", "Multinomial"]


class Multinomial:
    """``sum_i x_i log softmax(logits)_i``: Mult(n, softmax(logits)) without the constant that
    counts orderings."""

    @staticmethod
    def log_prob(logits: Tensor, history: HistoryBatch) -> Tensor:
        """Logits (batch, items) -> log-likelihood of each user's history, (batch,)."""
        return _MultinomialLogProb.apply(_at_least_single(logits), history)


class Bernoulli:
    """``sum_i x_i log p_i + (1 - x_i) log(1 - p_i)`` with p = sigmoid(logits)."""

    @staticmethod
    def log_prob(logits: Tensor, history: HistoryBatch) -> Tensor:
        """Logits (batch, items) -> log-likelihood of each user's history, (batch,)."""
        return _BernoulliLogProb.apply(_at_least_single(logits), history)


LIKELIHOODS = {"multinomial": Multinomial, "bernoulli": Bernoulli}


def _at_least_single(logits: Tensor) -> Tensor:
    # Under autocast the logits come in half precision; a sum over all items needs more.
    return logits if logits.dtype == torch.float64 else logits.float()


def _sum_of_logits(logits: Tensor, history: HistoryBatch) -> Tensor:
    return history.sum_rows(logits[history.row, history.column])


def _add_at_history(matrix: Tensor, history: HistoryBatch, value: Tensor) -> Tensor:
    # No item stands twice in a history, so a plain read-add-write is exact.
    where = (history.row, history.column)
    matrix[where] = matrix[where] + value[history.row]
    return matrix


class _MultinomialLogProb(torch.autograd.Function):
    """Sum of the logits at the history minus n logsumexp, with its gradient in a single
    batch x items buffer; autograd's own would hold three."""

    @staticmethod
    def forward(ctx, logits: Tensor, history: HistoryBatch) -> Tensor:
        normalizer = logits.logsumexp(1)
        ctx.save_for_backward(logits, normalizer)
        ctx.history = history
        return _sum_of_logits(logits, history) - history.lengths * normalizer

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        logits, normalizer = ctx.saved_tensors
        softmax = (logits - normalizer[:, None]).exp_()
        result = softmax.mul_((-grad * ctx.history.lengths)[:, None])
        return _add_at_history(result, ctx.history, grad), None


class _BernoulliLogProb(torch.autograd.Function):
    """Sum of the logits at the history minus the sum of softplus over all items, with its
    gradient in a single batch x items buffer."""

    @staticmethod
    def forward(ctx, logits: Tensor, history: HistoryBatch) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.history = history
        return _sum_of_logits(logits, history) - F.softplus(logits).sum(1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        result = torch.sigmoid(logits).mul_(-grad[:, None])
        return _add_at_history(result, ctx.history, grad), None
