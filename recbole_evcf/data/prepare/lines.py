"""A raw text file as blocks of complete, numbered lines: the unit that all parsing works on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from recbole_evcf.data.prepare.source import RawFile

__all__ = ["BLOCK_BYTES", "Lines", "read_blocks"]

# Some 150,000 ratings: long enough for NumPy to be busy, short enough for the processor's cache.
BLOCK_BYTES = 4 * 2**20

NEWLINE = ord("\n")


@dataclass(frozen=True)
class Lines:
    """Some lines of a file, as positions in a block of its bytes.

    Attributes:
        file: Where the lines come from.
        data: The bytes of the block (uint8).
        starts: Position of each line's first byte.
        ends: Position behind each line's last byte, the newline not counted.
        numbers: Each line's number in the file, from 1.
    """

    file: RawFile
    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: np.ndarray | slice) -> Lines:
        """The lines that a mask or slice selects."""
        return replace(
            self, starts=self.starts[rows], ends=self.ends[rows], numbers=self.numbers[rows]
        )

    def slice_text(self, start: int, end: int) -> str:
        """The bytes between two positions as text for a message, cut after 80 bytes."""
        shown = self.data[start : min(end, start + 80)].tobytes()
        return shown.decode("utf-8", errors="backslashreplace")

    def error(self, row: int, problem: str) -> ValueError:
        """An error that names the file and the line of one row."""
        return ValueError(f"{self.file}, line {self.numbers[row]}: {problem}")


def read_blocks(file: RawFile, progress: tqdm) -> Iterator[Lines]:
    """Read a file block by block, each block ending with a complete line.

    Windows line ends count as line ends; the last line needs none.

    Args:
        file: What to read.
        progress: Moved on by the bytes read.

    Yields:
        The lines of one block; at least one.

    Raises:
        ValueError: The file is empty, cannot be read, or has a line longer than a block.
    """
    first_number = 1
    rest = b""
    with file.open() as stream:
        while block := stream.read(BLOCK_BYTES):
            progress.update(len(block))
            complete, newline, tail = block.rpartition(b"\n")
            if not newline:
                rest += block
                if len(rest) > BLOCK_BYTES:
                    raise ValueError(
                        f"{file}, line {first_number}: longer than {BLOCK_BYTES:,} bytes, "
                        "so this is no text file of interactions"
                    )
                continue
            lines = to_lines(file, rest + complete + newline, first_number)
            first_number += len(lines)
            rest = tail
            yield lines
    if rest:
        yield to_lines(file, rest + b"\n", first_number)
    elif first_number == 1:
        raise ValueError(f"{file}: the file is empty")


def to_lines(file: RawFile, block: bytes, first_number: int) -> Lines:
    """Find the lines of a block that ends with a newline."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    data = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(data == NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1))
    return Lines(file, data, starts, ends, np.arange(first_number, first_number + len(ends)))
