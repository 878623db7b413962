"""The weight of the KL term, which rises while training warms up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["KLWarmup"]


class KLWarmup(nn.Module):
    """Linear KL annealing. Its counters are buffers, so every checkpoint holds its state.

    By steps, as in Mult-VAE and RecBole: ``min(cap, step / steps)`` for the ``step``-th batch. By
    epochs, as in Kim & Suh 2019: ``cap * min(1, epoch / epochs)`` with ``epoch`` completed epochs.

    Args:
        cap: the maximum, ``anneal_cap``.
        steps: ``total_anneal_steps``; 0 starts at the maximum. None counts by epochs instead.
        epochs: ``warmup_epochs``; 0 starts at the maximum. Read when ``steps`` is None.
        users: number of training users, an epoch for :meth:`after_batch`.

    Attributes:
        was_finished: whether the maximum had been reached when the present epoch began.
    """

    was_finished = False
    _seen = 0
    step: Tensor
    epoch: Tensor

    def __init__(
        self, cap: float, steps: int | None = None, epochs: int | None = None, users: int = 1
    ):
        super().__init__()
        self.cap, self.steps, self.epochs, self.users = cap, steps, epochs or 0, users
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return f"cap={self.cap}, steps={self.steps}, epochs={self.epochs}"

    @property
    def weight(self) -> Tensor:
        """The present weight, a scalar tensor (on the device, so that reading it never waits)."""
        if self.steps:
            return (self.step / self.steps).clamp(max=self.cap)
        if self.steps is None and self.epochs:
            return self.cap * (self.epoch / self.epochs).clamp(max=1.0)
        return torch.full_like(self.step, self.cap, dtype=torch.get_default_dtype())

    @property
    def finished(self) -> bool:
        """Whether the maximum has been reached."""
        if self.steps is not None:
            return int(self.step) >= self.cap * self.steps
        return int(self.epoch) >= self.epochs

    def begin_epoch(self) -> None:
        """Call this before each training epoch."""
        self.was_finished = self.finished

    def next_step(self) -> None:
        """Call this before each training batch."""
        self.step += 1

    def next_epoch(self) -> None:
        """Call this after each training epoch."""
        self.epoch += 1

    def before_batch(self) -> None:
        """Call this before each training batch if the trainer does not count epochs."""
        if not self._seen:
            self.begin_epoch()
        self.next_step()

    def after_batch(self, users: int) -> None:
        """Call this after each such batch with its size, once its loss is computed."""
        self._seen += users
        if self._seen >= self.users:
            self._seen = 0
            self.next_epoch()
