"""The inference networks: q(z | x), and q(z1 | x, z2) of the two-level models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_evcf.data.histories import HistoryBatch
from recbole_evcf.model.dropout import clamp_and_drop, drop_entries
from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.layers import (
    GaussianHead,
    HistoryLinear,
    Input,
    Layer,
    Linear,
    hidden_layers,
)

__all__ = ["HistoryEncoder", "JointEncoder"]


class HistoryEncoder(nn.Module):
    """q(z | x): input dropout, one hidden layer per width, Gaussian head.

    Args:
        n_items: width M of the history.
        widths: widths of the hidden layers, from the input on.
        latent_dimension: width of z.
        layer: class of the hidden layers, such as :class:`~recbole_evcf.model.layers.GatedLayer`.
        dropout_prob: probability of dropping an entry of the input in training.
    """

    def __init__(
        self,
        n_items: int,
        widths: list[int],
        latent_dimension: int,
        layer: Layer,
        dropout_prob: float,
    ):
        super().__init__()
        self.dropout_prob = dropout_prob
        self.first = layer(lambda: HistoryLinear(n_items, widths[0]))
        self.rest = hidden_layers(widths, layer)
        self.head = GaussianHead(widths[-1], latent_dimension)

    def forward(self, x: Input) -> Gaussian:
        """A normalised batch of histories, or pseudo-inputs (rows, items), which are clamped to
        [0, 1], -> q(z | x), (rows, latent)."""
        p = self.dropout_prob if self.training else 0.0
        x = clamp_and_drop(x, p) if isinstance(x, Tensor) else drop_entries(x, p)
        return self.head(self.rest(self.first(x)))


class JointEncoder(nn.Module):
    """q(z1 | x, z2) in the published forms.

    With one layer, x (after dropout) and z2 are concatenated and meet one hidden layer. With L
    layers, x and z2 each pass one hidden layer, and together L - 1 joint ones.

    Args: as of :class:`HistoryEncoder`.
    """

    def __init__(
        self,
        n_items: int,
        widths: list[int],
        latent_dimension: int,
        layer: Layer,
        dropout_prob: float,
    ):
        super().__init__()
        self.dropout_prob = dropout_prob
        self.shallow = len(widths) == 1
        if self.shallow:
            self.first = layer(lambda: HistoryLinear(n_items, widths[0], latent_dimension))
        else:
            self.first_x = layer(lambda: HistoryLinear(n_items, widths[0]))
            self.first_z2 = layer(lambda: Linear(latent_dimension, widths[0]))
            self.joint = hidden_layers([2 * widths[0], *widths[1:]], layer)
        self.head = GaussianHead(widths[-1], latent_dimension)

    def forward(self, x: HistoryBatch, z2: Tensor) -> Gaussian:
        """Normalised histories and z2, (batch, latent), -> q(z1 | x, z2)."""
        x = drop_entries(x, self.dropout_prob if self.training else 0.0)
        if self.shallow:
            return self.head(self.first(x, z2))
        return self.head(self.joint(torch.cat([self.first_x(x), self.first_z2(z2)], dim=1)))
