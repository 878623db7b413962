"""Atomic interaction files of a given shape, as heavy-tailed as MovieLens-20M.

Activity: the number of interactions of a user is log-normal with sigma = 1.2, clipped to
[5, longest]; ML-20M's mean and median of 144.4 and 68 ratings a user are those of sigma = 1.23.
The median is set so that the total is met exactly; the most active user has exactly ``longest``.

Popularity: an item of rank r among n is drawn with probability proportional to
(r / n + 0.0144) ^ -2.3, a Zipf-Mandelbrot law. Its two parameters are those with which the most
popular, mean and median item of ML-20M (67,310, 747.8 and 18 ratings) have these proportions.

Each user draws items one after the other without replacement, independently of what the item is
like: there is no taste in these data, only their shape. An item that nobody drew takes the place of
a random occurrence of one that has several.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtri

SIGMA = 1.2
SHORTEST = 5
OFFSET, EXPONENT = 0.0144, 2.3
# A user with more than this share of all items draws them by keys, the others by rejection.
DENSE_SHARE = 0.05
KEYS_AT_ONCE = 10_000_000
ROWS_AT_ONCE = 1_000_000
FIRST_TIMESTAMP, LAST_TIMESTAMP = 789_652_009, 1_427_784_002


@dataclass(frozen=True)
class Shape:
    """The exact counts of a data set.

    Attributes:
        users: number of users.
        items: number of items.
        interactions: number of interactions.
        longest: number of interactions of the most active user.

    Raises:
        ValueError: no data set has these counts.
    """

    users: int
    items: int
    interactions: int
    longest: int

    def __post_init__(self):
        wrong = None
        if min(self.users, self.items, self.longest) < 1:
            wrong = "users, items and the longest history must be at least 1"
        elif self.longest > self.items:
            wrong = "the longest history has more items than there are"
        elif self.interactions > self.users * self.longest:
            wrong = "the users cannot have that many interactions"
        elif self.interactions < self.users - 1 + self.longest:
            wrong = "each user needs an interaction, and one the longest history"
        elif self.interactions < self.items:
            wrong = "each item needs an interaction"
        if wrong:
            raise ValueError(f"No data set is of shape {self}: {wrong}.")

    def __str__(self) -> str:
        return f"{self.users}x{self.items}x{self.interactions}x{self.longest}"

    def describe(self) -> str:
        """For a table."""
        return (
            f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions, "
            f"longest history {self.longest:,}"
        )


ML_20M = Shape(136_677, 20_108, 9_990_682, 3_177)


def interactions(shape: Shape, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items, counted from 0, of all interactions, sorted by user; each pair once.

    Returns:
        two int32 arrays, (interactions,).
    """
    rng = np.random.default_rng(seed)
    lengths = _lengths(shape, rng)
    popularity = _popularity(shape.items)
    dense = lengths > DENSE_SHARE * shape.items
    groups = (
        _by_keys(np.flatnonzero(dense), lengths, popularity, rng),
        _by_rejection(np.flatnonzero(~dense), lengths, popularity, rng),
    )
    users = np.concatenate([group[0] for group in groups])
    items = np.concatenate([group[1] for group in groups])
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    _place_missing(items, shape.items, rng)
    # So that a small id says nothing about popularity.
    return users, rng.permutation(shape.items).astype(np.int32)[items]


