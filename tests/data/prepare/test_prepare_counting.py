"""The counts of the published filter, and the report that shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_evcf.data.prepare import Counts, Report, counting, format_report
from recbole_evcf.data.prepare.counting import FilterCount


@pytest.mark.parametrize("batch", [1, 50, 10**6])
@pytest.mark.parametrize("seed", range(4))
def test_counts_against_pandas(monkeypatch, seed, batch):
    monkeypatch.setattr(counting, "BATCH", batch)
    rng = np.random.default_rng(seed)
    rows = 3000
    table = pd.DataFrame(
        {
            "user": rng.geometric(0.004, rows) * 10**15,
            "item": rng.geometric(0.002, rows),
            "rating": rng.integers(1, 11, rows) / 2,
        }
    )
    count = FilterCount()
    for part in np.array_split(np.arange(rows), 37):
        piece = table.iloc[part]
        count.add(*(piece[column].to_numpy() for column in ("user", "item", "rating")))
    kept = table[table["rating"] >= 4]
    kept = kept[kept.groupby("user")["user"].transform("size") >= 5]
    assert count.result() == Counts(len(kept), kept["user"].nunique(), kept["item"].nunique())
    assert 0 < len(kept) < rows


def test_nothing_counted():
    assert FilterCount().result() == Counts(0, 0, 0)


def test_few_ratings_are_remembered(monkeypatch):
    monkeypatch.setattr(counting, "BATCH", 1)
    count = FilterCount()
    for item in range(100):
        users = np.arange(10)
        count.add(users, np.full(10, item), np.full(10, 5.0))
        assert sum(len(users) for users, _ in count.waiting) <= 10 * 4
    assert count.result() == Counts(1000, 10, 100)


def test_report_compares_with_the_published_counts():
    report = Report(
        kind="ml-20m",
        folder=Path("dataset") / "ml-20m",
        rows={"ml-20m.inter": 20_000_263},
        counts=Counts(9_990_682, 136_665, 20_721),
        published=Counts(9_990_682, 136_677, 20_720),
        warnings=("odd",),
    )
    assert format_report(report).splitlines() == [
        f"{report.folder}: prepared from ml-20m",
        "  ml-20m.inter: 20,000,263 interactions",
        "after the published filter (rating >= 4, users with >= 5 such ratings):",
        "  interactions 9,990,682 (published 9,990,682: equal)",
        "  users 136,665 (published 136,677: differs by -12)",
        "  items 20,721 (published 20,720: differs by +1)",
        "warning: odd",
    ]
