"""The CSR histories against the dense matrix they stand for."""

import copy

import numpy as np
import pytest
import scipy.sparse
import torch

from recbole_evcf.data.histories import Histories, shard_of


def test_rows_are_the_rows_of_the_matrix(histories, dense):
    users = torch.tensor([4, 1, 3, 8, 4])
    batch = histories.rows(users)
    np.testing.assert_array_equal(batch.dense().numpy(), dense[users])
    np.testing.assert_array_equal(batch.lengths.numpy(), dense[users].sum(1))


def test_building_leaves_the_given_matrix_alone():
    matrix = scipy.sparse.csr_matrix(
        (np.ones(3), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3)
    )
    Histories(matrix)
    np.testing.assert_array_equal(matrix.indices, [2, 0, 2])


def test_of_items_leaves_out_the_others(histories, dense):
    kept = np.arange(dense.shape[1]) % 3 == 0
    np.testing.assert_array_equal(histories.of_items(kept).matrix().toarray(), dense * kept)
    np.testing.assert_array_equal(histories.matrix().toarray(), dense)


def test_renumbered_columns_are_places_among_the_items(histories, dense):
    users, items = torch.tensor([3, 0, 2]), torch.tensor([4, 1])
    batch = histories.rows(users).renumbered(items)
    assert torch.equal(batch.dense(), torch.from_numpy(dense)[users][:, items].float())
    assert torch.equal(batch.lengths, batch.dense().sum(1).long())
    assert torch.equal(batch.offsets, batch.lengths.cumsum(0) - batch.lengths)


def test_normalized_is_l2(histories, dense):
    batch = histories.rows(torch.arange(1, 9)).normalized()
    norms = np.linalg.norm(dense[1:], axis=1, keepdims=True)
    expected = dense[1:] / np.where(norms == 0, 1, norms)
    np.testing.assert_allclose(batch.dense().numpy(), expected, atol=1e-7)


def test_a_copied_model_shares_its_histories(histories):
    assert copy.deepcopy(histories) is histories


def test_sizes_known_on_the_host_change_nothing(histories):
    users = torch.tensor([4, 0, 3, 8, 8])
    expected = histories.rows(users)
    moved = histories.to(torch.device("meta"))
    assert moved.starts.device.type == "meta"
    batch = moved.rows(users)
    # On a device whose values cannot be read, the shapes are right: nothing was asked of it.
    for name in ("row", "column", "offsets", "lengths"):
        assert getattr(batch, name).shape == getattr(expected, name).shape
    assert batch.transposed()[1].shape == expected.transposed()[1].shape


@pytest.mark.parametrize("total", [0, 1, 2, 7, 200])
@pytest.mark.parametrize("n_shards", [1, 2, 3, 8])
def test_shards_follow_each_other_cover_all_and_are_even(total, n_shards):
    shards = [shard_of(total, rank, n_shards) for rank in range(n_shards)]
    rows = list(range(total))
    assert [row for shard in shards for row in rows[shard.rows]] == rows
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
