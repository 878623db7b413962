"""A split made elsewhere, in the "pro_sg" layout, as five files that RecBole reads as they are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from recbole_evcf.data.prepare.raw import RawPath, find_files, read_table, whole_numbers
from recbole_evcf.data.strong_generalization import faults_in_parts

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
# A split made elsewhere and used as it is: the training users, and of the users held out what the
# model is shown (fold-in) and what it is scored on (target).
"""


def prepare_pro_sg(raw: RawPath, path: str) -> list[str]:
    """Write each of the files row for row to `PATH.train.inter` and so on; return a report."""
    report, pairs = [], []
    files = [find_files(raw, name)[0] for name in PARTS]
    for file, part in zip(files, PARTS.values()):
        part_path = Path(f"{path}.{part}.inter")
        pairs.append(copy_pairs(file, part_path))
        report.append(f"  {part_path.name}: {len(pairs[-1]):,} interactions")
        if repeats := int(pairs[-1].duplicated().sum()):
            report.append(f"warning: {file}: {repeats:,} rows repeat an earlier one")
    for number, row, column, why in faults_in_parts(pairs):
        found = f"{column} {pairs[number][column].iloc[row]}"
        raise ValueError(f"{files[number]}, line {row + 2}: {found} {why}")
    total = pd.concat(pairs)
    report += ["in all:", f"  interactions {len(total):,}"]
    counts = zip(("users", "items"), total.nunique())
    return [*report, *(f"  {what} {count:,}" for what, count in counts)]


def copy_pairs(file: RawPath, path: Path) -> pd.DataFrame:
    """Write a raw file as an atomic file; return its users and items."""
    pd.DataFrame(columns=["user_id:token", "item_id:token"]).to_csv(path, sep="\t", index=False)
    chunks = []
    for table in read_table(file, ("uid", "sid")):
        table.to_csv(path, mode="a", sep="\t", header=False, index=False)
        chunks.append(table.apply(lambda column: whole_numbers(file, column)))
    pairs = pd.concat(chunks)
    if pairs.empty:
        raise ValueError(f"{file}, line 2: there are no rows below the header")
    return pairs


def split_config(path: str) -> str:
    """Return the text of the config file that makes RecBole read the five files."""
    config = {
        "benchmark_filename": list(PARTS.values()),
        "load_col": {"inter": ["user_id", "item_id"]},
    }
    return YAML_COMMENT + yaml.safe_dump(config, sort_keys=False)
