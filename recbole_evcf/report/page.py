"""A report: sections of text, tables and plotly's figures, as an HTML page or in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import count
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment
from plotly.offline import get_plotlyjs

from recbole_evcf.report.table import Table, in_markdown
from recbole_evcf.utils.files import write_text

# Okabe and Ito's colours, which are safe for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
# No link to plotly's site, and never wider than the page.
FIGURE_CONFIG = {"displaylogo": False, "responsive": True}


@dataclass(frozen=True)
class Section:
    """A heading of level 2 or 3, or none, and its content: paragraphs of plain text, tables, and
    figures, in which foreign text must have gone through :func:`figure_text`."""

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
        numbers, has_figures = count(1), any(map(_has_figure, self.sections))

        def draw(figure: go.Figure) -> str:
            # plotly itself would draw a random id.
            name = f"figure-{next(numbers)}"
            return figure.to_html(
                FIGURE_CONFIG, div_id=name, full_html=False, include_plotlyjs=False
            )

        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.tests["table"] = lambda part: isinstance(part, Table)
        template = files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
        script = get_plotlyjs() if has_figures else ""
        page = environment.from_string(template)
        write_text(path, page.render(report=self, draw=draw, zip=zip, script=script))

    def write_markdown(self, path: str) -> None:
        """Write the sections without figures, atomically."""
        blocks = [f"# {in_markdown(self.title)}"]
        for section in self.sections:
            if not _has_figure(section):
                blocks.append(f"{'#' * section.level} {in_markdown(section.title)}")
                for part in section.parts:
                    blocks.append(part.markdown() if isinstance(part, Table) else in_markdown(part))
        write_text(path, "\n\n".join(blocks) + "\n")


def _has_figure(section: Section) -> bool:
    return any(isinstance(part, go.Figure) for part in section.parts)


def figure_text(text: object) -> str:
    """Escape foreign text for plotly, which interprets tags and some entities, but no quotes."""
    return escape(str(text), quote=False)


def styled(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """Set the reports' style: white, the legend in a line above, a height in pixels.

    ``layout`` is what else plotly's ``update_layout`` is to set. The figure is changed.
    """
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None}
    look = {"template": "plotly_white", "height": height, "legend": legend}
    return figure.update_layout(**{**look, **layout})


def faceted(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """Title the panels of plotly.express by value: it writes ``metric=NDCG@10``."""
    figure.for_each_annotation(
        lambda title: title.update(text=figure_text(title.text.partition("=")[2]), font_size=15)
    )
    return styled(figure, height, **layout)
