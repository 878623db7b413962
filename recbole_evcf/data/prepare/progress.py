"""A progress bar over the bytes of raw files."""

from __future__ import annotations

from collections.abc import Iterable

from tqdm import tqdm

from recbole_evcf.data.prepare.source import RawFile

__all__ = ["byte_progress"]


def byte_progress(files: Iterable[RawFile], title: str, show: bool) -> tqdm:
    """Make the bar for reading some files once, to be used in a `with` statement.

    Args:
        files: What will be read.
        title: What stands before the bar.
        show: Whether to show it at all.

    Returns:
        The bar.
    """
    total = sum(file.size for file in files)
    return tqdm(total=total, unit="B", unit_scale=True, desc=title, disable=not show)
