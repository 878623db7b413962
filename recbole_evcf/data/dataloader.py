"""Dataloaders of the models: training users only, and full ranking without Python loops."""

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import numpy as np
import scipy.sparse
import torch
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader, UserDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_evcf.data.histories import Histories

# What the scores of one evaluation batch may take up. Larger batches make the matrix product no
# faster and fall out of the processor's caches.
SCORE_BYTES = 64 * 2**20


class TrainUserDataLoader(UserDataLoader):
    """Yields the ids of the users who have a training history, in random order.

    RecBole's also yields the padding user and users without history, whose empty rows would enter
    the mean of the loss.
    """

    def __init__(
        self, config: Config, dataset: Dataset, sampler: object, shuffle: bool = True
    ) -> None:
        self.logger, self.uid_field = getLogger(), dataset.uid_field
        users = torch.from_numpy(np.unique(np.asarray(dataset.inter_feat[self.uid_field])))
        self.user_list, self.sample_size = Interaction({self.uid_field: users}), len(users)
        if config["train_batch_size"] == "auto":
            # With few users small batches, so that an epoch still has some steps.
            config["train_batch_size"] = int(min(max(3 * len(users) ** 0.5, 100), 500))
            batch = f"is {config['train_batch_size']} for {len(users):,} training users"
            self.logger.info(f"train_batch_size: auto {batch}")
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=True)


class RankedPhase:
    """What full ranking needs to know of a phase, in the place of RecBole's sampler.

    Args:
        phase: ``train``, ``valid`` or ``test``.
        positives: the phase's own interactions: what is to be found.
        seen: those of the phases before, less the positives: what is not ranked.
        repeatable: whether users may be recommended what they have seen: all is ranked then.
    """

    def __init__(
        self, phase: str, positives: Histories, seen: Histories, repeatable: bool = False
    ) -> None:
        self.phase, self.positives = phase, positives
        self.seen = Histories(scipy.sparse.csr_matrix(seen.shape)) if repeatable else seen


def ranked_phases(datasets: Sequence[Dataset], repeatable: bool = False) -> list[RankedPhase]:
    """The phases of RecBole's split ``[train, valid, test]``."""
    matrices = [Histories.from_dataset(dataset).matrix() for dataset in datasets]
    phases, before = [], scipy.sparse.csr_matrix(matrices[0].shape, dtype=np.float32)
    for phase, matrix in zip(("train", "valid", "test"), matrices):
        # The minimum of two binary matrices is what both hold.
        seen = before - before.minimum(matrix)
        seen.eliminate_zeros()
        phases.append(RankedPhase(phase, Histories(matrix), Histories(seen), repeatable))
        before = before.maximum(matrix)
    return phases


def held_out_phases(datasets: Sequence[Dataset], repeatable: bool = False) -> list[RankedPhase]:
    """Validation and test of the split by users, of its parts ``[valid, test]``."""
    return [
        RankedPhase(phase, Histories.from_dataset(dataset), dataset.fold_in, repeatable)
        for phase, dataset in zip(("valid", "test"), datasets)
    ]


class FullSortHistoryDataLoader(FullSortEvalDataLoader):
    """RecBole's full-ranking dataloader on CSR arrays: same batches, same results.

    The batch size follows a memory budget for the scores; a larger ``eval_batch_size`` is kept.
    """

    def __init__(
        self, config: Config, dataset: Dataset, sampler: RankedPhase, shuffle: bool = False
    ) -> None:
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.phase, self.positives, self.seen = sampler.phase, sampler.positives, sampler.seen
        self.uid_list = self.positives.lengths.nonzero().squeeze(1)
        self.user_df = dataset.join(Interaction({self.uid_field: self.uid_list}))
        self.uid2items_num = self.positives.lengths.numpy()
        self.uid2positive_item = _ItemsOfUsers(self.positives)
        self.uid2history_item = _ItemsOfUsers(self.seen)
        self.sample_size = len(self.uid_list)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        n_items = self._dataset.item_num
        asked = self.config["eval_batch_size"] // n_items
        self.step = max(asked, SCORE_BYTES // (4 * n_items), 1)
        self.set_batch_size(self.step * n_items)

    def collate_fn(self, index: Any) -> tuple:
        """Return users, what is not ranked and what is to be found, as RecBole's loader does."""
        index = np.array(index)
        users = self.uid_list[index]
        seen, positives = self.seen.rows(users), self.positives.rows(users)
        history = seen.row, seen.column + 1
        return self.user_df[index], history, positives.row, positives.column + 1


class _ItemsOfUsers:
    """Item ids by user id, as RecBole's arrays of tensors are indexed."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories

    def __getitem__(self, users: Any) -> Tensor | list[Tensor]:
        if np.ndim(users) == 0:
            return self[[users]][0]
        batch = self._histories.rows(torch.as_tensor([int(user) for user in users]))
        return list((batch.column + 1).split(batch.lengths.tolist()))
