"""Read columns by name from a CSV file with a header and plain (unquoted) fields."""

from __future__ import annotations

from collections.abc import Iterator

from tqdm import tqdm

from recbole_evcf.data.prepare.fields import Field, split_fields
from recbole_evcf.data.prepare.lines import Lines, read_blocks
from recbole_evcf.data.prepare.source import RawFile

__all__ = ["read_table"]


def read_table(file: RawFile, columns: tuple[str, ...], progress: tqdm) -> Iterator[list[Field]]:
    """Read some columns of a file, block by block.

    The columns may stand in any order, and others beside them are passed over.

    Args:
        file: What to read.
        columns: The columns wanted.
        progress: Moved on by the bytes read.

    Yields:
        The wanted columns of some rows, in the order asked for.

    Raises:
        ValueError: The file has no such columns, no rows, or a row of another number of fields;
            names file and line.
    """
    header: tuple[str, ...] = ()
    rows = 0
    for lines in read_blocks(file, progress):
        if not header:
            header = read_header(lines, columns)
            lines = lines.take(slice(1, None))
        if len(lines):
            rows += len(lines)
            fields = split_fields(lines, header)
            yield [fields[header.index(column)] for column in columns]
    if not rows:
        raise ValueError(f"{file}, line 2: there are no rows below the header")


def read_header(lines: Lines, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The column names in the first line, which must hold the wanted ones, each once."""
    raw = lines.data[lines.starts[0] : lines.ends[0]].tobytes()
    header = tuple(raw.decode("utf-8", errors="backslashreplace").split(","))
    for column in columns:
        if header.count(column) != 1:
            how = "missing from" if column not in header else "repeated in"
            shown = lines.slice_text(lines.starts[0], lines.ends[0])
            raise lines.error(0, f"the column {column} is {how} the header {shown!r}")
    return header
