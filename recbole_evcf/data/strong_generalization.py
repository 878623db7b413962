"""The split by users: a held-out user's fold-in history is shown, the rest is to be found.

First the split itself, on plain arrays; below it what makes three RecBole datasets of it.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from logging import getLogger

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_evcf.data.histories import Histories
from recbole_evcf.utils.text import shown

# The five interaction files of a split made elsewhere, in the order of benchmark_filename.
PARTS = ("training", "validation fold-in", "validation target", "test fold-in", "test target")
# The least a held-out user must keep to be scored, as published.
MIN_INTERACTIONS = 5
# Sets the split's random stream apart from every other use of the same seed.
STREAM = 0x5C
# So that 0.1 of 1000 users are 100, and 1 - 0.8 of 5 interactions is 1, whatever the rounding.
TINY = 1e-9
BEYOND_COUNTS = "interactions of users beyond the counts asked for"


def is_sg(config: Config) -> bool:
    """Whether a config asks for strong generalization: by ``SG``, or by five benchmark files."""
    split, files = config["eval_args"].get("split"), config["benchmark_filename"]
    five = isinstance(files, (list, tuple)) and len(files) == len(PARTS)
    return five or (isinstance(split, dict) and "SG" in split)


def split_seed(config: Config) -> int:
    """The seed of the split alone: ``split_seed``, or the config's ``seed`` if it is not set."""
    seed = config["split_seed"]
    return config["seed"] if seed is None else seed


def three_numbers(values: object) -> bool:
    """Whether a setting is a list of three finite numbers, as the shares of a split are."""
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        return False
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return len(numbers) == 3 and all(map(math.isfinite, numbers))


def group_sizes(shares: Sequence[float], n_users: int) -> list[int]:
    """Return the numbers of training, validation and test users.

    Args:
        shares: three ratios, which are scaled to sum to 1; or three whole numbers of users, one
            of which may be -1 for all the others.
        n_users: how many users there are.

    Raises:
        ValueError: the shares make no sense, or ask for more users than there are.
    """
    text = f"eval_args: split: SG: {shares!r}"
    if not three_numbers(shares):
        raise ValueError(f"{text} must be three numbers: training, validation and test users.")
    if all(isinstance(s, int) for s in shares) and (-1 in shares or max(shares) > 1):
        if list(shares).count(-1) > 1 or min(shares) < -1 or 0 in shares:
            raise ValueError(f"{text}: counts must be above 0, and one may be -1: all others.")
        rest = max(n_users - int(sum(s for s in shares if s != -1)), 0)
        sizes = [rest if s == -1 else int(s) for s in shares]
    else:
        if min(shares) <= 0 or max(shares) > 1:
            raise ValueError(f"{text}: ratios must be above 0 and at most 1, or all be counts.")
        held_out = [int(share / sum(shares) * n_users + TINY) for share in shares[1:]]
        sizes = [n_users - sum(held_out), *held_out]
    if sum(sizes) > n_users or min(sizes) < 1:
        raise ValueError(
            f"{text} asks for {sizes[0]} training, {sizes[1]} validation and {sizes[2]} test users "
            f"of {n_users}: each group needs at least one, and no user is in two."
        )
    return sizes


