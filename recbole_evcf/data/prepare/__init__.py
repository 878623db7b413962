"""Turn raw data sets, and splits made elsewhere, into data sets that RecBole reads."""

from __future__ import annotations

from pathlib import Path

from recbole_evcf.data.prepare.movielens import prepare_ml_20m
from recbole_evcf.data.prepare.netflix import prepare_netflix
from recbole_evcf.data.prepare.output import new_dataset
from recbole_evcf.data.prepare.pro_sg import prepare_pro_sg, split_config
from recbole_evcf.data.prepare.raw import open_raw

__all__ = ["KINDS", "prepare"]

FORMATS = {"pro_sg": prepare_pro_sg, "ml-20m": prepare_ml_20m, "netflix": prepare_netflix}
KINDS = tuple(FORMATS)


def prepare(
    kind: str,
    raw: str | Path,
    name: str | None = None,
    output: str | Path = "dataset",
    overwrite: bool = False,
) -> str:
    """Prepare a data set: the folder `OUTPUT/NAME` appears complete or not at all.

    Args:
        kind: One of `KINDS`.
        raw: The folder or zip archive of the raw data.
        name: What to call the data set; needed for `pro_sg`, otherwise the kind is its name.
        output: The folder of data sets to write to; created if necessary.
        overwrite: Whether to replace a data set of that name.

    Returns:
        A report to print: what was written, the counts beside the published ones, and warnings.

    Raises:
        ValueError: The raw data are missing or invalid (names file and line), the data set exists
            already, or its name is missing or not fit for a folder.
    """
    if kind not in FORMATS:
        raise ValueError(f"cannot prepare {kind!r}: the kinds are {', '.join(KINDS)}")
    if name is None and kind == "pro_sg":
        raise ValueError("pro_sg needs a name for the data set, as its raw files have none")
    name = kind if name is None else name
    with new_dataset(raw, output, name, overwrite) as folder:
        report = FORMATS[kind](open_raw(raw), str(folder / name))
        if kind == "pro_sg":
            (folder / f"{name}.yaml").write_text(split_config(name, str(output)), encoding="utf-8")
    return "\n".join([f"{Path(output) / name}: prepared from {kind}", *report])
