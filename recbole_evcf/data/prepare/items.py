"""Write the titles of items as an atomic file that RecBole reads back unchanged."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from recbole_evcf.data.prepare.lines import Lines
from recbole_evcf.data.prepare.output import durable_file

__all__ = ["clean_title", "decode_lines", "write_items"]

ITEM_ID = re.compile(r"0|[1-9][0-9]{0,17}")


def clean_title(title: str) -> str:
    """Turn tabs and other control characters into spaces, and several spaces into one.

    RecBole splits a title into words at single spaces, and a row at tabs.
    """
    return " ".join("".join(" " if is_control(c) else c for c in title).split())


def is_control(character: str) -> bool:
    """Whether a character is a control character, such as a tab."""
    return unicodedata.category(character) == "Cc"


def decode_lines(blocks: Iterable[Lines], encoding: str) -> Iterator[tuple[Lines, int, str]]:
    """Give the text of each line, with the block and the row it stands in for error messages.

    Raises:
        ValueError: A line is not text in this encoding; names file and line.
    """
    for lines in blocks:
        for row, (start, end) in enumerate(zip(lines.starts, lines.ends)):
            try:
                text = lines.data[start:end].tobytes().decode(encoding)
            except UnicodeDecodeError as error:
                raise lines.error(row, f"is not {encoding} text ({error.reason})") from error
            yield lines, row, text


def write_items(
    path: Path, header: tuple[str, ...], items: Iterable[tuple[Lines, int, tuple[str, ...]]]
) -> None:
    """Write an atomic file of items.

    Args:
        path: The file to write.
        header: The columns with their types, the item's id first.
        items: For each item the block and row it was read from, and its fields.

    Raises:
        ValueError: An id is no whole number or occurs twice; names file and line.
    """
    seen = set()
    with durable_file(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        for lines, row, fields in items:
            if not ITEM_ID.fullmatch(fields[0]):
                raise lines.error(row, f"{fields[0]!r} is not an id, which is a whole number")
            if fields[0] in seen:
                raise lines.error(row, f"the id {fields[0]} occurs a second time")
            seen.add(fields[0])
            writer.writerow(fields)
        text.detach()
