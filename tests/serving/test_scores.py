"""The best items of each user against a plain sort."""

import numpy as np
import pytest
import torch

from recbole_evcf.data.histories import Histories
from recbole_evcf.serving.scores import best_items


def test_best_items_against_a_plain_sort(dense):
    scores = torch.from_numpy(np.random.default_rng(2).normal(size=dense.shape))
    users, columns = dense.nonzero()
    seen = Histories.from_interactions(users, columns + 1, len(dense), dense.shape[1] + 1)
    left_out = torch.tensor([0, 7])
    values, best = best_items(scores.clone(), seen.rows(torch.arange(len(dense))), left_out, 10)
    for user, row in enumerate(scores.numpy()):
        candidates = [c for c in range(len(row)) if not dense[user, c] and c not in (0, 7)]
        expected = sorted(candidates, key=lambda c: -row[c])[:10]
        n = len(expected)
        assert best[user, :n].tolist() == expected
        assert values[user, :n].tolist() == row[expected].tolist()
        assert torch.isneginf(values[user, n:]).all()


@pytest.mark.parametrize("score", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers(score):
    with pytest.raises(ValueError, match="not numbers"):
        best_items(torch.tensor([[1.0, score]]), None, torch.tensor([], dtype=torch.long), 1)
