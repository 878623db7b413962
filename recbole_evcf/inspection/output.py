"""The files of an inspection: a page and a CSV file for each table."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from recbole_evcf.inspection.inspection import Inspection
from recbole_evcf.inspection.report import page

__all__ = ["check_folder", "write"]

# Every table there can be: those of an older inspection go.
TABLES = (
    "components",
    "component_items",
    "density",
    "gates",
    "gates_by_popularity",
    "levels",
    "quality_by_history",
    "quality_by_popularity",
    "replaced_levels",
    "units",
    "users",
)


def check_folder(folder: str) -> None:
    """Refuse a place that cannot be a folder, before anything is computed.

    Raises:
        ValueError: it is a file, or lies in one.
    """
    path = Path(folder)
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{place} is a file, so nothing can be written into it.")


def write(inspection: Inspection, folder: str) -> list[str]:
    """Write ``report.html`` and the CSV files, replacing those of an older inspection.

    All are made elsewhere first: if one cannot be written, none is replaced.

    Returns:
        names of the files in the folder, the report first.
    """
    target = Path(folder).resolve()
    target.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=".inspect-", dir=target))
    try:
        page(inspection).write(str(hidden / "report.html"))
        for name, table in inspection.tables.items():
            table.to_csv(hidden / f"{name}.csv", index=False)
        names = ["report.html", *sorted(f"{name}.csv" for name in inspection.tables)]
        for name in names:
            os.replace(hidden / name, target / name)
        for name in TABLES:
            if name not in inspection.tables:
                (target / f"{name}.csv").unlink(missing_ok=True)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return names
