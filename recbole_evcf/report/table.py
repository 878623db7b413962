"""A tidy frame as a table for the terminal, Markdown and LaTeX, and as cells for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate

from recbole_evcf.evaluator.metrics import SE_SUFFIX
from recbole_evcf.report.values import MISSING, value_and_error
from recbole_evcf.utils.text import printable

__all__ = ["Cell", "Column", "Table", "in_markdown", "validation_and_test"]


class Cell(NamedTuple):
    """The content of a cell, and whether it is emphasised."""

    text: str
    bold: bool = False


class Column(NamedTuple):
    """A column: its heading, its cells, and whether they are words, which are left-aligned."""

    heading: str
    cells: list[Cell]
    words: bool


@dataclass(frozen=True)
class Table:
    """A frame, and how its columns are shown.

    Args:
        frame: a row for each row. A column ``x_se`` is shown after ``x``, as ``x ± x_se``.
        names: headings of the columns that are not shown under their own names.
        formats: by column, the ``spec`` of :func:`~recbole_evcf.report.values.number`.
        bold: True where a cell is emphasised; rows as the frame's, columns any of them.

    Example:
        >>> frame = pd.DataFrame({"model": ["Vamp"], "ndcg@10": [0.25], "ndcg@10_se": [0.0125]})
        >>> print(Table(frame, names={"ndcg@10": "NDCG@10"}).text())
        model            NDCG@10
        -------  ---------------
        Vamp     0.2500 ± 0.0125
    """

    frame: pd.DataFrame
    names: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    bold: pd.DataFrame | None = None

    def columns(self) -> list[Column]:
        """Return the columns as shown."""
        errors = {f"{name}{SE_SUFFIX}" for name in self.frame}
        return [self._column(name) for name in self.frame if name not in errors]

    def rows(self) -> list[tuple[Cell, ...]]:
        """Return the cells row by row."""
        return list(zip(*(column.cells for column in self.columns())))

    def text(self, width: int | None = None) -> str:
        """Format the table for a terminal, in blocks of as many columns as fit the width.

        Emphasised cells begin with an asterisk. Terminal control characters are escaped.
        """
        first, *others = (
            column._replace(
                heading=printable(column.heading),
                cells=[Cell("*" * bold + printable(text)) for text, bold in column.cells],
            )
            for column in self.columns()
        )
        blocks = [[first]]
        for column in others:
            is_full = width and _broadest(_drawn([*blocks[-1], column], "simple")) > width
            if is_full and len(blocks[-1]) > 1:
                blocks.append([first])
            blocks[-1].append(column)
        return "\n\n".join(_drawn(block, "simple") for block in blocks)

    def markdown(self) -> str:
        """Format the table in Markdown, with every cell plain text."""
        columns = [
            column._replace(
                heading=in_markdown(column.heading),
                cells=[
                    Cell(f"**{in_markdown(text)}**" if bold else in_markdown(text))
                    for text, bold in column.cells
                ],
            )
            for column in self.columns()
        ]
        return _drawn(columns, "pipe")

    def latex(self, caption: str, label: str) -> str:
        """Format the table in LaTeX; it needs the package ``booktabs``."""
        columns = self.columns()
        cells = [[_cell_in_latex(c, column.words) for c in column.cells] for column in columns]
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_in_latex(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{''.join('l' if c.words else 'r' for c in columns)}}}",
            r"\toprule",
            " & ".join(_in_latex(column.heading) for column in columns) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in zip(*cells)),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def _column(self, name: str) -> Column:
        values = list(self.frame[name])
        none = [None] * len(values)
        errors = self.frame.get(f"{name}{SE_SUFFIX}", none)
        marks = none if self.bold is None else self.bold.get(name, none)
        spec = self.formats.get(name, ".4f")
        cells = [
            Cell(value_and_error(value, error, spec), bool(mark))
            for value, error, mark in zip(values, errors, marks)
        ]
        is_number = [isinstance(value, Real) and not isinstance(value, bool) for value in values]
        return Column(self.names.get(name, name), cells, words=not any(is_number))


def validation_and_test(valid: Mapping[str, float], test: Mapping[str, float]) -> Table:
    """Return a row per metric of a run: its values on the validation and on the test users."""
    names = [name for name in test or valid if not name.endswith(SE_SUFFIX)]
    columns: dict[str, list] = {"metric": names}
    for title, result in (("validation", valid), ("test", test)):
        columns[title] = [result.get(name) for name in names]
        columns[title + SE_SUFFIX] = [result.get(name + SE_SUFFIX) for name in names]
    return Table(pd.DataFrame(columns))


def in_markdown(text: str) -> str:
    """Escape a string for Markdown, so that it ends no cell and begins no tag, link or emphasis."""
    text = printable(text)
    for letter in "\\`*_[]|<>&":
        text = text.replace(letter, f"\\{letter}")
    return text


def _drawn(columns: list[Column], style: str) -> str:
    return tabulate(
        list(zip(*([cell.text for cell in column.cells] for column in columns))),
        [column.heading for column in columns],
        tablefmt=style,
        disable_numparse=True,
        colalign=["left" if column.words else "right" for column in columns],
    )


def _broadest(text: str) -> int:
    return max(map(len, text.splitlines()))


def _cell_in_latex(cell: Cell, words: bool) -> str:
    if words or cell.text == MISSING:
        text = _in_latex(cell.text)
        return rf"\textbf{{{text}}}" if cell.bold else text
    value, _, error = (_in_latex(part) for part in cell.text.partition(" ± "))
    value = rf"\mathbf{{{value}}}" if cell.bold else value
    return rf"${value} \pm {error}$" if error else f"${value}$"


def _in_latex(text: str) -> str:
    special: dict[str, str | int | None] = {
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "~": r"\textasciitilde{}",
        "–": "--",
    }
    special.update({letter: rf"\{letter}" for letter in "&%$#_{}"}, **{"^": r"\textasciicircum{}"})
    return text.translate(str.maketrans(special))
