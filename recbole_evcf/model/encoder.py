"""The inference networks: q(z | x), and q(z1 | x, z2) of the two-level models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.layers import (
    GatedLayer,
    GaussianHead,
    HistoryLinear,
    Input,
    Linear,
    TanhLayer,
    hidden_layers,
)

__all__ = ["HistoryEncoder", "JointEncoder"]


class HistoryEncoder(nn.Module):
    """q(z | x): input dropout, one hidden layer per width, Gaussian head.

    Args:
        n_items: width M of the history.
        widths: widths of the hidden layers, from the input on.
        latent_dimension: width of z.
        gated: gated layers (equation 7) instead of tanh.
        dropout_prob: probability of dropping an entry of the input in training.
    """

    def __init__(
        self,
        n_items: int,
        widths: list[int],
        latent_dimension: int,
        gated: bool,
        dropout_prob: float,
    ):
        super().__init__()
        layer = GatedLayer if gated else TanhLayer
        self.dropout_prob = dropout_prob
        self.first = layer(lambda: HistoryLinear(n_items, widths[0]))
        self.rest = hidden_layers(widths, gated)
        self.head = GaussianHead(widths[-1], latent_dimension)

    def forward(self, x: Input) -> Gaussian:
        """A normalised batch of histories, or dense (rows, items), -> q(z | x), (rows, latent)."""
        x = drop(x, self.dropout_prob, self.training)
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
        gated: bool,
        dropout_prob: float,
    ):
        super().__init__()
        layer = GatedLayer if gated else TanhLayer
        self.dropout_prob = dropout_prob
        self.shallow = len(widths) == 1
        if self.shallow:
            self.first = layer(lambda: HistoryLinear(n_items, widths[0], latent_dimension))
        else:
            self.first_x = layer(lambda: HistoryLinear(n_items, widths[0]))
            self.first_z2 = layer(lambda: Linear(latent_dimension, widths[0]))
            self.joint = hidden_layers([2 * widths[0], *widths[1:]], gated)
        self.head = GaussianHead(widths[-1], latent_dimension)

    def forward(self, x: Input, z2: Tensor) -> Gaussian:
        """Normalised histories and z2, (batch, latent), -> q(z1 | x, z2)."""
        x = drop(x, self.dropout_prob, self.training)
        if self.shallow:
            return self.head(self.first(x, z2))
        return self.head(self.joint(torch.cat([self.first_x(x), self.first_z2(z2)], dim=1)))


def drop(x: Input, p: float, training: bool) -> Input:
    """Dropout on either form of input."""
    if isinstance(x, Tensor):
        return F.dropout(x, p, training) if p else x
    return x.dropout(p, training)
