"""Choose a preparation by name: what the command `recbole-evcf prepare KIND` calls."""

from __future__ import annotations

from pathlib import Path

from recbole_evcf.data.prepare.movielens import prepare_ml_20m
from recbole_evcf.data.prepare.netflix import prepare_netflix
from recbole_evcf.data.prepare.pro_sg import prepare_pro_sg
from recbole_evcf.data.prepare.report import format_report

__all__ = ["KINDS", "prepare"]

PREPARATIONS = {"pro_sg": prepare_pro_sg, "ml-20m": prepare_ml_20m, "netflix": prepare_netflix}
KINDS = tuple(PREPARATIONS)


def prepare(
    kind: str,
    raw: str | Path,
    name: str | None = None,
    output: str | Path = "dataset",
    overwrite: bool = False,
    show_progress: bool = True,
) -> str:
    """Prepare a data set and say in words what was done.

    Args:
        kind: One of `KINDS`.
        raw: Where the raw data are.
        name: What to call the data set; needed for `pro_sg`, else the kind is its name.
        output: The folder of data sets to write into; made if need be.
        overwrite: Whether to replace a data set of that name.
        show_progress: Whether to show a progress bar.

    Returns:
        The report, for printing.

    Raises:
        ValueError: There is no such kind, `pro_sg` got no name, or the preparation refused.
    """
    if kind not in PREPARATIONS:
        raise ValueError(f"cannot prepare {kind!r}: the kinds are {', '.join(KINDS)}")
    if name is None:
        if kind == "pro_sg":
            raise ValueError("pro_sg needs a name for the data set, as its raw files have none")
        name = kind
    return format_report(PREPARATIONS[kind](raw, name, output, overwrite, show_progress))
