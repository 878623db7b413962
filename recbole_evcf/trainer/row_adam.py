"""Adam whose step on a sparse gradient touches the rows of the table that are in it, no others."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbole_evcf.trainer.trainer import AdamNormGrad


class RowAdam(torch.optim.Adam):
    """Adam, lazy and partially row-wise where a gradient is sparse: rows that are not in it, and
    their moments, stay as they are, as in ``torch.optim.SparseAdam``; and a row has one second
    moment, the mean over its entries, which saves a table. Other parameters get Adam's step."""

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """Take a step, as ``torch.optim.Adam.step`` does."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and table.grad.is_sparse:
                    self._step_rows(table, table.grad.coalesce(), group)
                    # Not for the other step.
                    table.grad = None
        return super().step(closure)

    def _step_rows(self, table: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        rows, values = gradient.indices()[0], self.scaled(gradient.values())
        state = self.state[table]
        if not state:
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(table)
            state["exp_avg_sq"] = table.new_zeros(len(table))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        squares = values.square().view(len(rows), -1).mean(1)
        second = state["exp_avg_sq"][rows].lerp_(squares, 1 - beta2)
        first = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = first, second
        steps = float(state["step"])
        root = (second / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        size = group["lr"] / (1 - beta1**steps) / root
        table[rows] = table[rows] - first * size.view(-1, *[1] * (table.dim() - 1))

    def scaled(self, gradient: Tensor) -> Tensor:
        """What the step is taken with, of the rows of a gradient."""
        return gradient


class RowAdamNormGrad(RowAdam, AdamNormGrad):
    """The same of AdamNormGrad."""

    def scaled(self, gradient: Tensor) -> Tensor:
        return gradient / (gradient.norm() + self.EPSILON)
