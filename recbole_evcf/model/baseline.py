"""Baselines that their constructor trains, and that score a user from the input history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType, ModelType
from torch import Tensor

from recbole_evcf.config.keys import checked
from recbole_evcf.data.histories import Histories

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction


class Baseline(GeneralRecommender):
    """A recommender that learns in its constructor, without gradients.

    A subclass names its keys, learns in its constructor from the interactions of
    ``dataset.inter_feat`` alone, and scores from the input histories in :meth:`scores`.

    Args:
        config: RecBole's ``Config``.
        dataset: the training part of RecBole's ``Dataset``.

    Raises:
        ValueError: a key of the config has a value that cannot be taken.
    """

    type = ModelType.TRADITIONAL
    input_type = InputType.POINTWISE
    # It can score a user that it was not trained on.
    folds_in = True
    # Of the table of keys: checked before anything is loaded.
    KEYS: tuple[str, ...] = ()

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        for key in self.KEYS:
            setattr(self, key, checked(key, config[key]))
        # Not among the module's buffers: this is data, not state of the model.
        self._histories = Histories.input_of(dataset).to(self.device)

    def scores(self, users: Tensor) -> Tensor:
        """Scores of the real items for users by id, (batch,) -> (batch, items)."""
        raise NotImplementedError

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Zero: the constructor has trained the model."""
        return torch.zeros((), device=self.device, requires_grad=True)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of the given user-item pairs, (pairs,)."""
        users, place = interaction[self.USER_ID].unique(return_inverse=True)
        # Item -1, the padding item, reads the last column; RecBole never ranks it.
        return self.scores(users)[place, interaction[self.ITEM_ID] - 1]

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items for the given users, (batch, items); the padding item has -inf."""
        return F.pad(self.scores(interaction[self.USER_ID]), (1, 0), value=-torch.inf)
