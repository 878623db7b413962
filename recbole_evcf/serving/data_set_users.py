"""The users of a model's own data set, to recommend to."""

from __future__ import annotations

import numpy as np
import torch

from recbole_evcf.data.histories import Histories
from recbole_evcf.serving.user_histories import UserHistories

__all__ = ["data_set_users"]


def data_set_users(train_data, valid_data) -> UserHistories:
    """All users of a data set as RecBole's ``full_sort_topk`` treats them on the test part.

    They are scored from their training history (under the split by users from the fold-in set),
    and the items of training and validation are those they have seen.

    Args:
        train_data: training dataloader of ``load_data_and_model``.
        valid_data: its validation dataloader.
    """
    dataset = train_data._dataset
    histories = Histories.input_of(dataset).matrix()
    seen = histories.maximum(Histories.from_dataset(valid_data._dataset).matrix())
    users = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=object)
    # Without RecBole's padding user.
    ids = torch.arange(1, dataset.user_num)
    return UserHistories(users[1:], histories[1:], seen[1:].tocsr(), model_ids=ids)
