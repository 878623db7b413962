"""Adam whose step on a sparse gradient touches the rows of the table that are in it, no others."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbole_evcf.trainer.trainer import AdamNormGrad


class RowAdam(torch.optim.Adam):
    """Lazy Adam, as ``torch.optim.SparseAdam``, where a gradient is sparse: rows that are not in it
    stay as they are, and so do their moments. Other parameters get Adam's usual step."""

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
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        first = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = first, second
        steps = float(state["step"])
        root = second.div_(1 - beta2**steps).sqrt_().add_(group["eps"])
        size = group["lr"] / (1 - beta1**steps)
        table[rows] = table[rows].addcdiv_(first, root, value=-size)

    def scaled(self, gradient: Tensor) -> Tensor:
        """What the step is taken with, of the rows of a gradient."""
        return gradient


class RowAdamNormGrad(RowAdam, AdamNormGrad):
    """The same of AdamNormGrad."""

    def scaled(self, gradient: Tensor) -> Tensor:
        return gradient / (gradient.norm() + self.EPSILON)
