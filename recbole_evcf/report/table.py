"""Values with their errors, and tidy frames as tables: terminal, Markdown, LaTeX, pages."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate

from recbole_evcf.evaluator.metrics import SE_SUFFIX
from recbole_evcf.utils.text import printable

MISSING = "–"
# Smaller p-values are all shown alike.
LEAST_P = 0.0001
LATEX = str.maketrans(
    {
        **{letter: rf"\{letter}" for letter in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
        **{"±": r"$\pm$", "–": "--"},
    }
)


def number(value: object, spec: str = ".4f") -> str:
    """Format a value as tables show it.

    Args:
        value: a missing one (None or NaN) is a dash, and what is no number is shown as it is.
        spec: format of a real number, or ``p`` for a p-value. Integers have commas between the
            thousands, unless the format is ``d``.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        return MISSING if value is None or value is pd.NA else str(value)
    if math.isnan(value):
        return MISSING
    if spec == "p":
        # A non-breaking space.
        return f"<\u00a0{LEAST_P}" if value < LEAST_P else f"{value:.4f}"
    return format(value, "," if isinstance(value, Integral) and spec != "d" else spec)


def value_and_error(value: object, error: float | None, spec: str = ".4f") -> str:
    """Format a mean and its standard error, if it is known: ``0.4123 ± 0.0045``.

    A sign in the ``spec`` (see :func:`number`) is the value's alone.
    """
    text = number(value, spec)
    if text == MISSING or error is None or math.isnan(error):
        return text
    return f"{text} ± {number(error, spec.lstrip('+'))}"


def duration(seconds: float) -> str:
    """Format a time in seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def setting(value: object) -> str:
    """Format a parameter's value: four digits of a real number, all of an integer."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Column(NamedTuple):
    """A column as shown."""

    heading: str
    # Each with whether it is emphasised.
    cells: list[tuple[str, bool]]
    # Words are left-aligned.
    words: bool


@dataclass(frozen=True)
class Table:
    """A frame, and how its columns are shown.

    Args:
        frame: a row for each row. A column ``x_se`` is shown after ``x``, as ``x ± x_se``.
        names: headings of the columns that are not shown under their own names.
        formats: by column, the ``spec`` of :func:`number`.
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
        frame, marks = self.frame, pd.DataFrame() if self.bold is None else self.bold
        none, columns = [None] * len(frame), []
        for name in frame.columns.difference([f"{n}{SE_SUFFIX}" for n in frame], sort=False):
            values, spec = list(frame[name]), self.formats.get(name, ".4f")
            errors = frame.get(f"{name}{SE_SUFFIX}", none)
            cells = [value_and_error(*pair, spec) for pair in zip(values, errors)]
            is_number = [isinstance(v, Real) and not isinstance(v, bool) for v in values]
            bold = map(bool, marks.get(name, none))
            heading = self.names.get(name, name)
            columns.append(Column(heading, list(zip(cells, bold)), words=not any(is_number)))
        return columns

    def text(self, width: int | None = None) -> str:
        """Format the table for a terminal, in blocks of as many columns as fit the width.

        Emphasised cells begin with an asterisk. Terminal control characters are escaped.
        """
        first, *others = self.columns()
        blocks = [[first]]
        for column in others:
            lines = _drawn([*blocks[-1], column], "simple", printable, "*{}").splitlines()
            if width and len(blocks[-1]) > 1 and max(map(len, lines)) > width:
                blocks.append([first])
            blocks[-1].append(column)
        return "\n\n".join(_drawn(block, "simple", printable, "*{}") for block in blocks)

    def markdown(self) -> str:
        """Format the table in Markdown, with every cell plain text."""
        return _drawn(self.columns(), "pipe", in_markdown, "**{}**")

    def latex(self, caption: str, label: str) -> str:
        """Format the table in LaTeX; it needs the package ``booktabs``."""
        columns = self.columns()
        rows = zip(
            *([_cell_in_latex(*cell, column.words) for cell in column.cells] for column in columns)
        )
        frame = pd.DataFrame(rows, columns=[_in_latex(column.heading) for column in columns])
        text = frame.style.hide(axis="index").to_latex(
            caption=_in_latex(caption),
            label=label,
            column_format="".join("l" if column.words else "r" for column in columns),
            hrules=True,
            position="t",
            position_float="centering",
        )
        return "% needs \\usepackage{booktabs}\n" + text


def validation_and_test(valid: Mapping[str, float], test: Mapping[str, float]) -> Table:
    """Return a row per metric of a run: its values on the validation and on the test users."""
    names = [name for name in test or valid if not name.endswith(SE_SUFFIX)]
    columns = {
        f"{title}{suffix}": [result.get(name + suffix) for name in names]
        for title, result in (("validation", valid), ("test", test))
        for suffix in ("", SE_SUFFIX)
    }
    return Table(pd.DataFrame({"metric": names, **columns}))


def in_markdown(text: str) -> str:
    """Escape a string for Markdown, so that it ends no cell and begins no tag, link or emphasis."""
    return printable(text).translate({ord(letter): f"\\{letter}" for letter in "\\`*_[]|<>&"})


def _drawn(columns: list[Column], style: str, escaped: Callable[[str], str], bold: str) -> str:
    cells = [
        [bold.format(escaped(text)) if mark else escaped(text) for text, mark in column.cells]
        for column in columns
    ]
    return tabulate(
        list(zip(*cells)),
        [escaped(column.heading) for column in columns],
        tablefmt=style,
        disable_numparse=True,
        colalign=["left" if column.words else "right" for column in columns],
    )


def _cell_in_latex(text: str, bold: bool, words: bool) -> str:
    if words or text == MISSING:
        return rf"\textbf{{{_in_latex(text)}}}" if bold else _in_latex(text)
    value, _, error = (_in_latex(part) for part in text.partition(" ± "))
    value = rf"\mathbf{{{value}}}" if bold else value
    return rf"${value} \pm {error}$" if error else f"${value}$"


def _in_latex(text: str) -> str:
    return text.translate(LATEX)
