"""A split made elsewhere, in the "pro_sg" layout, as five files that RecBole reads as they are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml
from tqdm import tqdm

from recbole_evcf.data.prepare.raw import RawPath, find_files, read_table, whole_numbers

__all__ = ["PARTS", "prepare_pro_sg", "split_config"]

# The raw files, and what RecBole's `benchmark_filename` calls them.
PARTS = {
    "train.csv": "train",
    "validation_tr.csv": "valid_fold_in",
    "validation_te.csv": "valid_target",
    "test_tr.csv": "test_fold_in",
    "test_te.csv": "test_target",
}
YAML_COMMENT = """\
# The split "{name}", made elsewhere and taken over as it is: the users to train on, and of the
# users held out for validation and for the test what the model is shown (fold-in) and what it is
# scored on (target). Name this file among the config files of a run:
#     --dataset={name} --config_files=FOLDER/{name}.yaml
"""


def prepare_pro_sg(raw: RawPath, path: str, bar: tqdm) -> list[str]:
    """Write each of the files row for row to `PATH.train.inter` and so on; return a report.

    Raises:
        ValueError: A file is missing or invalid, or they are no split of users: an item that
            training never saw, a user in two parts, a target without fold-in, a pair in both.
    """
    files = {name: find_files(raw, name)[0] for name in PARTS}
    split = {name: copy_pairs(files[name], f"{path}.{PARTS[name]}.inter", bar) for name in PARTS}
    check_split(files, split)
    report = [
        f"  {Path(path).name}.{PARTS[name]}.inter: {len(pairs):,} interactions"
        for name, pairs in split.items()
    ]
    pairs, items = pd.concat(split.values()), split["train.csv"]["item"].nunique()
    report += ["in all:", f"  interactions {len(pairs):,}"]
    report += [f"  users {pairs['user'].nunique():,}", f"  items {items:,}"]
    for name in list(PARTS)[1:]:
        if repeats := int(split[name].duplicated().sum()):
            report.append(f"warning: {files[name]}: {repeats:,} rows repeat an earlier one")
    for file in find_files(raw, "unique_sid.txt", required=False):
        listed = sum(len(table) for table in read_table(file, ["item"], bar, header=False))
        if listed != items:
            report.append(f"warning: {file}: lists {listed:,} items, but training has {items:,}")
    return report


def copy_pairs(file: RawPath, path: str, bar: tqdm) -> pd.DataFrame:
    """Write a raw file as an atomic file; return its users and items by line."""
    pd.DataFrame(columns=["user_id:token", "item_id:token"]).to_csv(path, sep="\t", index=False)
    chunks = []
    for table in read_table(file, ("uid", "sid"), bar):
        columns = {
            to: whole_numbers(file, table[of]) for of, to in (("uid", "user"), ("sid", "item"))
        }
        chunks.append(pd.DataFrame(columns, table.index))
        table.to_csv(path, mode="a", sep="\t", header=False, index=False)
    pairs = pd.concat(chunks)
    if pairs.empty:
        raise ValueError(f"{file}, line 2: there are no rows below the header")
    return pairs


def check_split(files: dict[str, RawPath], split: dict[str, pd.DataFrame]) -> None:
    """Refuse what is no split of users."""

    def refuse(name: str, bad: pd.Series, problem: str) -> None:
        if bad.any():
            line = split[name].index[bad.to_numpy().argmax()]
            raise ValueError(
                f"{files[name]}, line {line}: {problem.format(**split[name].loc[line])}"
            )

    earlier = ["train.csv"]
    for group in ("validation", "test"):
        fold_in, target = f"{group}_tr.csv", f"{group}_te.csv"
        for name in (fold_in, target):
            unseen = ~split[name]["item"].isin(split["train.csv"]["item"])
            refuse(name, unseen, "training never saw item {item} of user {user}")
            for other in earlier:
                known = split[name]["user"].isin(split[other]["user"])
                refuse(name, known, f"user {{user}} is in {other} as well")
        alone = ~split[target]["user"].isin(split[fold_in]["user"])
        refuse(target, alone, f"user {{user}} has no rows in {fold_in}")
        merged = split[target].merge(split[fold_in].drop_duplicates(), "left", indicator=True)
        shown = merged["_merge"] == "both"
        refuse(target, shown, f"item {{item}} of user {{user}} is in {fold_in} as well")
        earlier += [fold_in, target]


def split_config(name: str, output: str) -> str:
    """Give the text of the RecBole config file that makes RecBole read the five files."""
    config = {"data_path": output, "benchmark_filename": list(PARTS.values())}
    config |= {"load_col": {"inter": ["user_id", "item_id"]}}
    return YAML_COMMENT.format(name=name) + yaml.safe_dump(
        config, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=None
    )
