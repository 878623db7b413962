"""Split lines at their commas and read the parts as ids, ratings and dates, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recbole_evcf.data.prepare.lines import Lines

__all__ = ["Field", "distinct_values", "split_fields", "whole_numbers"]

COMMA = ord(",")
ZERO = ord("0")
# All numbers of up to this many digits fit into 64 bits.
MAX_DIGITS = 18
BYTES_PER_KEY = 8


@dataclass(frozen=True)
class Field:
    """One field of each of some lines.

    Attributes:
        name: What the file calls the field, for messages.
        lines: The lines.
        starts: Position of the field's first byte in each line.
        ends: Position behind its last byte.
    """

    name: str
    lines: Lines
    starts: np.ndarray
    ends: np.ndarray

    def text(self, row: int) -> str:
        """The field of one line, as text for a message."""
        return self.lines.slice_text(self.starts[row], self.ends[row])

    def refuse(self, bad: np.ndarray, wanted: str) -> None:
        """Raise an error for the first row that `bad` marks, if there is one.

        Args:
            bad: Which rows are wrong.
            wanted: What belongs there, such as `a whole number`.

        Raises:
            ValueError: Names file, line, field and what stands there.
        """
        if not bad.any():
            return
        row = int(np.argmax(bad))
        found = (
            f"{self.text(row)!r} is" if self.ends[row] > self.starts[row] else "an empty field is"
        )
        raise self.lines.error(row, f"{found} not {wanted} (column {self.name})")


def split_fields(lines: Lines, names: tuple[str, ...]) -> list[Field]:
    """Split lines into as many comma-separated fields as there are names.

    Args:
        lines: The lines to split.
        names: What the fields are called.

    Returns:
        The fields, in the order of the names.

    Raises:
        ValueError: Some line has another number of fields; names file and line.
    """
    commas = np.flatnonzero(lines.data == COMMA)
    first = np.searchsorted(commas, lines.starts)
    count = np.searchsorted(commas, lines.ends) - first
    wrong = count != len(names) - 1
    if wrong.any():
        row = int(np.argmax(wrong))
        text = lines.slice_text(lines.starts[row], lines.ends[row])
        expected = f"{len(names)} fields ({','.join(names)})"
        raise lines.error(row, f"expected {expected}, found {count[row] + 1}: {text!r}")
    inner = [commas[first + k] for k in range(len(names) - 1)]
    starts = [lines.starts, *(comma + 1 for comma in inner)]
    return [
        Field(name, lines, start, end)
        for name, start, end in zip(names, starts, [*inner, lines.ends])
    ]


def whole_numbers(field: Field) -> np.ndarray:
    """Read a field as whole numbers from 0 up, in plain digits.

    A number has one spelling only: no sign, no spaces, no leading zeros. So two tokens are the
    same exactly if the numbers are, and a number written back gives the token that was read.

    Args:
        field: What to read.

    Returns:
        The numbers (int64).

    Raises:
        ValueError: Something else stands there; names file and line.
    """
    data, length = field.lines.data, field.ends - field.starts
    bad = (length < 1) | (length > MAX_DIGITS)
    bad |= (length > 1) & (data[field.starts] == ZERO)
    numbers = np.zeros(len(length), dtype=np.int64)
    widest = min(int(length.max(initial=0)), MAX_DIGITS)
    for place in range(widest):
        # Where a number is shorter, its place is read at its start instead and then left out.
        digit = data[np.maximum(field.ends - 1 - place, field.starts)] - np.uint8(ZERO)
        digit[length <= place] = 0
        bad |= digit > 9
        numbers += digit.astype(np.int64) * 10**place
    field.refuse(bad, f"a whole number without leading zeros, of at most {MAX_DIGITS} digits")
    return numbers


def distinct_values(
    field: Field, parse: Callable[[str], float | None], max_length: int, wanted: str
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Read a field that has few distinct values, parsing each distinct value only once.

    Args:
        field: What to read.
        parse: Gives the number that a text stands for, or None if it stands for none.
        max_length: A longer text is wrong, in bytes.
        wanted: What belongs there, for the message.

    Returns:
        For each line which of the distinct values it has; the distinct values as text; and as
        numbers.

    Raises:
        ValueError: `parse` accepts some value not; names file and line.
    """
    length = field.ends - field.starts
    field.refuse((length < 1) | (length > max_length), wanted)
    codes, first_rows = group_equal_texts(field, length, max_length)
    texts = [field.text(row) for row in first_rows]
    values = [parse(text) for text in texts]
    field.refuse(np.array([value is None for value in values], dtype=bool)[codes], wanted)
    return codes, texts, np.array(values)


def group_equal_texts(
    field: Field, length: np.ndarray, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct texts of a field by their first occurrence; give those rows as well."""
    # The length tells a short text from one that ends in zero bytes.
    codes = length
    for begin in range(0, max_length, BYTES_PER_KEY):
        key = np.zeros(len(length), dtype=np.uint64)
        for place in range(begin, min(begin + BYTES_PER_KEY, max_length)):
            byte = field.lines.data[np.minimum(field.starts + place, field.ends)]
            byte[length <= place] = 0
            key = key << np.uint64(8) | byte
        part, _ = pd.factorize(key)
        codes, _ = pd.factorize(codes * (part.max(initial=0) + 1) + part)
    first_rows = np.flatnonzero(codes > np.maximum.accumulate(np.concatenate(([-1], codes[:-1]))))
    return codes, first_rows
