"""Count, while ratings stream by, what the published filter leaves of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = ["MIN_INTERACTIONS", "MIN_RATING", "Counts", "FilterCount"]

# The published filter: ratings from 4 up are kept, then users with at least 5 of them.
MIN_RATING = 4.0
MIN_INTERACTIONS = 5
# Pairs gathered before they are counted.
BATCH = 2_000_000


@dataclass(frozen=True)
class Counts:
    """How many interactions, and distinct users and items in them."""

    interactions: int
    users: int
    items: int


class FilterCount:
    """Counts what is left of ratings that come in pieces, in whatever order.

    Only users who do not have enough ratings yet are remembered with their items, a few at most,
    so the memory grows with the users and items and not with the ratings.
    """

    def __init__(self) -> None:
        self.interactions = 0
        self.users = np.empty(0, dtype=np.int64)
        self.items = np.empty(0, dtype=np.int64)
        self.waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self.added = 0

    def add(self, users: np.ndarray, items: np.ndarray, ratings: np.ndarray) -> None:
        """Take in some ratings.

        Args:
            users: Who rated (int64).
            items: What was rated (int64).
            ratings: In stars.
        """
        kept = ratings >= MIN_RATING
        self.waiting.append((users[kept], items[kept]))
        self.added += int(kept.sum())
        if self.added >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Count the waiting ratings of all users who have enough by now."""
        if not self.waiting:
            return
        users, items = (np.concatenate(parts) for parts in zip(*self.waiting))
        codes, distinct = pd.factorize(users)
        enough = np.bincount(codes, minlength=len(distinct)) >= MIN_INTERACTIONS
        known = np.isin(distinct, self.users)
        inside = (enough | known)[codes]
        self.interactions += int(inside.sum())
        self.users = np.concatenate([self.users, distinct[enough & ~known]])
        self.items = np.union1d(self.items, pd.unique(items[inside]))
        self.waiting = [(users[~inside], items[~inside])]
        self.added = 0

    def result(self) -> Counts:
        """What the filter leaves of all ratings taken in so far."""
        self.settle()
        return Counts(self.interactions, len(self.users), len(self.items))
