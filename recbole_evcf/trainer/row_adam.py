"""Adam whose step on a sparse gradient touches the rows of the table that are in it, no others."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbole_evcf.trainer.trainer import AdamNormGrad

# Numbers of a table that fit into a core's cache with their gradient and moments.
AT_ONCE = 2**17


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
        state = self.state[table]
        if not state:
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(table)
            state["exp_avg_sq"] = table.new_zeros(len(table))
        state["step"] += 1
        steps, (beta1, beta2) = float(state["step"]), group["betas"]
        all_values = gradient.values()
        divisor, at_once = self.divisor(all_values), max(AT_ONCE // (table[:1].numel() or 1), 1)
        for rows, values in zip(gradient.indices()[0].split(at_once), all_values.split(at_once)):
            values = values / divisor
            squares = values.square().view(len(rows), -1).mean(1)
            second = state["exp_avg_sq"][rows].lerp_(squares, 1 - beta2)
            first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
            state["exp_avg_sq"].index_copy_(0, rows, second)
            state["exp_avg"].index_copy_(0, rows, first)
            root = second.div_(1 - beta2**steps).sqrt_().add_(group["eps"])
            size = root.reciprocal_().mul_(group["lr"] / (1 - beta1**steps))
            change = first.mul_(size.view(-1, *[1] * (table.dim() - 1)))
            table.index_copy_(0, rows, table.index_select(0, rows).sub_(change))

    def divisor(self, gradient: Tensor) -> Tensor | float:
        """What the rows of a gradient are divided by first."""
        return 1.0


class RowAdamNormGrad(RowAdam, AdamNormGrad):
    """The row-wise version of AdamNormGrad."""

    def divisor(self, gradient: Tensor) -> Tensor | float:
        return gradient.norm() + self.EPSILON
