"""What a model knows of its data: the items in its file, and the ids that it was made for."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from recbole.data.dataset import Dataset

__all__ = ["ItemCatalogue", "Vocabulary"]


class ItemCatalogue:
    """The items of a model in the order of its columns, RecBole's padding item left out.

    Args:
        tokens: the items' original names, (items,), each once.
        counts: how many training interactions each has, (items,).
    """

    def __init__(self, tokens: np.ndarray, counts: np.ndarray) -> None:
        self.tokens, self.counts = tokens, counts

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> ItemCatalogue:
        """Of the training part of a RecBole ``Dataset``.

        Under the split by users these are the items of the training users, as they are numbered
        there.
        """
        items = np.asarray(dataset.inter_feat[dataset.iid_field])
        counts = np.bincount(items, minlength=dataset.item_num)[1:]
        tokens = list(map(str, dataset.field2id_token[dataset.iid_field][1:]))
        return cls(np.array(tokens, dtype=object), counts)

    def to_plain(self) -> dict:
        """Return a string and a tensor, which a model file holds and which are read in no time."""
        tokens = json.dumps(self.tokens.tolist(), ensure_ascii=False)
        return {"tokens": tokens, "counts": torch.from_numpy(self.counts.astype(np.int64))}

    @classmethod
    def from_plain(cls, plain: Mapping) -> ItemCatalogue:
        """The inverse of :meth:`to_plain`.

        Raises:
            ValueError: the parts do not fit together.
        """
        try:
            tokens, counts = json.loads(plain["tokens"]), plain["counts"].cpu().numpy()
            sound = all(isinstance(token, str) for token in tokens) and len(tokens) > 0
            sound = sound and counts.shape == (len(tokens),) and counts.dtype.kind in "iuf"
            sound = sound and len(set(tokens)) == len(tokens)
            "".join(tokens).encode()
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError):
            sound = False
        if not sound:
            raise ValueError("its item tokens are corrupt.")
        return cls(np.array(tokens, dtype=object), counts)


class Vocabulary:
    """The original ids of the users and items that a model was made for, in RecBole's order.

    Args:
        dataset: RecBole's ``Dataset``.
    """

    def __init__(self, dataset: Dataset) -> None:
        tokens = dataset.field2id_token
        fields = (dataset.iid_field, dataset.uid_field)
        self.tokens = {field: tokens[field] for field in fields if field in tokens}

    def __deepcopy__(self, memo: object) -> Vocabulary:
        # Never written to: RecBole's FLOP counter copies the whole model.
        return self

    def check(self, dataset: Dataset) -> None:
        """Check that a data set numbers its users and items in the same way.

        Raises:
            ValueError: it does not: a model would score others than it is asked for.
        """
        for field, known in self.tokens.items():
            found = dataset.field2id_token.get(field, ())
            if found is not known and not np.array_equal(found, known):
                raise ValueError(
                    f"the model was made for {len(known) - 1:,} values of {field}, and the "
                    f"dataloader's data set {dataset.dataset_name!r} has others "
                    f"({len(found) - 1:,}): evaluate with dataloaders of the model's own data set."
                )
