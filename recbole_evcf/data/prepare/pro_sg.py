"""A split made elsewhere, in the "pro_sg" layout, as five files that RecBole reads as they are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from recbole_evcf.data.prepare.raw import RawPath, find_files, read_table, refuse, whole_numbers

__all__ = ["prepare_pro_sg", "split_config"]

# The raw files, and what RecBole's `benchmark_filename` calls them.
PARTS = {
    "train.csv": "train",
    "validation_tr.csv": "valid_fold_in",
    "validation_te.csv": "valid_target",
    "test_tr.csv": "test_fold_in",
    "test_te.csv": "test_target",
}
YAML_COMMENT = """\
# The split "{name}", made elsewhere and used as it is: the training users, and of the users held
# out what the model is shown (fold-in) and what it is scored on (target). Usage:
#     --dataset={name} --config_files=FOLDER/{name}.yaml
"""


def prepare_pro_sg(raw: RawPath, path: str) -> list[str]:
    """Write each of the files row for row to `PATH.train.inter` and so on; return a report."""
    files = {name: find_files(raw, name)[0] for name in PARTS}
    split = {name: copy_pairs(files[name], f"{path}.{PARTS[name]}.inter") for name in PARTS}
    check_split(files, split)
    name = Path(path).name
    report = [f"  {name}.{PARTS[file]}.inter: {len(split[file]):,} interactions" for file in PARTS]
    pairs, items = pd.concat(split.values()), split["train.csv"]["sid"].nunique()
    report += ["in all:", f"  interactions {len(pairs):,}"]
    report += [f"  users {pairs['uid'].nunique():,}", f"  items {items:,}"]
    for name in list(PARTS)[1:]:
        if repeats := int(split[name].duplicated().sum()):
            report.append(f"warning: {files[name]}: {repeats:,} rows repeat an earlier one")
    return report


def copy_pairs(file: RawPath, path: str) -> pd.DataFrame:
    """Write a raw file as an atomic file; return its users and items by line."""
    pd.DataFrame(columns=["user_id:token", "item_id:token"]).to_csv(path, sep="\t", index=False)
    chunks = []
    for table in read_table(file, ("uid", "sid")):
        table.to_csv(path, mode="a", sep="\t", header=False, index=False)
        chunks.append(table.apply(lambda column: whole_numbers(file, column)))
    pairs = pd.concat(chunks)
    if pairs.empty:
        raise ValueError(f"{file}, line 2: there are no rows below the header")
    return pairs


def check_split(files: dict[str, RawPath], split: dict[str, pd.DataFrame]) -> None:
    """Refuse what is no split of users: a new item or a known user, a target that is shown."""
    earlier = ["train.csv"]
    for group in ("validation", "test"):
        fold_in, target = f"{group}_tr.csv", f"{group}_te.csv"
        for name in (fold_in, target):
            user, item = split[name]["uid"], split[name]["sid"]
            refuse(files[name], item, ~item.isin(split["train.csv"]["sid"]), "in train.csv")
            for other in earlier:
                wanted = f"a user to hold out, as it is in {other} as well"
                refuse(files[name], user, user.isin(split[other]["uid"]), wanted)
        refuse(files[target], user, ~user.isin(split[fold_in]["uid"]), f"in {fold_in}")
        pairs = split[target].merge(split[fold_in].drop_duplicates(), "left", indicator=True)
        wanted = f"an item to predict, as {fold_in} shows it to the user"
        refuse(files[target], item, pairs["_merge"] == "both", wanted)
        earlier += [fold_in, target]


def split_config(name: str, output: str) -> str:
    """Return the text of the config file that makes RecBole read the five files."""
    config = {
        "data_path": output,
        "benchmark_filename": list(PARTS.values()),
        "load_col": {"inter": ["user_id", "item_id"]},
    }
    return YAML_COMMENT.format(name=name) + yaml.safe_dump(config, sort_keys=False)
