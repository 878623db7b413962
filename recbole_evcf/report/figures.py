"""The style of the reports' figures, and the text in them."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

__all__ = ["COLOURS", "figure_text", "one_colour_each", "styled"]

# Okabe and Ito's colours, which are safe for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")


def figure_text(text: object) -> str:
    """Escape foreign text for plotly, which interprets tags and some entities, but no quotes."""
    return escape(str(text), quote=False)


def one_colour_each(names: list[str]) -> dict[str, str]:
    """Assign a colour to each name in order, repeating them if there are more names."""
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


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