def _lengths(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Interactions of each user, log-normal, clipped, with the total and the maximum as asked."""
    if shape.users == 1:
        return np.array([shape.longest])
    rest, total = shape.users - 1, shape.interactions - shape.longest
    shortest = min(SHORTEST, shape.longest, total // rest)
    quantiles = (np.arange(rest) + rng.random(rest)) / rest
    scales = np.exp(SIGMA * ndtri(np.clip(quantiles, 1e-12, 1 - 1e-12)))
    low, high = 1e-9, 1e12
    for _ in range(200):
        median = np.sqrt(low * high)
        if np.clip(np.floor(median * scales), shortest, shape.longest).sum() <= total:
            low = median
        else:
            high = median
    lengths = np.clip(np.floor(low * scales), shortest, shape.longest).astype(np.int64)
    # Rounding left a few over: one each for users who are below the maximum.
    missing = total - lengths.sum()
    while missing:
        room = np.flatnonzero(lengths < shape.longest)
        chosen = rng.choice(room, size=min(missing, len(room)), replace=False)
        lengths[chosen] += 1
        missing -= len(chosen)
    return rng.permutation(np.append(lengths, shape.longest))


def _popularity(items: int) -> np.ndarray:
    weights = (np.arange(1, items + 1) / items + OFFSET) ** -EXPONENT
    return weights / weights.sum()


def _by_keys(users, lengths, popularity, rng) -> tuple[np.ndarray, np.ndarray]:
    """Weighted draws without replacement: the items of the smallest of exponential keys of rate
    proportional to the weight (Efraimidis & Spirakis 2006), all users of a chunk at once."""
    found = [(np.empty(0, np.int32), np.empty(0, np.int32))]
    per_chunk = max(KEYS_AT_ONCE // len(popularity), 1)
    for start in range(0, len(users), per_chunk):
        chunk = users[start : start + per_chunk]
        keys = rng.standard_exponential((len(chunk), len(popularity)), dtype=np.float32)
        keys /= popularity.astype(np.float32)
        order = np.argsort(keys, axis=1)
        row, column = np.nonzero(np.arange(len(popularity)) < lengths[chunk][:, None])
        found.append((chunk[row].astype(np.int32), order[row, column].astype(np.int32)))
    return _joined(found)


def _by_rejection(users, lengths, popularity, rng) -> tuple[np.ndarray, np.ndarray]:
    """Draws one after the other, those dropped that the user has: more than are needed are drawn
    at once, and of each user the first different ones kept."""
    cumulative = popularity.cumsum()
    found = [(np.empty(0, np.int32), np.empty(0, np.int32))]
    kept_users, kept_items = _joined(found)
    while len(users):
        have = np.bincount(kept_users, minlength=len(lengths))[users]
        draws = 2 * (lengths[users] - have) + 2
        new_users = np.repeat(users, draws).astype(np.int32)
        drawn = rng.random(len(new_users)) * cumulative[-1]
        new_items = np.searchsorted(cumulative, drawn, side="right").astype(np.int32)
        all_users = np.concatenate([kept_users, new_users])
        all_items = np.concatenate([kept_items, new_items])
        # The first place of each pair; back in the order of drawing, then user by user.
        pairs = all_users.astype(np.int64) * len(popularity) + all_items
        first = np.sort(np.unique(pairs, return_index=True)[1])
        first = first[np.argsort(all_users[first], kind="stable")]
        kept_users, kept_items = all_users[first], all_items[first]
        counts = np.bincount(kept_users, minlength=len(lengths))
        place = np.arange(len(kept_users)) - (counts.cumsum() - counts)[kept_users]
        within = place < lengths[kept_users]
        kept_users, kept_items = kept_users[within], kept_items[within]
        done = counts[users] >= lengths[users]
        finished = np.zeros(len(lengths), dtype=bool)
        finished[users[done]] = True
        whole = finished[kept_users]
        found.append((kept_users[whole], kept_items[whole]))
        kept_users, kept_items = kept_users[~whole], kept_items[~whole]
        users = users[~done]
    return _joined(found)


def _joined(found) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def _place_missing(items: np.ndarray, n_items: int, rng: np.random.Generator) -> None:
    """Give each item that does not occur the place of one that occurs elsewhere too."""
    missing = np.setdiff1d(np.arange(n_items), items)
    needed = np.zeros(len(items), dtype=bool)
    needed[np.unique(items, return_index=True)[1]] = True
    items[rng.choice(np.flatnonzero(~needed), size=len(missing), replace=False)] = missing


def write(path: Path, users: np.ndarray, items: np.ndarray, seed: int) -> None:
    """Write an atomic file with random ratings from 4 and timestamps in ML-20M's time.

    Args:
        path: of the ``.inter`` file.
        users: user of each interaction, (interactions,).
        items: its item, (interactions,).
        seed: of ratings and timestamps.
    """
    rng = np.random.default_rng([seed, 1])
    unfinished = path.with_name(path.name + ".part")
    for start in range(0, len(users), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        count = len(users[rows])
        frame = pd.DataFrame(
            {
                "user_id:token": users[rows] + 1,
                "item_id:token": items[rows] + 1,
                "rating:float": rng.choice([4.0, 4.5, 5.0], size=count),
                "timestamp:float": rng.integers(FIRST_TIMESTAMP, LAST_TIMESTAMP, size=count),
            }
        )
        mode, header = ("a", False) if start else ("w", True)
        frame.to_csv(unfinished, sep="\t", index=False, mode=mode, header=header)
    unfinished.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a data set; the exit code."""
    parser = argparse.ArgumentParser(description="Write a generated atomic interaction file.")
    parser.add_argument("path", type=Path, help="the .inter file to write, as NAME/NAME.inter")
    parser.add_argument("--users", type=int, default=ML_20M.users)
    parser.add_argument("--items", type=int, default=ML_20M.items)
    parser.add_argument("--interactions", type=int, default=ML_20M.interactions)
    parser.add_argument("--longest", type=int, default=ML_20M.longest)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        shape = Shape(given.users, given.items, given.interactions, given.longest)
        given.path.parent.mkdir(parents=True, exist_ok=True)
        write(given.path, *interactions(shape, given.seed), seed=given.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{given.path}: {shape.describe()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