def split_users(
    interactions: pd.DataFrame,
    shares: Sequence[float],
    seed: int,
    fold_in_ratio: float = 0.8,
    times: np.ndarray | None = None,
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Split interactions by users, as ``published-settings`` and Liang et al. (2018) do.

    Args:
        interactions: a column of users and one of items, numbered row by row.
        shares: see :func:`group_sizes`.
        seed: all that the random choices depend on.
        fold_in_ratio: share of a held-out history that is shown.
        times: if given, the earlier part of a history is shown instead of a random one.

    Returns:
        the numbers of the rows of each part, and how many were left out, by reason.

    Raises:
        ValueError: the shares or the ratio make no sense, or no held-out user can be scored.
    """
    if not isinstance(fold_in_ratio, (int, float)) or not 0 < fold_in_ratio < 1:
        raise ValueError(f"eval_args: fold_in_ratio must lie between 0 and 1, not {fold_in_ratio}.")
    rng = np.random.default_rng([seed, STREAM])
    rows = interactions.set_axis(["user", "item"], axis=1).drop_duplicates()
    ids = np.unique(rows["user"])
    n_train, n_valid, n_test = group_sizes(shares, len(ids))
    drawn = np.repeat(["validation", "test", "training"], [n_valid, n_test, n_train])
    group = rows["user"].map(pd.Series(drawn, ids[rng.permutation(len(ids))][: len(drawn)]))
    train, held_out = rows[group == "training"], rows[group.isin(["validation", "test"])]
    known = held_out[held_out["item"].isin(train["item"])]
    order = rng.random(len(interactions)) if times is None else times
    ranked = known.iloc[np.lexsort((order[known.index], known["user"]))]
    of_user = ranked.groupby("user")["item"]
    count = of_user.transform("size")
    n_target = np.floor((1 - fold_in_ratio) * count + TINY)
    is_scored = (count >= MIN_INTERACTIONS) & (n_target > 0)
    is_target = of_user.cumcount() >= count - n_target
    parts = [train.index.to_numpy()]
    for name in ("validation", "test"):
        scored = is_scored & (group[ranked.index] == name)
        if not scored.any():
            raise ValueError(
                f"No {name} user has the {MIN_INTERACTIONS} interactions with training items that "
                "scoring needs: hold out more users, or filter the data less."
            )
        parts += [np.sort(ranked.index[scored & target]) for target in (~is_target, is_target)]
    n_scored = ranked["user"][is_scored].nunique()
    dropped = {
        BEYOND_COUNTS: int(group.isna().sum()),
        "repeated interactions": len(interactions) - len(rows),
        "held-out interactions with items nobody in training has": len(held_out) - len(known),
        f"held-out users with fewer than {MIN_INTERACTIONS} interactions left": (
            held_out["user"].nunique() - n_scored
        ),
    }
    return parts, dropped


def faults_in_parts(parts: Sequence[pd.DataFrame]) -> Iterator[tuple[int, int, str, str]]:
    """Find out why five parts, each with a column of users and one of items, are no split by users.

    Yields:
        the number of a part, that of its first faulty row, the column, and what is wrong there.
    """
    user, item = parts[0].columns
    train, known = parts[0], parts[1]
    for number, part in enumerate(parts[1:], 1):
        faults = [
            (item, ~part[item].isin(train[item]), "is not in the training file"),
            (user, part[user].isin(train[user]), "is in the training file too"),
        ]
        if PARTS[number].endswith("target"):
            fold_in = parts[number - 1]
            pairs = pd.MultiIndex.from_frame(part).isin(pd.MultiIndex.from_frame(fold_in))
            faults += [
                (user, ~part[user].isin(fold_in[user]), "has no fold-in interaction"),
                (item, pairs, "is in the user's fold-in set too"),
            ]
        if PARTS[number].startswith("test"):
            faults.append((user, part[user].isin(known[user]), "is a validation user too"))
        for column, wrong, why in faults:
            if wrong.any():
                yield number, int(np.argmax(wrong)), column, why


def build_parts(dataset: Dataset) -> list[Dataset]:
    """Make training, validation and test datasets of a loaded RecBole ``Dataset``.

    The interactions of the validation and test parts are the targets, and they carry ``fold_in``.
    Every part carries ``input_histories``, what each user is scored from. The data set itself is
    reduced to the items that training knows.

    Raises:
        ValueError: the config asks for a split that this data cannot give.
    """
    dataset._change_feat_format()
    arguments = dataset.config["eval_args"]
    dropped: dict[str, int] = {}
    fields = (dataset.uid_field, dataset.iid_field)
    interactions = pd.DataFrame({field: dataset.inter_feat[field].numpy() for field in fields})
    if dataset.benchmark_filename_list:
        rows = _rows_of_files(dataset, interactions)
    else:
        rows, dropped = split_users(
            interactions,
            arguments["split"]["SG"],
            split_seed(dataset.config),
            arguments.get("fold_in_ratio", 0.8),
            times_of(dataset) if arguments["order"] == "TO" else None,
        )
    text = "Strong generalization"
    for name, part in zip(PARTS, (interactions.iloc[each] for each in rows)):
        n_users, n_items = part.nunique()
        text += f"\n  {name}: {n_users:,} users, {n_items:,} items, {len(part):,} interactions"
    for reason, count in dropped.items():
        text += f"\n  dropped: {count:,} {reason}"
    getLogger().info(text)
    if left_out := dropped.get(BEYOND_COUNTS):
        getLogger().warning(
            f"eval_args: split: SG: {arguments['split']['SG']} are counts of users; {left_out:,} "
            f"of {len(interactions):,} interactions are of others and take no part (-1 stands for "
            "all the others)."
        )
    dataset._drop_unused_col()
    train, *held_out = rows
    _keep_items(dataset, np.unique(interactions[dataset.iid_field].iloc[train]))
    fold_in, targets = held_out[::2], held_out[1::2]
    parts = [dataset.copy(_taken(dataset, each)) for each in (train, *targets)]
    shown_rows = _taken(dataset, np.concatenate([train, *fold_in]))
    histories = Histories.from_dataset(dataset.copy(shown_rows))
    for part in parts:
        part.input_histories = histories
    for part, each in zip(parts[1:], fold_in):
        part.fold_in = Histories.from_dataset(dataset.copy(_taken(dataset, each)))
    # What is left of the data set: no row may name an item that is gone.
    dataset.inter_feat = _taken(dataset, np.sort(np.concatenate(rows)))
    return parts


def times_of(dataset: Dataset) -> np.ndarray:
    """Return the times by which a RecBole ``Dataset`` is split, or raise a ValueError."""
    feat, field = dataset.inter_feat, dataset.time_field
    # RecBole has put the mean of all times where one is missing: it is missing where all are.
    if field not in feat.columns or np.isnan(np.asarray(feat[field])).any():
        raise ValueError(
            f"eval_args: order: TO needs the field {field!r}, of which "
            f"{dataset.dataset_name}.inter holds no value, or which load_col does not load."
        )
    return np.asarray(feat[field])


def _rows_of_files(dataset: Dataset, interactions: pd.DataFrame) -> list[np.ndarray]:
    bounds = np.cumsum([0, *dataset.file_size_list])
    rows = [np.arange(*pair) for pair in itertools.pairwise(bounds)]
    parts = [interactions.iloc[each] for each in rows]
    for part, row, field, why in faults_in_parts(parts):
        token = dataset.id2token(field, int(parts[part][field].iloc[row]))
        file = f"{dataset.dataset_name}.{dataset.benchmark_filename_list[part]}.inter"
        # The header is line 1.
        raise ValueError(f"{file}, line {row + 2}: {field} {shown(token)} {why}.")
    return rows


def _keep_items(dataset: Dataset, items: np.ndarray) -> None:
    """Number some items again, from 1, in the order they had; the others are gone."""
    field = dataset.iid_field
    if len(dataset.alias["item_id"]) > 1:
        raise ValueError("alias_of_item_id cannot be used with the split by users (SG).")
    kept = np.append(0, items)
    new_id = np.zeros(dataset.item_num, dtype=np.int64)
    new_id[kept] = np.arange(len(kept))
    tokens = dataset.field2id_token[field][kept]
    ids = {token: number for number, token in enumerate(tokens)}
    dataset.field2id_token = {**dataset.field2id_token, field: tokens}
    dataset.field2token_id = {**dataset.field2token_id, field: ids}
    if dataset.item_feat is not None:
        dataset.item_feat = dataset.item_feat[kept]
        dataset.item_feat[field][:] = torch.arange(len(kept))
    dataset.inter_feat[field][:] = torch.from_numpy(new_id[dataset.inter_feat[field].numpy()])


def _taken(dataset: Dataset, rows: np.ndarray) -> Interaction:
    # RecBole's own indexing makes a list of the rows.
    index, columns = torch.from_numpy(rows), dataset.inter_feat.interaction
    return Interaction({name: column[index] for name, column in columns.items()})
