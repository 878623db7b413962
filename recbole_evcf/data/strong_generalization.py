"""The split by users: a held-out user's fold-in history is shown, the rest is to be found.

First the split itself, on plain arrays; below it what makes three RecBole datasets of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger

import numpy as np
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_evcf.data.histories import Histories
from recbole_evcf.data.loading import rows_of
from recbole_evcf.utils.text import shown

__all__ = [
    "BENCHMARK_PARTS",
    "Split",
    "build_parts",
    "check_times",
    "group_sizes",
    "is_sg",
    "split_seed",
    "split_users",
]

# The least a held-out user must keep to be scored, as published.
MIN_INTERACTIONS = 5
# The five interaction files of a split made elsewhere, in the order of benchmark_filename.
BENCHMARK_PARTS = ("train", "valid fold-in", "valid target", "test fold-in", "test target")
# Sets the split's random stream apart from every other use of the same seed.
STREAM = 0x5C
BEYOND_COUNTS = "interactions of users beyond the counts asked for"


@dataclass(frozen=True)
class Split:
    """Places in the interaction arrays, and what was left out.

    Attributes:
        train: all interactions of the training users.
        fold_in: of validation and test users, what is shown; a pair.
        target: of validation and test users, what is to be found; a pair.
        dropped: counts by reason, for the log.
    """

    train: np.ndarray
    fold_in: tuple[np.ndarray, np.ndarray]
    target: tuple[np.ndarray, np.ndarray]
    dropped: dict[str, int]


def is_sg(config: Config) -> bool:
    """Whether a config asks for strong generalization: by ``SG``, or by five benchmark files."""
    split = config["eval_args"].get("split")
    if isinstance(split, dict) and "SG" in split:
        return True
    files = config["benchmark_filename"]
    return isinstance(files, (list, tuple)) and len(files) == len(BENCHMARK_PARTS)


def split_seed(config: Config) -> int:
    """The seed of the split alone: ``split_seed``, or the config's ``seed`` if it is not set."""
    seed = config["split_seed"]
    return config["seed"] if seed is None else seed


def group_sizes(shares: Sequence[float], n_users: int) -> tuple[int, int, int]:
    """Numbers of training, validation and test users.

    Args:
        shares: three ratios, which are scaled to sum to 1; or three whole numbers of users, one
            of which may be -1 for all the others.
        n_users: how many users there are.

    Raises:
        ValueError: the shares make no sense, or ask for more users than there are.
    """
    text = f"eval_args: split: SG: {shares!r}"
    numeric = isinstance(shares, (list, tuple)) and len(shares) == 3
    numeric = numeric and all(
        isinstance(s, (int, float)) and not isinstance(s, bool) and np.isfinite(s) for s in shares
    )
    if not numeric:
        raise ValueError(f"{text} must be three numbers: training, validation and test users.")
    counted = all(isinstance(s, int) for s in shares) and (-1 in shares or max(shares) > 1)
    sizes = _by_count(shares, n_users, text) if counted else _by_ratio(shares, n_users, text)
    if sum(sizes) > n_users:
        raise ValueError(f"{text} asks for {sum(sizes)} users, but the data set has {n_users}.")
    if min(sizes) < 1:
        raise ValueError(
            f"{text} leaves {sizes[0]} training, {sizes[1]} validation and {sizes[2]} test users "
            f"of {n_users}: each group needs at least one."
        )
    return sizes


def _by_count(shares: Sequence[float], n_users: int, text: str) -> tuple[int, int, int]:
    if list(shares).count(-1) > 1 or min(shares) < -1 or 0 in shares:
        raise ValueError(f"{text}: counts must be positive, and one of them may be -1, the rest.")
    rest = n_users - int(sum(s for s in shares if s != -1))
    train, valid, test = (int(max(rest, 0) if s == -1 else s) for s in shares)
    return train, valid, test


