"""A report: sections of text, tables and plotly's figures, as an HTML page or in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import plotly.graph_objects as go
from jinja2 import Environment
from plotly.offline import get_plotlyjs

from recbole_evcf.report.table import Table, in_markdown
from recbole_evcf.utils.files import atomic_write

__all__ = ["Report", "Section"]

# No link to plotly's site, and never wider than the page.
FIGURE_CONFIG = {"displaylogo": False, "responsive": True}


@dataclass(frozen=True)
class Section:
    """A heading and its content.

    Args:
        title: of the section; empty for what follows the title of the report itself.
        parts: paragraphs of plain text, tables and figures, in order. Foreign text in a figure
            must have gone through :func:`~recbole_evcf.report.figures.figure_text`.
        level: of the heading, 2 or 3.
    """

    title: str
    parts: Sequence[str | Table | go.Figure]
    level: int = 2


@dataclass(frozen=True)
class Report:
    """A title and sections; no text in them is read as HTML or Markdown."""

    title: str
    sections: Sequence[Section]

    def write_html(self, path: str) -> None:
        """Write one self-contained page, atomically; it needs no network.

        The same content gives the same file.
        """
        parts = [part for section in self.sections for part in section.parts]
        figures = [part for part in parts if isinstance(part, go.Figure)]
        template = files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.tests["table"] = lambda part: isinstance(part, Table)
        drawn = {id(figure): _html(figure, n) for n, figure in enumerate(figures, 1)}
        text = environment.from_string(template).render(
            report=self, drawn=drawn, id=id, script=get_plotlyjs() if figures else ""
        )
        _write(path, text)

    def write_markdown(self, path: str) -> None:
        """Write the report without its figures, atomically."""
        parts = [f"# {in_markdown(self.title)}"]
        for section in self.sections:
            if section.title:
                parts.append(f"{'#' * section.level} {in_markdown(section.title)}")
            for part in section.parts:
                if isinstance(part, Table):
                    parts.append(part.markdown())
                elif isinstance(part, str):
                    parts.append(in_markdown(part))
        _write(path, "\n\n".join(parts) + "\n")


def _html(figure: go.Figure, n: int) -> str:
    # A fixed id: plotly would draw a random one.
    return figure.to_html(
        full_html=False, include_plotlyjs=False, config=FIGURE_CONFIG, div_id=f"figure-{n}"
    )


def _write(path: str, text: str) -> None:
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
