"""The users and items that a model was made for, so that it is not evaluated on others."""

from __future__ import annotations

import numpy as np

__all__ = ["Vocabulary"]


class Vocabulary:
    """The original ids of a data set's users and items, in RecBole's order.

    Args:
        dataset: RecBole's ``Dataset``.
    """

    def __init__(self, dataset):
        tokens = dataset.field2id_token
        fields = (dataset.iid_field, dataset.uid_field)
        self.tokens = {field: tokens[field] for field in fields if field in tokens}

    def __deepcopy__(self, memo) -> Vocabulary:
        # Never written to: RecBole's FLOP counter copies the whole model.
        return self

    def check(self, dataset) -> None:
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