def _by_ratio(shares: Sequence[float], n_users: int, text: str) -> tuple[int, int, int]:
    if min(shares) <= 0:
        raise ValueError(f"{text}: every ratio must be above 0.")
    if max(shares) > 1:
        raise ValueError(f"{text}: give three ratios up to 1, or three whole numbers of users.")
    total = sum(shares)
    # A hair's breadth, so that 0.1 of 1000 users are 100 whatever the rounding.
    valid, test = (int(share / total * n_users + 1e-9) for share in shares[1:])
    return n_users - valid - test, valid, test


def split_users(
    users: np.ndarray,
    items: np.ndarray,
    shares: Sequence[float],
    seed: int,
    fold_in_ratio: float = 0.8,
    times: np.ndarray | None = None,
) -> Split:
    """Split interactions by users, as ``published-settings`` and Liang et al. (2018) do.

    Args:
        users: user of each interaction.
        items: item of each interaction.
        shares: see :func:`group_sizes`.
        seed: all that the random choices depend on.
        fold_in_ratio: share of a held-out history that is shown.
        times: if given, the earlier part of a history is shown instead of a random one.

    Raises:
        ValueError: the shares or the ratio make no sense, or no held-out user can be scored.
    """
    if not isinstance(fold_in_ratio, (int, float)) or not 0 < fold_in_ratio < 1:
        raise ValueError(f"eval_args: fold_in_ratio must lie between 0 and 1, not {fold_in_ratio}.")
    rng = np.random.default_rng([seed, STREAM])
    unique = _first_of_each_pair(users, items)
    group = _draw_groups(users[unique], shares, rng)
    train = unique[group == 0]
    trained = np.isin(items[unique], np.unique(items[train]))
    kept = unique[(group > 0) & trained]
    order = times if times is not None else rng.random(len(users))
    shown, targets, too_short = _fold_in(kept, users, order, fold_in_ratio)
    group_of = np.zeros(len(users), dtype=np.int8)
    group_of[unique] = group
    split = Split(
        train,
        tuple(shown[group_of[shown] == phase] for phase in (1, 2)),
        tuple(targets[group_of[targets] == phase] for phase in (1, 2)),
        {
            BEYOND_COUNTS: int((group < 0).sum()),
            "repeated interactions": len(users) - len(unique),
            "held-out interactions with items nobody in training has": int(
                ((group > 0) & ~trained).sum()
            ),
            f"held-out users with fewer than {MIN_INTERACTIONS} interactions left": too_short
            + _without_any(users[unique], group, users[kept]),
        },
    )
    for name, target in zip(("validation", "test"), split.target):
        if len(target) == 0:
            raise ValueError(
                f"No {name} user has the {MIN_INTERACTIONS} interactions with training items that "
                "scoring needs: hold out more users, or filter the data less."
            )
    return split


