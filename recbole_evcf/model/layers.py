"""Hidden layers and Gaussian heads (equation 7 of Kim & Suh 2019), on dense and sparse input."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_evcf.data.histories import HistoryBatch
from recbole_evcf.model.gaussian import Gaussian

Input = Tensor | HistoryBatch
# A hidden layer's class: it calls ``linear``, which makes an affine map, once for each map that it
# needs. Its ``forward`` hands on what it is given to them.
Layer = Callable[[Callable[[], nn.Module]], nn.Module]

# Entries of histories whose rows are multiplied at once.
ENTRIES = 2**14

# The published bounds of every log-variance.
BOUNDS = -12.0, 4.0


class Linear(nn.Linear):
    """``nn.Linear`` with weights drawn from N(0, 2 / fan_in), as published."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.in_features))


class OutputLayer(Linear):
    """The logits of all items, an affine map of the decoder's last hidden layer. Where few users
    meet many items, BLAS is up to twice as fast if the long side comes first or in blocks."""

    USERS, ITEMS = 400, 512

    def forward(self, h: Tensor) -> Tensor:
        """(batch, hidden) -> (batch, items), held in memory item by item."""
        return torch.addmm(self.bias[:, None], self.weight, h.T).T

    def of_items(self, h: Tensor, items: Tensor, shift: Tensor) -> Tensor:
        """The logits of some items, each once, plus a ``shift`` of each: (batch, items given). The
        gradients of weight and bias are sparse: they have the rows of these items."""
        weight, bias = _Rows.apply(self.weight, items), _Rows.apply(self.bias, items)
        return torch.addmm((bias + shift)[:, None], weight, h.T).T

    def score(self, h: Tensor, out: Tensor) -> None:
        """The same without a gradient, into ``out``, which is held user by user."""
        if h.device.type != "cpu":
            torch.addmm(self.bias, h, self.weight.T, out=out)
            return
        # Blocks of one size: a few items or users left over would be rounded in another way.
        n_users, n_items = -(-len(h) // self.USERS), -(-len(self.bias) // self.ITEMS)
        for users, rows in zip(h.tensor_split(n_users or 1), out.tensor_split(n_users or 1)):
            blocks = (x.tensor_split(n_items) for x in (self.bias, self.weight, rows.T))
            for bias, weight, block in zip(*blocks):
                torch.addmm(bias, users, weight.T, out=block.T)


class _Rows(torch.autograd.Function):
    """Some rows of a table, each once. Its gradient is sparse, unlike that of indexing."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.shape = rows, table.shape
        return table[rows]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _of_rows(ctx.rows, grad, ctx.shape), None


def _of_rows(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    # Said explicitly: else torch warns.
    return torch.sparse_coo_tensor(rows[None], values, shape, check_invariants=False)


class HistoryLinear(nn.Module):
    """``x W + b`` where ``x`` is a batch of histories, or dense as the pseudo-inputs are. With
    histories it is a sum of the weight rows of their items, without a batch x items matrix.

    Args:
        n_items: width of ``x``.
        out_features: width of the result.
        n_dense: width of a further dense input that is concatenated to ``x``.

    Attributes:
        sparse_gradient: with histories, the gradient of the weights is a sparse tensor, which has
            the rows of their items, and those of the dense input.
    """

    sparse_gradient = False

    def __init__(self, n_items: int, out_features: int, n_dense: int = 0):
        super().__init__()
        self.n_dense = n_dense
        fan_in = n_items + n_dense
        self.weight = nn.Parameter(torch.empty(fan_in, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_in))
        nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, x: Input, dense: Tensor | None = None) -> Tensor:
        """``x`` (batch, items) sparse or dense, ``dense`` (batch, n_dense) -> (batch, out)."""
        if not isinstance(x, Tensor):
            assert x.values is not None, "a history is normalized before it is encoded"
            values = x.values.to(self.weight.dtype)
            return _SumOfRows.apply(self.weight, values, x, dense, self.sparse_gradient) + self.bias
        if dense is not None:
            x = torch.cat([x, dense], dim=1)
        return dense_products(x, [self])[0]


def dense_products(x: Tensor, layers: list[HistoryLinear]) -> list[Tensor]:
    """What each of some layers makes of the same dense (rows, items)."""
    # Under autocast x comes in half precision.
    products = _DenseProducts.apply(x, *(layer.weight.to(x.dtype) for layer in layers))
    return [product + layer.bias for product, layer in zip(products, layers)]


class _DenseProducts(torch.autograd.Function):
    """``x W`` for each of several W. The gradient in x, (rows, items), is made as (items, rows), to
    which each W adds in place: on a CPU a long first side is up to 1.6 times as fast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *weights)
        return tuple(x @ weight for weight in weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, *weights = ctx.saved_tensors
        if x.dtype.itemsize < 4:
            # One product loads the result once, and rounds it once.
            by_item = torch.cat(weights, 1) @ torch.cat(grads, 1).T
            return by_item.T, *(x.T @ grad for grad in grads)
        by_item = weights[0] @ grads[0].T
        for weight, grad in zip(weights[1:], grads[1:]):
            by_item.addmm_(weight, grad.T)
        return by_item.T, *(x.T @ grad for grad in grads)


class _SumOfRows(torch.autograd.Function):
    """Sparse batch times the first rows of a weight table, plus a dense one times the others. The
    gradient of the first is the product with the transposed batch, again a sum of rows: faster than
    embedding_bag's own. The other rows are empty bags there, and are filled in place."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        values: Tensor,
        x: HistoryBatch,
        dense: Tensor | None,
        sparse: bool,
    ) -> Tensor:
        ctx.x, ctx.sparse = x, sparse
        result = F.embedding_bag(x.column, weight, x.offsets, mode="sum", per_sample_weights=values)
        if dense is not None:
            result.addmm_(dense, weight[x.n_items :])
        ctx.save_for_backward(weight, values, dense)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, (weight, values, dense) = ctx.x, ctx.saved_tensors
        of_values = of_dense = None
        if ctx.needs_input_grad[1]:
            entries = zip(x.row.split(ENTRIES), x.column.split(ENTRIES))
            of_values = torch.cat([(grad[row] * weight[item]).sum(1) for row, item in entries])
        order, offsets = x.transposed()
        n_dense = len(weight) - x.n_items
        if ctx.sparse:
            items = x.column[order].unique_consecutive()
            rows = torch.cat([items, torch.arange(x.n_items, len(weight), device=items.device)])
            offsets = offsets[items]
        offsets = F.pad(offsets, (0, n_dense), value=len(order))
        values, grad = values.to(grad.dtype)[order], grad.contiguous()
        result = F.embedding_bag(x.row[order], grad, offsets, mode="sum", per_sample_weights=values)
        if dense is not None:
            torch.mm(dense.T, grad, out=result[len(result) - n_dense :])
            of_dense = grad @ weight[x.n_items :].T
        if ctx.sparse:
            result = _of_rows(rows, result, weight.shape)
        return result, of_values, None, of_dense, None


class TanhLayer(nn.Module):
    """``tanh(x W + b)``."""

    def __init__(self, linear: Callable[[], nn.Module]):
        super().__init__()
        self.linear = linear()

    def forward(self, *x: Input) -> Tensor:
        return torch.tanh(self.linear(*x))


class GatedLayer(nn.Module):
    """``(x W + b) * sigmoid(x V + c)``, equation 7."""

    def __init__(self, linear: Callable[[], nn.Module]):
        super().__init__()
        self.linear, self.gate = linear(), linear()

    def forward(self, x: Input, *dense: Tensor) -> Tensor:
        maps = [each for each in (self.linear, self.gate) if isinstance(each, HistoryLinear)]
        if isinstance(x, Tensor) and maps and not dense:
            linear, gate = dense_products(x, maps)
        else:
            linear, gate = self.linear(x, *dense), self.gate(x, *dense)
        return linear * torch.sigmoid(gate)


def hidden_layers(widths: list[int], layer: Layer) -> nn.Sequential:
    """Dense hidden layers from ``widths[0]`` inputs through each following width."""
    return nn.Sequential(*(layer(partial(Linear, *pair)) for pair in pairwise(widths)))


class GaussianHead(nn.Module):
    """Mean and log-variance, each linear in the last hidden layer, the latter clamped."""

    def __init__(self, in_features: int, latent_dimension: int):
        super().__init__()
        self.mean = Linear(in_features, latent_dimension)
        self.log_variance = Linear(in_features, latent_dimension)

    def forward(self, h: Tensor) -> Gaussian:
        # Under autocast the products come in half precision; a density needs more.
        dtype = self.mean.weight.dtype
        return Gaussian(self.mean(h).to(dtype), self.log_variance(h).to(dtype).clamp(*BOUNDS))
