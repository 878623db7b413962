"""What each of several processes updates: a part of every weight, and the pseudo-inputs it encodes.

Gradients are summed, each part where it is updated, and the updated parts are gathered. That moves
as many bytes as a sum of all gradients, and divides the optimizer's work and memory (the first
stage of ZeRO, Rajbhandari et al. 2020). Pseudo-inputs are gathered only when an epoch ends: until
then each is needed by the process that encodes it alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from recbole_evcf import distributed


class Shares:
    """This process's parts of a model's weights, while it trains.

    Args:
        model: of equal weights in all processes.

    Attributes:
        weights: what an optimizer updates, in the order of the model's weights.
    """

    def __init__(self, model: nn.Module):
        network: Any = model.network
        self._all, self._prior = list(model.parameters()), network.prior
        self._by_item = getattr(self._prior, "by_item", None)
        # Of the others each process has a run of the entries, as if they were one vector.
        self._whole = [w for w in self._all if w.requires_grad and w is not self._by_item]
        self._entries = [weight.detach().view(-1) for weight in self._whole]
        ends = list(accumulate(map(len, self._entries)))
        size = max(-(-ends[-1] // distributed.count()), 1)
        self._runs = [
            [
                slice(max(start + n - end, 0), max(min(start + size, end) + n - end, 0))
                for n, end in zip(map(len, self._entries), ends)
            ]
            for start in range(0, size * distributed.count(), size)
        ]
        self._exchange = distributed.Exchange(size, self._entries[0])
        self._number = self._exchange.number
        self._parts = [nn.Parameter(part) for part in self._of(self._number, self._entries)]
        parts = dict(zip(self._whole, self._parts))
        if self._by_item is not None:
            rows = distributed.part(k := self._by_item.shape[1])
            gather = partial(distributed.gather_parts, total=k)
            self._own = self._prior.own_rows(rows, gather)
            parts[self._by_item] = self._own.by_item
        self.weights = [parts.get(weight, weight) for weight in self._all]

    def _of(self, number: int, entries: Sequence[Tensor]) -> list[Tensor]:
        """What a process has of the entries of each weight."""
        return [each[run] for each, run in zip(entries, self._runs[number])]

    def _leave(self, number: int, entries: Sequence[Tensor]) -> None:
        pieces = self._of(number, entries)
        torch.cat(pieces, out=self._exchange.rows[number][: sum(map(len, pieces))])

    def _pieces(self, number: int, row: Tensor) -> tuple[Tensor, ...]:
        """Undo what :meth:`_leave` did."""
        sizes = [len(piece) for piece in self._of(number, self._entries)]
        return row[: sum(sizes)].split(sizes)

    @contextmanager
    def training(self) -> Iterator[None]:
        """An epoch: within it each process has the pseudo-inputs that it encodes, after it all."""
        if self._by_item is None:
            yield
            return
        self._own.by_item.data.copy_(self._by_item[:, self._own.shard.rows])
        self._prior.own = self._own
        try:
            yield
            self._by_item.data.copy_(self._join(self._by_item, self._own.by_item.data))
        finally:
            self._prior.own = None

    def sum_gradients(self, may_overflow: bool = False) -> None:
        """Give each of :attr:`weights` its gradient, of all processes together. Where they
        ``may_overflow``, all have numbers that are not finite, or none: a scaler leaves out a step.

        Raises:
            ValueError: the prior learns from pseudo-inputs that nobody here updates.
        """
        if self._by_item is not None and self._by_item.grad is not None:
            raise ValueError(
                f"{type(self._prior).__name__} reads pseudo_inputs, of which each process updates "
                "a part: let it read own, as VampPrior.components does, or leave out nproc."
            )
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in self._whole]
        entries = [grad.reshape(-1) for grad in grads]
        for number in range(distributed.count()):
            if number != self._number:
                self._leave(number, entries)
        own = self._of(self._number, entries)
        for row in self._exchange.for_this():
            torch._foreach_add_(own, self._pieces(self._number, row))
        for weight, part, grad in zip(self._whole, self._parts, own):
            part.grad = None if weight.grad is None else grad
            weight.grad = None
        if may_overflow:
            grads = [weight.grad for weight in self.weights if weight.grad is not None]
            total = torch.stack([grad.sum() for grad in grads]).sum()
            distributed.sum_up([total])
            torch._foreach_add_(grads, 0 * total)

    def gather_weights(self) -> None:
        """Update the model's weights from the parts of all processes."""
        self._leave(self._number, self._entries)
        for number, row in enumerate(self._exchange.for_all()):
            if number != self._number:
                torch._foreach_copy_(self._of(number, self._entries), self._pieces(number, row))

    def clip(self, max_norm: float, norm_type: float = 2.0, **more: Any) -> None:
        """Do as ``torch.nn.utils.clip_grad_norm_``, to the gradients of all processes as one."""
        # An empty part has no largest entry.
        grads = [w.grad for w in self.weights if w.grad is not None and w.grad.numel()]
        norms = distributed.gather(get_total_norm(grads, norm_type, **more))
        total = torch.linalg.vector_norm(norms, float(norm_type))
        clip_grads_with_norm_(self.weights, max_norm, total)

    def keep_state_whole(self, optimizer: Optimizer) -> None:
        """Let an optimizer of :attr:`weights` give and take the state of an optimizer of the
        model's weights. All processes must ask for it."""

        def changed(change: Callable[[nn.Parameter, Tensor], Tensor], content: dict) -> dict:
            state = {
                index: {
                    name: change(self._all[index], value)
                    if isinstance(value, Tensor) and name != "step"
                    else value
                    for name, value in values.items()
                }
                for index, values in content["state"].items()
            }
            return {**content, "state": state}

        optimizer.register_state_dict_post_hook(lambda _, content: changed(self._join, content))
        optimizer.register_load_state_dict_pre_hook(lambda _, content: changed(self._cut, content))

    def _cut(self, weight: nn.Parameter, whole: Tensor) -> Tensor:
        if weight is self._by_item:
            return whole[:, self._own.shard.rows].clone()
        place = next(i for i, each in enumerate(self._whole) if each is weight)
        return whole.reshape(-1)[self._runs[self._number][place]].clone()

    def _join(self, weight: nn.Parameter, part: Tensor) -> Tensor:
        if weight is self._by_item:
            return distributed.gather_rows(part.T).T.contiguous()
        return distributed.gather_rows(part).view(weight.shape)
