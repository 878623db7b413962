"""Parts follow each other, cover all and are even."""

import pytest

from recbole_evcf.data.histories import shard_of


@pytest.mark.parametrize("total", [0, 1, 2, 7, 200])
@pytest.mark.parametrize("n_parts", [1, 2, 3, 8])
def test_every_row_has_one_place(total, n_parts):
    parts = [shard_of(total, place, n_parts) for place in range(n_parts)]
    rows = list(range(total))
    assert [row for part in parts for row in rows[part.rows]] == rows
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
