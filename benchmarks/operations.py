"""How many multiply-adds the matrix products of the networks take, by formula.

With B users in a batch, E entries of their histories, M items, K pseudo-inputs, hidden widths
H1..HL and Z latents: a dense layer on R rows takes R x in x out forwards, and as much again for
each of the gradients of its weights and its input. The first layer of an x-encoder is a sum of E
weight rows, E x H1, with a gradient of its weights only. Gated layers count twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Network:
    """What the counts depend on.

    Attributes:
        items: M.
        widths: of the hidden layers.
        latent: Z.
        gated: gated hidden layers.
        levels: 1, or 2 for H+Vamp.
        n_pseudo_inputs: K, or 0 for the standard normal prior.
    """

    items: int
    widths: tuple[int, ...]
    latent: int
    gated: bool
    levels: int
    n_pseudo_inputs: int


@dataclass(frozen=True)
class Operations:
    """Multiply-adds: of dense matrix products, and of sums of weight rows."""

    dense: int
    sparse: int

    @property
    def flop(self) -> int:
        """Floating point operations: a multiply-add is two."""
        return 2 * (self.dense + self.sparse)


def training_batch(network: Network, users: int, entries: int) -> Operations:
    """Of one training step on ``users`` users with ``entries`` interactions in all."""
    forward = evaluation_batch(network, users, entries)
    k, widths, dense = network.n_pseudo_inputs, network.widths, forward.dense
    # The log-variances of each posterior.
    dense += network.levels * users * widths[-1] * network.latent
    if network.levels == 2:
        # p(z1 | z2); scoring needs none.
        dense += _stack(network, users, (network.latent, *reversed(widths)))
        dense += users * widths[0] * 2 * network.latent
    if k:
        dense += _stack(network, k, (network.items, *widths))
        dense += k * widths[-1] * 2 * network.latent
        dense += users * k * 2 * network.latent
    return Operations(3 * dense, 2 * forward.sparse)


def training_share(network: Network, users: int, entries: int, processes: int) -> Operations:
    """Of one training step, those of the process that has the most of them."""
    own = [-(-number // processes) for number in (network.n_pseudo_inputs, users, entries)]
    share = training_batch(replace(network, n_pseudo_inputs=own[0]), *own[1:])
    # The density of each user's draw under all components.
    others = own[1] * (network.n_pseudo_inputs - own[0]) * 2 * network.latent
    return Operations(share.dense + 3 * others, share.sparse)


def exchanged(network: Network, weights: Sequence[int], processes: int, size: int = 4) -> int:
    """Bytes that a process sends in one training step, if it sends to each other process what that
    needs: gradients, and then weights, all but the pseudo-inputs; the posteriors of those, and
    their gradients; norms and losses.

    Args:
        weights: numbers of entries of the model's weights.
        size: bytes of a number.
    """
    others, width = processes - 1, 2 * network.latent
    k = network.n_pseudo_inputs
    run = -(-(sum(weights) - k * network.items) // processes)
    parts = 2 * run + -(-k // processes) * width + len(weights)
    return size * (others * parts + 2 * others * (k * width + 2) // processes)


def evaluation_batch(network: Network, users: int, entries: int) -> Operations:
    """Of scoring all items for ``users`` users with ``entries`` interactions in all.

    Log-variances are not needed for scores, and not counted.
    """
    widths, latent = network.widths, network.latent
    encoder = _stack(network, users, widths) + users * widths[-1] * latent
    if network.levels == 1:
        dense = encoder + _stack(network, users, (latent, *reversed(widths)))
    else:
        dense = encoder + _second_level(network, users)
    dense += users * widths[0] * network.items
    layers = network.levels * (2 if network.gated else 1)
    return Operations(dense, layers * entries * widths[0])


def _second_level(network: Network, users: int) -> int:
    """q(z1 | x, z2) without its sum of rows, and the hidden layers of p(x | z1, z2)."""
    widths, latent = network.widths, network.latent
    dense = users * widths[-1] * latent + _stack(network, users, (latent, widths[0]))
    if len(widths) == 1:
        return dense + _stack(network, users, (2 * latent, *widths))
    dense += _stack(network, users, (2 * widths[0], *widths[1:]))
    dense += 2 * _stack(network, users, (latent, widths[-1]))
    return dense + _stack(network, users, (2 * widths[-1], *widths[-2::-1]))


def _stack(network: Network, rows: int, sizes: tuple[int, ...]) -> int:
    products = sum(a * b for a, b in itertools.pairwise(sizes))
    return rows * products * (2 if network.gated else 1)