def _first_of_each_pair(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    pairs = users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items
    return np.sort(np.unique(pairs, return_index=True)[1])


def _draw_groups(
    users: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """0, 1 or 2 for each interaction: its user's group."""
    ids, place = np.unique(users, return_inverse=True)
    sizes = group_sizes(shares, len(ids))
    drawn = rng.permutation(len(ids))
    group = np.zeros(len(ids), dtype=np.int8)
    group[drawn[: sizes[1]]] = 1
    group[drawn[sizes[1] : sizes[1] + sizes[2]]] = 2
    used = np.ones(len(ids), dtype=bool)
    used[drawn[sum(sizes) :]] = False
    # Users beyond the counts asked for take no part: group -1.
    return np.where(used, group, -1)[place]


def _fold_in(
    kept: np.ndarray, users: np.ndarray, order: np.ndarray, ratio: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Shown and target interactions of users with enough of them; how many have too few."""
    ranked = kept[np.lexsort((order[kept], users[kept]))]
    _, start, count = np.unique(users[ranked], return_index=True, return_counts=True)
    # The same hair's breadth: 0.2 of 5 is 1, though 1 - 0.8 is less than 0.2.
    n_target = np.floor((1 - ratio) * count + 1e-9).astype(np.int64)
    scored = (count >= MIN_INTERACTIONS) & (n_target > 0)
    place = np.arange(len(ranked)) - np.repeat(start, count)
    is_target = place >= np.repeat(count - n_target, count)
    is_scored = np.repeat(scored, count)
    return (
        np.sort(ranked[is_scored & ~is_target]),
        np.sort(ranked[is_scored & is_target]),
        int((~scored).sum()),
    )


def _without_any(users: np.ndarray, group: np.ndarray, kept_users: np.ndarray) -> int:
    return len(np.setdiff1d(users[group > 0], kept_users))


def build_parts(dataset: Dataset) -> list[Dataset]:
    """Make training, validation and test datasets of a loaded RecBole ``Dataset``.

    The interactions of the validation and test parts are the targets. Every part carries
    ``input_histories``, what each user is scored from: the training history or the fold-in set,
    and the validation and test parts carry ``fold_in``. The data set itself is reduced to the
    items that training knows.

    Args:
        dataset: RecBole's ``Dataset``.

    Raises:
        ValueError: the config asks for a split that this data cannot give.
    """
    dataset._change_feat_format()
    split = (_from_files if dataset.benchmark_filename_list else _from_config)(dataset)
    dataset._drop_unused_col()
    _log(dataset, split)
    _keep_training_items(dataset, split)
    return _parts(dataset, split)


def check_times(dataset: Dataset, times: np.ndarray | None) -> None:
    """Check that a data set can be split in the order of time.

    Args:
        dataset: RecBole's ``Dataset``.
        times: of its interactions, if there are any.

    Raises:
        ValueError: it cannot.
    """
    if times is None:
        raise ValueError(
            f"eval_args: order: TO needs the field {dataset.time_field!r}, which "
            f"{dataset.dataset_name}.inter does not have or load_col does not load."
        )
    # RecBole has put the mean of all times where one is missing: it is missing where all are.
    if np.isnan(times).any():
        raise ValueError(
            f"eval_args: order: TO needs the field {dataset.time_field!r}, of which "
            f"{dataset.dataset_name}.inter holds no value."
        )


def _from_config(dataset: Dataset) -> Split:
    arguments = dataset.config["eval_args"]
    feat = dataset.inter_feat
    times = feat[dataset.time_field].numpy() if dataset.time_field in feat else None
    order = arguments["order"]
    if order not in ("RO", "TO"):
        raise ValueError(f"eval_args: order must be RO or TO, not {order!r}.")
    if order == "TO":
        check_times(dataset, times)
    return split_users(
        feat[dataset.uid_field].numpy(),
        feat[dataset.iid_field].numpy(),
        arguments["split"]["SG"],
        split_seed(dataset.config),
        arguments.get("fold_in_ratio", 0.8),
        times if order == "TO" else None,
    )


def _from_files(dataset: Dataset) -> Split:
    bounds = np.cumsum([0, *dataset.file_size_list])
    train, *held_out = (np.arange(*pair) for pair in itertools.pairwise(bounds))
    user, item = dataset.uid_field, dataset.iid_field
    users, items = dataset.inter_feat[user].numpy(), dataset.inter_feat[item].numpy()
    pairs = users.astype(np.int64) * dataset.item_num + items

    def refuse(part: int, field: str, wrong: np.ndarray, why: str) -> None:
        _refuse(dataset, part, held_out[part - 1][wrong], field, why)

    for part, places in enumerate(held_out, start=1):
        refuse(part, item, ~np.isin(items[places], items[train]), "is not in the training file")
        refuse(part, user, np.isin(users[places], users[train]), "is in the training file too")
    for part in (2, 4):
        places, shown_places = held_out[part - 1], held_out[part - 2]
        unshown = ~np.isin(users[places], users[shown_places])
        refuse(part, user, unshown, "has no fold-in interaction")
        both = np.isin(pairs[places], pairs[shown_places])
        refuse(part, item, both, "is in the user's fold-in set too")
    for part in (3, 4):
        again = np.isin(users[held_out[part - 1]], users[held_out[0]])
        refuse(part, user, again, "is a validation user too")
    return Split(train, (held_out[0], held_out[2]), (held_out[1], held_out[3]), {})


def _refuse(dataset: Dataset, part: int, places: np.ndarray, field: str, why: str) -> None:
    """Name the first of the wrong ``places`` of a file, if there are any."""
    if len(places) == 0:
        return
    token = str(dataset.id2token(field, int(dataset.inter_feat[field][int(places[0])])))
    file = f"{dataset.dataset_name}.{dataset.benchmark_filename_list[part]}.inter"
    # The header is line 1.
    line = int(places[0]) - sum(dataset.file_size_list[:part]) + 2
    raise ValueError(f"{file}, line {line}: {field} {shown(token)} {why}.")


def _log(dataset: Dataset, split: Split) -> None:
    feat = dataset.inter_feat
    users, items = feat[dataset.uid_field].numpy(), feat[dataset.iid_field].numpy()
    (valid_shown, test_shown), (valid_target, test_target) = split.fold_in, split.target
    parts = {
        "training": split.train,
        "validation fold-in": valid_shown,
        "validation target": valid_target,
        "test fold-in": test_shown,
        "test target": test_target,
    }
    text = "Strong generalization"
    for name, places in parts.items():
        n_users, n_items = len(np.unique(users[places])), len(np.unique(items[places]))
        text += f"\n  {name}: {n_users:,} users, {n_items:,} items, {len(places):,} interactions"
    for reason, count in split.dropped.items():
        text += f"\n  dropped: {count:,} {reason}"
    getLogger().info(text)
    left_out = split.dropped.get(BEYOND_COUNTS)
    if left_out:
        getLogger().warning(
            f"eval_args: split: SG: {dataset.config['eval_args']['split']['SG']} are counts of "
            f"users; {left_out:,} of {len(feat):,} interactions are of others and take no part "
            "(-1 stands for all the others)."
        )


def _keep_training_items(dataset: Dataset, split: Split) -> None:
    """Number the items again, from 1, in the order they had; the others are gone."""
    field = dataset.iid_field
    if len(dataset.alias["item_id"]) > 1:
        raise ValueError("alias_of_item_id cannot be used with the split by users (SG).")
    items = dataset.inter_feat[field].numpy()
    kept = np.concatenate([[0], np.unique(items[split.train])])
    new_id = np.zeros(dataset.item_num, dtype=np.int64)
    new_id[kept] = np.arange(len(kept))
    tokens = dataset.field2id_token[field][kept]
    dataset.field2id_token = {**dataset.field2id_token, field: tokens}
    dataset.field2token_id = {
        **dataset.field2token_id,
        field: {token: number for number, token in enumerate(tokens)},
    }
    if dataset.item_feat is not None:
        dataset.item_feat = dataset.item_feat[kept]
        dataset.item_feat[field][:] = dataset.item_feat[field].new_tensor(np.arange(len(kept)))
    dataset.inter_feat[field][:] = dataset.inter_feat[field].new_tensor(new_id[items])


def _parts(dataset: Dataset, split: Split) -> list[Dataset]:
    feat = dataset.inter_feat
    parts = [dataset.copy(_rows(feat, places)) for places in (split.train, *split.target)]
    shown = dataset.copy(_rows(feat, np.concatenate([split.train, *split.fold_in])))
    histories = Histories.from_dataset(shown)
    for part in parts:
        part.input_histories = histories
    for part, places in zip(parts[1:], split.fold_in):
        part.fold_in = Histories.from_dataset(dataset.copy(_rows(feat, places)))
    # What is left of the data set: no row may name an item that is gone.
    everything = np.sort(np.concatenate([split.train, *split.fold_in, *split.target]))
    dataset.inter_feat = _rows(feat, everything)
    return parts


def _rows(feat: Interaction, places: np.ndarray) -> Interaction:
    # RecBole makes a list of the places.
    return Interaction(rows_of(feat.interaction, places))
