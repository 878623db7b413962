"""H+Vamp (Gated) with a linear item-item path beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from recbole_evcf.config.keys import checked
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.model.edlae import EDLAE, item_weights, weighted_sums
from recbole_evcf.model.implicit_slim import refined
from recbole_evcf.model.layers import HistoryLinear, OutputLayer
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.model.vae import TwoLevelVAE

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction

# Weights of the linear path to choose from: beyond these the network is lost in the scores, and all
# seem alike. And where the choice begins.
WEIGHTS, FIRST_WEIGHT = [2 ** (n / 2) for n in range(17)], 16.0
# EDLAE's lambda, p, exponent of users and xi to choose from, and where the choice begins.
REG_WEIGHTS = (18.75, 37.5, 75.0, 150.0, 300.0, 600.0, 1200.0, 2400.0)
DROPOUT_PROBS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
USER_EXPONENTS = (0.0, 0.5)
MAX_DIAGONALS = (0.0, 0.4)
CANDIDATES = REG_WEIGHTS, DROPOUT_PROBS, USER_EXPONENTS, MAX_DIAGONALS
FIRST_SETTINGS = 300.0, 0.3, 0.5, 0.4
# Half of the items, the more popular ones, are enough to choose by, but not fewer than these; with
# a quarter the choice was worse. Time grows with the third power of their number.
SEARCHED = 10_000
# The most that kept scores may occupy.
KEPT_BYTES = 2**28


class GatedHVampLinear(VAERecommender):
    """H+Vamp (Gated) and EDLAE, each trained alone, added up to score.

    .. math:: s = f(x) + w\\, x B

    with the decoder's logits f, the item-item weights B of
    :class:`~recbole_evcf.model.edlae.EDLAE`, and one weight w. The network is trained as if it
    were alone; while the weight of its KL term rises, ImplicitSLIM refines its item vectors
    (:mod:`~recbole_evcf.model.implicit_slim`).

    The validation users choose w: each validation compares the present weight with its two
    neighbours on a scale of square roots of two, and with the first, and keeps the best. They
    choose EDLAE's settings before the first epoch, by how B does alone; above 10,000 items only
    the more popular half, and at least 10,000, have weights until then. (B is fitted on the
    training users and has seen their targets, so their likelihood cannot choose these settings, nor
    train a network beside it.)

    Of more than ``linear_n_items`` items only as many, the most popular, have weights; all others
    are scored by the network alone.

    Args:
        config: RecBole's ``Config``; beside the keys of ``GatedHVamp`` it has EDLAE's as
            ``linear_reg_weight``, ``linear_dropout_prob``, ``linear_user_exponent`` and
            ``linear_max_diagonal``, and ``linear_weight``, w, each a number or ``auto``; and
            ``linear_n_items``, ``implicit_slim_interval`` and ``implicit_slim_reg_weight``.
        dataset: the training part of RecBole's ``Dataset``.

    Raises:
        ValueError: as of ``GatedHVamp`` and of ``EDLAE``.

    >>> import recbole_evcf
    >>> small = {"epochs": 1, "latent_dimension": 20, "mlp_hidden_size": [30]}
    >>> result = recbole_evcf.run("GatedHVampLinear", "ml-100k", **small)
    >>> result["test_result"]["ndcg@10"] > 0.2
    True
    """

    network_class = TwoLevelVAE
    vamp_prior = True
    # EDLAE's keys, of the linear path.
    SETTINGS = tuple(f"linear_{key}" for key in EDLAE.KEYS)
    KEYS = (
        *SETTINGS,
        "linear_weight",
        "linear_n_items",
        "implicit_slim_interval",
        "implicit_slim_reg_weight",
    )
    linear_weight: Tensor
    # Columns of the items that have weights, ascending; None: all.
    linear_items: Tensor | None
    # By what B was computed, and of how many interactions.
    linear_settings: Sequence[float] = ()
    _n_fitted = 0
    # By the ids of a batch of users, what no weight changes.
    _kept: dict[bytes, tuple[Tensor, Tensor]] | None = None

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        values = (checked(key, config[key]) for key in self.KEYS)
        *given, weight, n_items, interval, reg_weight = values
        self.refinement_interval, self.refinement_reg_weight = interval, reg_weight
        self.is_weight_chosen = weight == "auto"
        weight = FIRST_WEIGHT if self.is_weight_chosen else weight
        self.register_buffer("linear_weight", torch.tensor(float(weight)))
        # What validation chooses from; of a number that is given, that alone.
        pairs = zip(given, CANDIDATES)
        self.candidate_settings = [many if one == "auto" else (one,) for one, many in pairs]
        start = zip(given, FIRST_SETTINGS)
        self.first_settings = [first if one == "auto" else one for one, first in start]
        self.is_linear_path_chosen = any(len(values) > 1 for values in self.candidate_settings)
        # No gradient: the optimizer leaves it alone.
        self.item_weights = nn.Parameter(torch.empty(0), requires_grad=False)
        histories = Histories.from_dataset(dataset)
        some = n_items is not None and n_items < histories.shape[1]
        popular = np.flatnonzero(_popular(histories, n_items)) if some else None
        self.register_buffer("linear_items", torch.from_numpy(popular) if some else None)
        histories = self.linear_histories(histories)
        # The first epoch fits all.
        partly = self.is_linear_path_chosen and config["epochs"]
        histories = self.searched(histories) if partly else histories
        self.fit_linear_path(histories, self.first_settings)

    def linear_histories(self, histories: Histories) -> Histories:
        """The interactions with the items that have weights, which are the columns."""
        if self.linear_items is None:
            return histories
        return Histories(histories.matrix()[:, self.linear_items.cpu().numpy()])

    @staticmethod
    def searched(histories: Histories) -> Histories:
        """What of the histories chooses EDLAE's settings: of many items the more popular half."""
        n_items = histories.shape[1]
        if n_items <= SEARCHED:
            return histories
        return histories.of_items(_popular(histories, max(SEARCHED, n_items // 2)))

    def fit_linear_path(self, histories: Histories, settings: list[float]) -> None:
        """Compute B with EDLAE's settings from :meth:`linear_histories`, or a part of them."""
        if (settings, len(histories.columns)) != (self.linear_settings, self._n_fitted):
            # Two at once might not fit into memory. If this is interrupted, there are none.
            self.linear_settings = []
            self.item_weights.data = self.item_weights.new_empty(0)
            weights = item_weights(histories, *settings, device=self.device)
            self.item_weights.data = weights.to(self.device)
            self.linear_settings, self._n_fitted = settings, len(histories.columns)

    @torch.no_grad()
    def refine_item_vectors(self, histories: Histories) -> None:
        """Refine each item's weights in the first layers and in the last, by the training users'
        histories."""
        batch = histories.rows(torch.arange(histories.shape[0]))
        for layer in self.network.modules():
            if isinstance(layer, (HistoryLinear, OutputLayer)):
                vectors = layer.weight[: batch.n_items]
                vectors.copy_(refined(vectors, batch, self.refinement_reg_weight))

    def candidate_weights(self) -> list[float]:
        """The weights of the linear path that the next validation compares, the present one first;
        no other if the config gives it."""
        weight = float(self.linear_weight)
        if not self.is_weight_chosen:
            return [weight]
        place = min(range(len(WEIGHTS)), key=lambda n: abs(WEIGHTS[n] - weight))
        # The best weight of an early network may be far from that of a later one.
        others = {*WEIGHTS[max(place - 1, 0) : place + 2], FIRST_WEIGHT} - {WEIGHTS[place]}
        return [WEIGHTS[place], *sorted(others)]

    def linear_scores(self, history: HistoryBatch) -> Tensor:
        """w x B, (batch, items): what the linear path adds to the network's logits."""
        return self.linear_weight * self._linear(history)

    def _linear(self, history: HistoryBatch) -> Tensor:
        items = self.linear_items
        known = history if items is None else history.renumbered(items)
        return self.spread(weighted_sums(self.item_weights, known))

    def spread(self, sums: Tensor) -> Tensor:
        """x B of the items with weights as that of all items, (batch, items), of the others 0."""
        if self.linear_items is None:
            return sums
        # The shape, since len() would fix the batch's size in an exported file.
        result = sums.new_zeros(sums.shape[0], self.n_items - 1)
        return result.index_copy(1, self.linear_items, sums)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of the given user-item pairs, (pairs,)."""
        users, place = interaction[self.USER_ID].unique(return_inverse=True)
        linear = self.linear_scores(self._histories.rows(users))
        # Item -1, the padding item, reads the last column; RecBole never ranks it.
        return super().predict(interaction) + linear[place, interaction[self.ITEM_ID] - 1]

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items for the given users, (batch, items); the padding item has -inf."""
        scores, linear = self._parts(interaction)
        scores[:, 1:] += self.linear_weight * linear
        return scores

    def _parts(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """The network's scores, which may be written into, and x B."""
        users, kept = interaction[self.USER_ID], self._kept
        key = users.cpu().numpy().tobytes()
        if kept is None or key not in kept:
            network = super().full_sort_predict(interaction)
            linear = self._linear(self._histories.rows(users))
            if kept is None or 2 * network.nbytes * (len(kept) + 1) > KEPT_BYTES:
                return network, linear
            kept[key] = network, linear
        network, linear = kept[key]
        return network.clone(), linear

    @contextmanager
    def kept_scores(self) -> Iterator[None]:
        """A context in which users that are ranked again, with another weight, are not scored
        again, as far as memory allows. The network and B must stay as they are."""
        self._kept = {}
        try:
            yield
        finally:
            self._kept = None


def _popular(histories: Histories, n: int) -> np.ndarray:
    """Which are the n items with the most interactions, (items,) of booleans."""
    kept = np.zeros(histories.shape[1], dtype=bool)
    kept[np.argsort(-histories.item_counts, kind="stable")[:n]] = True
    return kept
