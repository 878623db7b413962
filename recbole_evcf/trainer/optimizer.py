"""Adam on gradients of unit norm, as the paper's authors trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["AdamNormGrad"]


class AdamNormGrad(torch.optim.Adam):
    """Adam on gradients that are first scaled to unit L2 norm, tensor by tensor:
    ``g / (|g| + 1e-7)``.

    Takes the arguments of ``torch.optim.Adam``. The steps run in torch's fused kernel.
    """

    EPSILON = 1e-7

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=True)
        # A gradient scaler must unscale first: the fused kernel would do so after our scaling.
        self._step_supports_amp_scaling = False

    def step(self, closure: Callable | None = None) -> Any:
        """Take a step, as ``torch.optim.Adam.step`` does."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            norms = torch._foreach_norm(gradients)
            torch._foreach_add_(norms, self.EPSILON)
            torch._foreach_div_(gradients, norms)
        return super().step(closure)
