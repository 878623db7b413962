"""A report: sections of text, tables and plotly's figures, as an HTML page or in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment
from plotly.offline import get_plotlyjs

from recbole_evcf.report.table import Table, in_markdown
from recbole_evcf.utils.files import write_text

__all__ = ["COLOURS", "Report", "Section", "faceted", "figure_text", "styled"]

# Okabe and Ito's colours, which are safe for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
# No link to plotly's site, and never wider than the page.
FIGURE_CONFIG = {"displaylogo": False, "responsive": True}


@dataclass(frozen=True)
class Section:
    """A heading and its content.

    Args:
        title: of the section; empty for what follows the title of the report itself.
        parts: paragraphs of plain text, tables and figures, in order. Foreign text in a figure
            must have gone through :func:`figure_text`.
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
        """Write one self-contained page, atomically; the same content gives the same file."""
        parts = [part for section in self.sections for part in section.parts]
        figures = [part for part in parts if isinstance(part, go.Figure)]
        drawn = {
            # A fixed id: plotly would draw a random one.
            id(figure): figure.to_html(
                FIGURE_CONFIG, full_html=False, include_plotlyjs=False, div_id=f"figure-{n}"
            )
            for n, figure in enumerate(figures, 1)
        }
        template = files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.tests["table"] = lambda part: isinstance(part, Table)
        text = environment.from_string(template).render(
            report=self, drawn=drawn, id=id, zip=zip, script=get_plotlyjs() if figures else ""
        )
        write_text(path, text)

    def write_markdown(self, path: str) -> None:
        """Write the report without its figures, atomically."""
        blocks = [f"# {in_markdown(self.title)}"]
        for section in self.sections:
            if section.title:
                blocks.append(f"{'#' * section.level} {in_markdown(section.title)}")
            blocks += [
                part.markdown() if isinstance(part, Table) else in_markdown(part)
                for part in section.parts
                if isinstance(part, (Table, str))
            ]
        write_text(path, "\n\n".join(blocks) + "\n")


def figure_text(text: object) -> str:
    """Escape foreign text for plotly, which interprets tags and some entities, but no quotes."""
    return escape(str(text), quote=False)


def styled(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """Set the reports' style: white, with the legend in a line above.

    Args:
        figure: of plotly's; it is changed.
        height: in pixels.
        layout: what else plotly's ``update_layout`` is to set.
    """
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None}
    return figure.update_layout(
        **{"template": "plotly_white", "height": height, "legend": legend, **layout}
    )


def faceted(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """Title the panels of plotly.express by value: it writes ``metric=NDCG@10``."""
    figure.for_each_annotation(
        lambda title: title.update(text=figure_text(title.text.partition("=")[2]), font_size=15)
    )
    return styled(figure, height, **layout)
