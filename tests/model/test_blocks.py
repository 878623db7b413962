"""Blocks of a matrix: all of it, once, and no copy."""

import pytest
import torch

from recbole_evcf.model.dropout import LARGE_BLOCK, item_blocks


@pytest.mark.parametrize(("size", "items"), [(1, 1), (12, 3), (15, 3), (10**6, 7)])
def test_blocks_are_views_of_whole_items(size, items):
    matrix = torch.arange(28.0).reshape(4, 7)
    blocks = item_blocks(matrix, size)
    assert torch.equal(torch.cat(blocks), matrix.T)
    assert len(blocks[0]) == items
    for block in blocks:
        block.zero_()
    assert not matrix.any()


def test_elsewhere_blocks_are_large():
    matrix = torch.empty(4, LARGE_BLOCK // 4 + 1, device="meta")
    assert [len(block) for block in item_blocks(matrix, 8)] == [LARGE_BLOCK // 4, 1]
