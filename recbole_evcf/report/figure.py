"""How the figures of reports look."""

from __future__ import annotations

from html import escape

import plotly.graph_objects as go

__all__ = ["drawn_text", "styled"]


def drawn_text(text: object) -> str:
    """Foreign text for a figure, in which plotly reads tags and some entities, quotes not."""
    return escape(str(text), quote=False)


def styled(figure: go.Figure, height: int, **layout) -> go.Figure:
    """The figure in the reports' style: white, its legend in a line above.

    Args:
        figure: of plotly's; it is changed.
        height: in pixels.
        layout: what else plotly's ``update_layout`` is to set.
    """
    return figure.update_layout(
        template="plotly_white",
        height=height,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **layout,
    )
