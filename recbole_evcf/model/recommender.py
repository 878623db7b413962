"""What the paper's models share as RecBole recommenders, and the warm-up of the KL term."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_evcf.data.histories import BatchShard, Histories, HistoryBatch
from recbole_evcf.model.gaussian import Prior, SparseVampPrior, StandardNormalPrior, VampPrior
from recbole_evcf.model.layers import Layer
from recbole_evcf.model.vae import OneLevelVAE, Settings, TwoLevelVAE

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction


class KLWarmup(nn.Module):
    """The weight of the KL term. Its counters are buffers, so every checkpoint holds its state.

    By steps, as in Mult-VAE and RecBole: ``min(cap, step / steps)`` for the ``step``-th batch. By
    epochs, as in Kim & Suh 2019: ``cap * min(1, epoch / epochs)`` with ``epoch`` completed epochs.

    Args:
        cap: the maximum, ``anneal_cap``.
        steps: ``total_anneal_steps``; None counts by epochs, 0 starts at the maximum.
        epochs: ``warmup_epochs``; 0 starts at the maximum.
        users: number of training users, an epoch for :meth:`count_batch`.

    Attributes:
        step: the number of training batches begun; epoch: of training epochs completed.
        was_finished: whether the maximum had been reached when the present epoch began.
    """

    was_finished = False
    _seen = 0
    step: Tensor
    epoch: Tensor

    def __init__(self, cap: float, steps: int | None = None, epochs: int = 0, users: int = 1):
        super().__init__()
        self.cap, self.steps, self.epochs, self.users = cap, steps, epochs, users
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    @property
    def weight(self) -> Tensor:
        """The present weight, a scalar tensor (on the device, so that reading it never waits)."""
        if self.steps:
            return (self.step / self.steps).clamp(max=self.cap)
        if self.steps is None and self.epochs:
            return self.cap * (self.epoch / self.epochs).clamp(max=1.0)
        return torch.full_like(self.step, self.cap, dtype=torch.get_default_dtype())

    @property
    def is_finished(self) -> bool:
        """Whether the weight has reached its maximum."""
        if self.steps is None:
            return int(self.epoch) >= self.epochs
        return int(self.step) >= self.cap * self.steps

    def begin_epoch(self) -> None:
        """Call this before each training epoch."""
        self.was_finished = self.is_finished

    def count_batch(self, users: int) -> Tensor:
        """The weight for a training batch of some users, under a trainer that counts nothing."""
        if not self._seen:
            self.begin_epoch()
        self.step += 1
        weight = self.weight
        self._seen += users
        if self._seen >= self.users:
            self._seen = 0
            self.epoch += 1
        return weight


class VAERecommender(GeneralRecommender):
    """A variational autoencoder over users' histories. A subclass says which network and which
    prior it takes, and may bring a hidden layer (``layer_class``) or a prior (:meth:`make_prior`)
    of its own. Inside, item column ``c`` is RecBole's item ``c + 1``: there is no padding item.

    Args:
        config: RecBole's ``Config``; a value that cannot be taken is a ``ValueError``.
        dataset: the training part of RecBole's ``Dataset``.
    """

    input_type = InputType.PAIRWISE
    # It scores a user from a history, seen in training or not.
    folds_in = True
    # Beside those of all our networks, of the table of keys: checked before anything is loaded.
    KEYS: tuple[str, ...] = ()
    network_class: type[OneLevelVAE] | type[TwoLevelVAE]
    vamp_prior: bool = False
    # None: as the key ``gated`` says.
    layer_class: Layer | None = None

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        settings = Settings.from_config(config)
        # Not among the module's buffers: this is data, not state of the model.
        self._histories = Histories.input_of(dataset).to(self.device)
        prior = self.make_prior(settings, dataset)
        self.network = self.network_class(settings, self.n_items - 1, prior, self.layer_class)
        steps, epochs = settings.total_anneal_steps, settings.warmup_epochs or 0
        users = torch.as_tensor(dataset.inter_feat[self.USER_ID]).unique()
        self.warmup = KLWarmup(settings.anneal_cap, steps, epochs, len(users))

    def make_prior(self, settings: Settings, dataset: Dataset) -> Prior:
        """The prior at the start of training. The data set is the training part; when a model is
        loaded without it, it has sizes and no interactions."""
        if not self.vamp_prior:
            return StandardNormalPrior()
        k, std = settings.n_pseudo_inputs, settings.pseudo_inputs_std
        normal, size = settings.pseudo_inputs_init == "normal", settings.pseudo_input_size
        if size:
            items = self._drawn_histories(dataset, k).sample(size).cpu()
            mean = settings.pseudo_inputs_mean if normal else 1.0
            return SparseVampPrior(items, torch.empty(k, size).normal_(mean, std), self.n_items - 1)
        if settings.sparse_input_gradient:
            raise ValueError(
                "sparse_input_gradient has no effect where pseudo-inputs have all items: set "
                "pseudo_input_size too, such as 50."
            )
        if normal:
            start = torch.empty(k, self.n_items - 1)
            return VampPrior(start.normal_(settings.pseudo_inputs_mean, std))
        histories = self._drawn_histories(dataset, k).dense().cpu()
        return VampPrior(histories + torch.empty_like(histories).normal_(0, std))

    def _drawn_histories(self, dataset: Dataset, k: int) -> HistoryBatch:
        # Not all users with an input history: held-out users have one too.
        users = torch.as_tensor(dataset.inter_feat[self.USER_ID]).unique().to(self.device)
        if not len(users):
            # A model that is loaded: what it has learned follows. The padding user has no history.
            users = users.new_zeros(1)
        drawn = users[torch.randperm(len(users)).to(users.device)]
        # More components than users: begin again with the first.
        return self._histories.rows(drawn.repeat(-(-k // len(drawn)))[:k])

    def loss_terms(
        self, interaction: Interaction, shard: BatchShard | None = None
    ) -> tuple[Tensor, Tensor]:
        """The two parts of the loss of a batch of training users, before weighting: the mean
        negative log-likelihood (reconstruction) and the mean KL estimate.

        Args:
            interaction: with the user ids, (batch,).
            shard: the rows that are computed here, where several processes share a batch. Given
                it, the result is its share of the means: they are the sums over the shards.
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
        reconstruction, kl = self.loss_terms(interaction)
        warmup = self.warmup
        weight = warmup.count_batch(len(interaction)) if self.training else warmup.weight
        return reconstruction, weight * kl

    def user_vectors(self, users: Tensor) -> Tensor:
        """Posterior means, (batch, latent): see :meth:`VAE.latent`."""
        return self.network.latent(self._histories.rows(users))

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of the given user-item pairs, (pairs,)."""
        users, place = interaction[self.USER_ID].unique(return_inverse=True)
        items = interaction[self.ITEM_ID] - 1
        hidden = self.last_hidden(users)[place]
        output = self.network.output
        # Item -1, the padding item, reads the last row; RecBole never ranks it.
        return (hidden * output.weight[items]).sum(1) + output.bias[items]

    def last_hidden(self, users: Tensor) -> Tensor:
        """The last hidden layer of users by id, (batch, width): see :meth:`VAE.last_hidden`."""
        return self.network.last_hidden(self._histories.rows(users))

    @torch.no_grad()
    def item_scores(self, hidden: Tensor) -> Tensor:
        """What the output layer makes of it, (batch, items); the padding item has -inf."""
        scores = hidden.new_empty(len(hidden), self.n_items)
        scores[:, 0] = -torch.inf
        self.network.output.score(hidden, scores[:, 1:])
        return scores

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items for the given users, (batch, items); the padding item has -inf."""
        return self.item_scores(self.last_hidden(interaction[self.USER_ID]))
