"""A split made elsewhere, in the "pro_sg" layout, as five files that RecBole reads as they are."""

from pathlib import Path

import pandas as pd
import yaml

from recbole_evcf.data.prepare.raw import RawPath, find_files, read_table, whole_numbers
from recbole_evcf.data.strong_generalization import faults_in_parts

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
    report, parts = [], []
    files = [find_files(raw, name)[0] for name in PARTS]
    for file, name in zip(files, PARTS.values()):
        target, chunks = Path(f"{path}.{name}.inter"), []
        target.write_text("user_id:token\titem_id:token\n", encoding="utf-8")
        for table in read_table(file, ("uid", "sid")):
            table.to_csv(target, mode="a", sep="\t", header=False, index=False)
            chunks.append(table.apply(lambda column, file=file: whole_numbers(file, column)))
        pairs = pd.concat(chunks)
        if pairs.empty:
            raise ValueError(f"{file}, line 2: there are no rows below the header")
        report.append(f"  {target.name}: {len(pairs):,} interactions")
        if repeats := int(pairs.duplicated().sum()):
            report.append(f"warning: {file}: {repeats:,} rows repeat an earlier one")
        parts.append(pairs)
    for number, row, column, why in faults_in_parts(parts):
        found = f"{column} {parts[number][column].iloc[row]}"
        raise ValueError(f"{files[number]}, line {row + 2}: {found} {why}")
    total = pd.concat(parts)
    n_users, n_items = total.nunique()
    report += ["in all:", f"  interactions {len(total):,}"]
    return [*report, f"  users {n_users:,}", f"  items {n_items:,}"]


def split_config(path: str) -> str:
    """Return the text of the config file that makes RecBole read the five files."""
    config = {
        "benchmark_filename": list(PARTS.values()),
        "load_col": {"inter": ["user_id", "item_id"]},
    }
    return YAML_COMMENT + yaml.safe_dump(config, sort_keys=False)
