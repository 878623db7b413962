"""Write columns of numbers and short texts as tab-separated rows, a block at a time.

A column is a matrix of bytes with one line per row, filled up with zero bytes; joining the columns
and leaving out the zero bytes gives the text. That takes a tenth of the time of a CSV writer.
"""

from __future__ import annotations

import numpy as np

__all__ = ["join_columns", "number_column", "text_column"]

ZERO = ord("0")


def number_column(numbers: np.ndarray) -> np.ndarray:
    """Write whole numbers in plain digits.

    Args:
        numbers: Numbers from 0 up (int64).

    Returns:
        A column of bytes.
    """
    width = len(str(numbers.max(initial=0)))
    column = np.zeros((len(numbers), width), dtype=np.uint8)
    rest = numbers
    for place in range(width - 1, -1, -1):
        shorter = rest // 10
        digit = (rest - 10 * shorter + ZERO).astype(np.uint8)
        if place < width - 1:
            digit[rest == 0] = 0
        column[:, place] = digit
        rest = shorter
    return column


def text_column(codes: np.ndarray, texts: list[str]) -> np.ndarray:
    """Write texts of which there are few distinct ones.

    Args:
        codes: Which text each row has.
        texts: The distinct texts, ASCII, without zero bytes.

    Returns:
        A column of bytes.
    """
    table = np.array(texts, dtype=np.bytes_)
    return table.view(np.uint8).reshape(len(texts), -1)[codes]


def join_columns(columns: list[np.ndarray]) -> bytes:
    """Join columns of equal length to rows, with tabs between and a newline behind.

    Args:
        columns: What `number_column` and `text_column` gave; at least one.

    Returns:
        The text of the rows.
    """
    tab = np.full((len(columns[0]), 1), ord("\t"), dtype=np.uint8)
    newline = np.full((len(columns[0]), 1), ord("\n"), dtype=np.uint8)
    parts = [part for column in columns for part in (tab, column)]
    table = np.concatenate([*parts[1:], newline], axis=1)
    return table[table != 0].tobytes()
