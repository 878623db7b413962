"""The items that a model knows, as they travel in its file."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch

__all__ = ["ItemCatalogue"]


class ItemCatalogue:
    """The items of a model in the order of its columns, RecBole's padding item left out.

    Args:
        tokens: the items' original names, (items,), each once.
        counts: how many training interactions each has, (items,).
    """

    def __init__(self, tokens: np.ndarray, counts: np.ndarray):
        self.tokens, self.counts = tokens, counts

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_dataset(cls, dataset) -> ItemCatalogue:
        """Of the training part of a RecBole ``Dataset``.

        Under the split by users these are the items of the training users, as they are numbered
        there.
        """
        items = np.asarray(dataset.inter_feat[dataset.iid_field])
        counts = np.bincount(items, minlength=dataset.item_num)[1:]
        tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
        return cls(np.array(tokens, dtype=object), counts)

    def to_plain(self) -> dict:
        """As a text and a tensor, which a model file holds and which are read in no time."""
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
            raise ValueError("its item tokens are damaged.")
        return cls(np.array(tokens, dtype=object), counts)
