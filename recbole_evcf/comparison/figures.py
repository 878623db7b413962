"""The figures of a comparison, drawn with plotly."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from recbole_evcf.comparison.outcome import ModelOutcome, Outcome
from recbole_evcf.report.figures import faceted, figure_text, one_colour_each

__all__ = ["learning_curves", "metric_bars"]

COLUMNS = 3
# Longer labels are broken into lines of so many letters.
LABEL_WIDTH = 30
# Keys of a curve's rows for our models, and what they are called.
TERMS = {"reconstruction": "Reconstruction", "kl": "KL term", "kl_weight": "KL weight"}
MARGIN = {"l": 20, "r": 20, "t": 70, "b": 30}


def metric_bars(outcome: Outcome) -> go.Figure:
    """A chart for each metric: a bar for each model with its standard error."""
    bars = [
        (_label(model), name, model.test[key], model.standard_error.get(key))
        for key, name in outcome.metrics.items()
        for model in outcome.finished
        if key in model.test
    ]
    rows = -(-len(outcome.metrics) // COLUMNS)
    figure = px.bar(
        pd.DataFrame(bars, columns=["model", "metric", "value", "error"]),
        x="value",
        y="model",
        error_x="error",
        facet_col="metric",
        facet_col_wrap=min(COLUMNS, len(outcome.metrics)),
        facet_col_spacing=0.03,
        facet_row_spacing=0.3 / max(rows, 2),
        **_coloured(outcome),
    )
    error = {"color": "#333", "thickness": 1.2}
    figure.update_traces(hovertemplate="%{y}: %{x:.4f}<extra></extra>", error_x=error)
    figure.update_xaxes(matches=None, showticklabels=True, rangemode="tozero", nticks=5, title="")
    figure.update_yaxes(automargin=True, title="")
    height = 60 + rows * (80 + 26 * len(outcome.finished))
    return faceted(figure, height, margin=MARGIN, showlegend=False)


def learning_curves(outcome: Outcome) -> go.Figure:
    """Validation metric, reconstruction, KL term and KL weight by epoch, a line for each seed."""
    valid = outcome.metrics.get(outcome.plan.valid_metric, outcome.plan.valid_metric)
    points = [
        # Counted from 1, as people count epochs; RecBole's log counts from 0.
        (_label(model), seed, row["epoch"] + 1, name, row[key])
        for key, name in {"valid_score": f"Validation {valid}", **TERMS}.items()
        for model in outcome.finished
        for seed, result in model.results.items()
        for row in result["curve"]
        if key in row
    ]
    figure = px.line(
        pd.DataFrame(points, columns=["model", "seed", "epoch", "term", "value"]),
        x="epoch",
        y="value",
        line_group="seed",
        facet_col="term",
        facet_col_wrap=2,
        facet_col_spacing=0.08,
        facet_row_spacing=0.14,
        hover_data={"seed": True, "value": ":.4f", "term": False},
        **_coloured(outcome),
    )
    for line in figure.data:
        line.update(mode="lines" if len(line.x) > 1 else "markers", line_width=1.6)
    figure.update_yaxes(matches=None, showticklabels=True, title="")
    figure.update_xaxes(showticklabels=True)
    legend = {"orientation": "h", "y": -0.1, "yanchor": "top", "title": None}
    return faceted(figure, 720, margin=MARGIN, legend=legend)


def _label(model: ModelOutcome) -> str:
    lines = wrap(model.label, LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(map(figure_text, lines))


def _coloured(outcome: Outcome) -> dict[str, Any]:
    colours = one_colour_each([_label(model) for model in outcome.models])
    return {"color": "model", "color_discrete_map": colours}
