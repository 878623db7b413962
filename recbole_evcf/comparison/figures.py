"""The figures of a comparison, drawn with plotly."""

from __future__ import annotations

from textwrap import wrap

import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from recbole_evcf.comparison.outcome import ModelOutcome, Outcome
from recbole_evcf.report.figure import drawn_text

__all__ = ["learning_curves", "metric_bars"]

COLUMNS = 3
# Longer labels are broken into lines of so many letters.
LABEL_WIDTH = 30
COLOURS = qualitative.D3
# Keys of a curve's rows for our models, and what they are called.
TERMS = {"reconstruction": "Reconstruction", "kl": "KL term", "kl_weight": "KL weight"}


def metric_bars(outcome: Outcome) -> go.Figure:
    """A chart for each metric: a bar for each model with its standard error."""
    names = list(outcome.metrics.values())
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[drawn_text(name) for name in names],
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.3 / max(rows, 2),
    )
    for place, metric in enumerate(outcome.metrics):
        models = [model for model in outcome.finished if metric in model.test]
        bars = go.Bar(
            x=[model.test[metric] for model in models],
            y=[_label(model) for model in models],
            error_x={
                "type": "data",
                "array": [model.standard_error.get(metric) for model in models],
                "color": "#333",
                "thickness": 1.2,
            },
            marker={"color": [_colour(model, outcome) for model in models]},
            orientation="h",
            showlegend=False,
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
        figure.add_trace(bars, place // columns + 1, place % columns + 1)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(rangemode="tozero", nticks=5)
    figure.update_layout(
        height=60 + rows * (80 + 26 * len(outcome.finished)),
        margin={"l": 20, "r": 20, "t": 70, "b": 30},
        template="plotly_white",
    )
    return figure


def learning_curves(outcome: Outcome) -> go.Figure:
    """Validation metric, reconstruction, KL term and KL weight by epoch, a line for each seed."""
    valid = outcome.metrics.get(outcome.plan.valid_metric, outcome.plan.valid_metric)
    keys = {"valid_score": f"Validation {valid}", **TERMS}
    figure = make_subplots(
        2,
        2,
        subplot_titles=[drawn_text(name) for name in keys.values()],
        horizontal_spacing=0.08,
        vertical_spacing=0.14,
    )
    for place, key in enumerate(keys):
        for model in outcome.finished:
            _add_curves(figure, model, key, _colour(model, outcome), place)
    figure.update_xaxes(title_text="epoch", row=2)
    figure.update_layout(
        height=720,
        margin={"l": 20, "r": 20, "t": 70, "b": 30},
        legend={"orientation": "h", "y": -0.1, "yanchor": "top"},
        template="plotly_white",
    )
    return figure


def _add_curves(figure: go.Figure, model: ModelOutcome, key: str, colour: str, place: int) -> None:
    label = _label(model)
    for number, (seed, result) in enumerate(model.results.items()):
        # Counted from 1, as people count epochs; RecBole's log counts from 0.
        points = [(row["epoch"] + 1, row[key]) for row in result["curve"] if key in row]
        if not points:
            continue
        epochs, values = zip(*points)
        line = go.Scatter(
            x=epochs,
            y=values,
            name=label,
            legendgroup=label,
            # The first chart has every model that has a curve at all.
            showlegend=place == 0 and number == 0,
            mode="lines" if len(points) > 1 else "markers",
            line={"color": colour, "width": 1.6},
            hovertemplate=f"{label}, seed {seed}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        figure.add_trace(line, place // 2 + 1, place % 2 + 1)


def _label(model: ModelOutcome) -> str:
    lines = wrap(model.label, LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(map(drawn_text, lines))


def _colour(model: ModelOutcome, outcome: Outcome) -> str:
    return COLOURS[outcome.models.index(model) % len(COLOURS)]
