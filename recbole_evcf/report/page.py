"""One self-contained HTML page: text, tables and plotly's figures; whatever is given is escaped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

import plotly.graph_objects
from plotly.offline import get_plotlyjs

from recbole_evcf.utils.files import atomic_write

__all__ = ["Bold", "Page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 84rem; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.75rem; border-bottom: 1px solid #ddd; }
.words { text-align: left; min-width: 9rem; }
.number { text-align: right; white-space: nowrap; }
thead th { border-bottom: 2px solid #222; }
.wide { overflow-x: auto; }
.figure { margin: 1.5rem 0; }
p { max-width: 48rem; }
"""

# Without a link to plotly's site, and never wider than the page.
FIGURE_CONFIG = {"displaylogo": False, "responsive": True}


class Bold(str):
    """The text of a table's cell that stands out."""


class Page:
    """A page that grows from top to bottom.

    No text given to it is read as HTML, and the file asks nothing of the network: plotly's
    script stands in it.

    Args:
        title: of the page and its first heading.
    """

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str] = []
        self._figures = 0

    def heading(self, text: str, level: int = 2) -> None:
        """A heading of level 2 or 3."""
        self._parts.append(f"<h{level}>{escape(text)}</h{level}>")

    def paragraph(self, text: str) -> None:
        """A paragraph of plain text."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[object]], words: Collection[int] = (0,)
    ) -> None:
        """A table; :class:`Bold` cells are bold.

        Args:
            header: names of the columns.
            rows: cells; each becomes the text ``str`` makes of it.
            words: positions of the columns that start at the left, the others end at the right.
        """
        head = _row(header, "th", words)
        body = "\n".join(_row(row, "td", words) for row in rows)
        self._parts.append(
            f'<div class="wide"><table>\n<thead>{head}</thead>\n'
            f"<tbody>\n{body}\n</tbody>\n</table></div>"
        )

    def figure(self, figure: plotly.graph_objects.Figure) -> None:
        """A figure of plotly's; foreign text in it must have gone through ``drawn_text``."""
        self._figures += 1
        # A fixed name: the same content gives the same file.
        drawn = figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            config=FIGURE_CONFIG,
            div_id=f"figure-{self._figures}",
        )
        self._parts.append(f'<div class="figure">{drawn}</div>')

    def write(self, path: str) -> None:
        """Write the page under its name, whole or not at all."""
        script = f"<script>{get_plotlyjs()}</script>" if self._figures else ""
        title = escape(self.title)
        text = (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n'
            f"<style>{STYLE}</style>\n{script}\n</head>\n<body>\n<h1>{title}</h1>\n"
            + "\n".join(self._parts)
            + "\n</body>\n</html>\n"
        )
        with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(text)


def _row(cells: Sequence[object], tag: str, words: Collection[int]) -> str:
    inner = "".join(_cell(cell, tag, left=i in words) for i, cell in enumerate(cells))
    return f"<tr>{inner}</tr>"


def _cell(value: object, tag: str, left: bool) -> str:
    text = escape(str(value))
    if isinstance(value, Bold):
        text = f"<b>{text}</b>"
    align = "words" if left else "number"
    return f'<{tag} class="{align}">{text}</{tag}>'
