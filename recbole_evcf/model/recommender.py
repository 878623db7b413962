"""What the paper's models share as RecBole recommenders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_evcf.data.histories import BatchShard, Histories
from recbole_evcf.model.layers import Layer
from recbole_evcf.model.prior import (
    Prior,
    StandardNormalPrior,
    VampPrior,
    data_pseudo_inputs,
    normal_pseudo_inputs,
)
from recbole_evcf.model.settings import Settings
from recbole_evcf.model.vae import OneLevelVAE, TwoLevelVAE
from recbole_evcf.model.warmup import KLWarmup

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction

__all__ = ["VAERecommender"]


class VAERecommender(GeneralRecommender):
    """A variational autoencoder over users' histories.

    A subclass says which network and which prior it takes, and may bring a hidden layer
    (``layer_class``) or a prior (:meth:`make_prior`) of its own. RecBole's ids are kept at the
    border: inside, item column ``c`` is RecBole's item ``c + 1``, and the padding item does not
    exist.

    Args:
        config: RecBole's ``Config``.
        dataset: the training part of RecBole's ``Dataset``.

    Raises:
        ValueError: a key of the config has a value that cannot be taken.
    """

    input_type = InputType.PAIRWISE
    # It scores a user from a history, seen in training or not.
    folds_in = True
    network_class: type[OneLevelVAE] | type[TwoLevelVAE]
    vamp_prior: bool = False
    # None: as the key ``gated`` says.
    layer_class: Layer | None = None

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        settings = Settings.from_config(config)
        # Not among the module's buffers: this is data, not state of the model.
        self._histories = Histories.input_of(dataset).to(self.device)
        n_items = self.n_items - 1
        prior = self.make_prior(settings, dataset)
        self.network = self.network_class(settings, n_items, prior, self.layer_class)
        self.warmup = KLWarmup(
            settings.anneal_cap,
            settings.total_anneal_steps,
            settings.warmup_epochs,
            users=len(torch.as_tensor(dataset.inter_feat[self.USER_ID]).unique()),
        )

    def make_prior(self, settings: Settings, dataset: Dataset) -> Prior:
        """The prior at the start of training.

        Args:
            settings: the validated config keys.
            dataset: the training part of RecBole's ``Dataset``. When a model is loaded without its
                data set, it has sizes and no interactions.
        """
        return self._vamp_prior(settings, dataset) if self.vamp_prior else StandardNormalPrior()

    def _vamp_prior(self, settings: Settings, dataset: Dataset) -> VampPrior:
        k, std = settings.n_pseudo_inputs, settings.pseudo_inputs_std
        if settings.pseudo_inputs_init == "normal":
            start = normal_pseudo_inputs(k, self.n_items - 1, settings.pseudo_inputs_mean, std)
            return VampPrior(start)
        # Not all users with an input history: held-out users have one too.
        users = torch.as_tensor(dataset.inter_feat[self.USER_ID]).unique().to(self.device)
        drawn = users[torch.randperm(len(users)).to(users.device)]
        # More components than users: begin again with the first.
        drawn = drawn.repeat(-(-k // len(drawn)))[:k]
        return VampPrior(data_pseudo_inputs(self._histories.rows(drawn).dense().cpu(), std))

    def loss_terms(
        self, interaction: Interaction, shard: BatchShard | None = None
    ) -> tuple[Tensor, Tensor]:
        """The two parts of the loss of a batch of training users, before weighting.

        Args:
            interaction: with the user ids, (batch,).
            shard: the rows that are computed here, where several processes share a batch.

        Returns:
            reconstruction, the mean negative log-likelihood; and the mean KL estimate. With a
            shard, its share of these means: summed over all shards they are the same.
        """
        history = self._histories.rows(interaction[self.USER_ID], shard)
        log_likelihood, kl = self.network.elbo_terms(history)
        if shard is None:
            return -log_likelihood.mean(), kl.mean()
        return -log_likelihood.sum() / shard.total, kl.sum() / shard.total

    def calculate_loss(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """RecBole's loss of a batch, in two parts: reconstruction and weighted KL term.

        In training mode it counts the batch, so that the weight rises under any trainer: an
        epoch is as many users as there are to train on. (Our trainer counts by itself.)
        """
        if self.training:
            self.warmup.before_batch()
        reconstruction, kl = self.loss_terms(interaction)
        weighted = self.warmup.weight * kl
        if self.training:
            self.warmup.after_batch(len(interaction))
        return reconstruction, weighted

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of the given user-item pairs, (pairs,)."""
        users, place = interaction[self.USER_ID].unique(return_inverse=True)
        items = interaction[self.ITEM_ID] - 1
        hidden = self.network.last_hidden(self._histories.rows(users))[place]
        output = self.network.output
        # Item -1, the padding item, reads the last row; RecBole never ranks it.
        return (hidden * output.weight[items]).sum(1) + output.bias[items]

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items for the given users, (batch, items); the padding item has -inf."""
        hidden = self.network.last_hidden(self._histories.rows(interaction[self.USER_ID]))
        scores = hidden.new_empty(len(hidden), self.n_items)
        scores[:, 0] = -torch.inf
        self.network.output.score(hidden, scores[:, 1:])
        return scores
