"""The rows as a table for the terminal, and as a markdown file with what they were measured on."""

from __future__ import annotations

import datetime
import math
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

from tabulate import tabulate

from rows import Row

HEADER = ["what", "against", "ours", "theirs", "ratio", "at least", "memory", "theirs", "share"]
HEADER += ["at most", "met"]
# What the columns after the first two take.
NUMBERS_WIDTH = 110


def terminal(rows: list[Row]) -> str:
    """A table that fits a wide terminal; notes follow it."""
    width = max(shutil.get_terminal_size((170, 40)).columns, 110)
    text = max((width - NUMBERS_WIDTH) // 2, 18)
    cells = [_cells(row, _mark(rows, number)) for number, row in enumerate(rows)]
    options = {"tablefmt": "grid", "disable_numparse": True, "maxcolwidths": [text, text]}
    align = ["left", "left", *["right"] * 8, "center"]
    return "\n".join([tabulate(cells, HEADER, colalign=align, **options), *_notes(rows)])


def markdown(rows: list[Row], title: str, lines: list[str]) -> str:
    """A page with the table under what it was measured on.

    Args:
        rows: of the table.
        title: its heading.
        lines: what it was measured on, one bullet each.
    """
    text = [f"# {title}", "", *(f"- {line}" for line in lines), ""]
    text += [_line(HEADER), _line(["---", "---", *["---:"] * 8, "---"])]
    text += [_line(_cells(row, _mark(rows, number))) for number, row in enumerate(rows)]
    notes = _notes(rows)
    return "\n".join([*text, "", *(f"{note}  " for note in notes)]).rstrip() + "\n"


def circumstances() -> list[str]:
    """Machine, threads, versions and date."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "recbole", "numpy", "pandas")
    )
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return [
        f"{_processor()}, {os.cpu_count()} cores (threads: {threads}), {memory:.0f} GB of memory",
        f"Python {platform.python_version()}, {versions}",
        f"{datetime.date.today():%Y-%m-%d}",
    ]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip()
        for line in (path.read_text(encoding="utf-8").splitlines() if path.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


def _cells(row: Row, mark: str) -> list[str]:
    return [
        row.what + mark,
        row.against,
        row.ours,
        row.theirs,
        "" if math.isnan(row.ratio) else f"{row.ratio:.1f}x",
        "" if row.at_least is None else f"{row.at_least:g}x",
        _gigabytes(row.memory_ours),
        _gigabytes(row.memory_theirs),
        "" if math.isnan(row.memory_share) else f"{row.memory_share:.2f}",
        "" if row.memory_at_most is None else f"{row.memory_at_most:.2g}",
        {True: "yes", False: "no", None: ""}[row.met],
    ]


def _gigabytes(value: float) -> str:
    return "" if math.isnan(value) else f"{value / 1e9:.2f} GB"


def _mark(rows: list[Row], number: int) -> str:
    noted = [index for index, row in enumerate(rows) if row.note]
    return f" [{noted.index(number) + 1}]" if rows[number].note else ""


def _notes(rows: list[Row]) -> list[str]:
    notes = [row.note for row in rows if row.note]
    return [f"[{number}] {note}" for number, note in enumerate(notes, 1)]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
