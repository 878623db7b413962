"""Write a comparison, or a reproduced table of the paper, for people and programs."""

from __future__ import annotations

import os
from dataclasses import asdict
from itertools import cycle
from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from recbole_evcf.comparison import reproduction
from recbole_evcf.comparison.outcome import ModelOutcome, Outcome
from recbole_evcf.comparison.paper import PaperTable
from recbole_evcf.comparison.tables import (
    about_tests,
    caption,
    cost_table,
    metric_table,
    numbers,
    paired_tests,
)
from recbole_evcf.report.page import COLOURS, Report, Section, faceted, figure_text
from recbole_evcf.report.table import Table
from recbole_evcf.utils.files import atomic_write, write_json

__all__ = [
    "learning_curves",
    "metric_bars",
    "write_comparison",
    "write_reproduction",
    "write_tables",
]

COLUMNS = 3
# Longer labels are wrapped at this many characters.
LABEL_WIDTH = 30
# Keys of a curve's rows for our models, and their labels.
TERMS = {"reconstruction": "Reconstruction", "kl": "KL term", "kl_weight": "KL weight"}
MARGIN = {"l": 20, "r": 20, "t": 70, "b": 30}


def write_comparison(outcome: Outcome, folder: str, command: str) -> str:
    """Write the tables of :func:`write_tables` and the page; returns the path of the page.

    Args:
        outcome: what was found.
        folder: that the files go into.
        command: what was typed, for those who want to do it again.
    """
    write_tables(outcome, folder, "comparison")
    path = os.path.join(folder, "report.html")
    sections = [*_sections(outcome), Section("Command", [command])]
    Report(f"Comparison on {outcome.plan.dataset}", sections).write_html(path)
    return path


def write_reproduction(
    outcome: Outcome,
    table: PaperTable,
    checks: list[reproduction.ClaimCheck],
    folder: str,
    name: str,
    command: str,
) -> str:
    """Write the files of a reproduced table of the paper; returns the path of the page.

    Args:
        outcome, table, checks: what was found, what the paper has, and how they agree.
        folder: that the files go into.
        name: of the table.
        command: what was typed.
    """
    write_tables(outcome, folder, name)
    reproduction.write_reproduction(outcome, table, checks, folder, f"{name}-beside-paper")
    path = os.path.join(folder, f"{name}.html")
    title = f"{name.replace('table', 'Table ')} of Kim & Suh (2019) on {outcome.plan.dataset}"
    beside = [Section("Beside the paper", []), *reproduction.sections(outcome, table, checks)]
    Report(title, [*beside, *_sections(outcome), Section("Command", [command])]).write_html(path)
    return path


def write_tables(outcome: Outcome, folder: str, name: str) -> None:
    """Write ``name.csv``, ``.json``, ``.md`` and ``.tex``, each atomically."""
    path = os.path.join(folder, name)
    with atomic_write(f"{path}.csv") as temporary:
        numbers(outcome).to_csv(temporary, index=False)
    write_json(f"{path}.json", _content(outcome))
    brief = [*_metrics(outcome), *_failures(outcome), *_tests(outcome)]
    Report(f"Comparison on {outcome.plan.dataset}", brief).write_markdown(f"{path}.md")
    text = metric_table(outcome).latex(_bold(caption(outcome)), "tab:comparison")
    with atomic_write(f"{path}.tex") as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def _content(outcome: Outcome) -> dict:
    plan = outcome.plan
    models = [
        {
            **asdict(model.spec),
            "test": model.test,
            "standard_error": model.standard_error,
            "seed_deviation": model.seed_deviation,
            "valid": model.valid,
            "runs": [{"seed": seed, **run} for seed, run in model.results.items()],
            "failures": [{"seed": seed, "reason": why} for seed, why in model.failures.items()],
        }
        for model in outcome.models
    ]
    return {
        "dataset": plan.dataset,
        "eval_args": plan.eval_args,
        "split_seed": plan.split_seed,
        "seeds": list(plan.seeds),
        "valid_metric": plan.valid_metric,
        "n_test_users": outcome.n_users(),
        "note": caption(outcome),
        "models": models,
        "baseline": outcome.baseline,
        "comparisons": [asdict(comparison) for comparison in outcome.comparisons],
    }


def _sections(outcome: Outcome) -> list[Section]:
    """Return every section of the page that has content."""
    parts = [_metrics, _spread, _failures, _charts, _tests, _costs, _settings]
    chosen = parts if outcome.finished else [_failures, _settings]
    return [section for part in chosen for section in part(outcome)]


def _bold(text: str) -> str:
    return text.replace("marked", "bold")


def _metrics(outcome: Outcome) -> list[Section]:
    parts = [metric_table(outcome), _bold(caption(outcome))] if outcome.finished else []
    return [Section("Test metrics", parts)] if parts else []


def _spread(outcome: Outcome) -> list[Section]:
    if not any(model.seed_deviation for model in outcome.finished):
        return []
    names = {f"{key}_seed_sd": name for key, name in outcome.metrics.items()}
    table = numbers(outcome).query("finished_seeds > 0")[["model", "finished_seeds", *names]]
    text = "Sample standard deviations of a metric over the seeds of a model."
    parts = [Table(table, {"finished_seeds": "seeds", **names}), text]
    return [Section("Spread between the seeds", parts, level=3)]


def _failures(outcome: Outcome) -> list[Section]:
    table = pd.DataFrame(outcome.failures, columns=["model", "seed", "reason"])
    return [Section("Failed", [Table(table, formats={"seed": "d"})])] if len(table) else []


def _charts(outcome: Outcome) -> list[Section]:
    charts = [Section("Metrics", [metric_bars(outcome)])]
    if any(len(result["curve"]) > 1 for m in outcome.finished for result in m.results.values()):
        text = (
            "Reconstruction and KL term are means over the training users. RecBole's own models "
            "give only the sum of their losses, and are in the first chart alone; models that "
            "do not learn by epochs are a point there."
        )
        charts.append(Section("Learning curves", [learning_curves(outcome), text]))
    return charts


def _tests(outcome: Outcome) -> list[Section]:
    if len(outcome.models) < 2 or not outcome.finished:
        return []
    text = (
        "There are no two models with metrics of the same two users or more, which a paired test "
        "needs."
    )
    found = [paired_tests(outcome), about_tests(outcome)] if outcome.comparisons else [text]
    return [Section(f"Against {outcome.baseline}", found)]


def _costs(outcome: Outcome) -> list[Section]:
    text = (
        "Training includes making the model, where some models learn all they learn, and the "
        "training epochs. Users per second count every training user once an epoch, and in the "
        "evaluation every test user. Memory is that of the whole process, which ran this model "
        "alone; before the model there is what Python, the libraries and the data took. Costs of "
        "different machines cannot be compared; of a run by an earlier version the machine is "
        "unknown."
    )
    return [Section("Costs", [cost_table(outcome), text])]


def _settings(outcome: Outcome) -> list[Section]:
    plan = outcome.plan
    rows = [
        (model.label, model.spec.model, _listed(model.spec.settings)) for model in outcome.models
    ]
    table = pd.DataFrame(rows, columns=["label", "model", "its own settings"])
    text = (
        f"Split: {_listed(plan.eval_args)}; its seed is {plan.split_seed}. Seeds of the models: "
        f"{', '.join(map(str, plan.seeds))}. Every other setting of every run is in the folder "
        "runs."
    )
    return [Section("Settings", [Table(table), text])]


def _listed(settings: dict) -> str:
    return ", ".join(f"{key}: {value}" for key, value in settings.items()) or "–"


def metric_bars(outcome: Outcome) -> go.Figure:
    """Draw a chart per metric: a bar per model with its standard error."""
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
    """Draw validation metric, reconstruction, KL term and KL weight by epoch, a line per seed."""
    valid = outcome.metrics.get(outcome.plan.valid_metric, outcome.plan.valid_metric)
    points = [
        # Counted from 1; RecBole's log counts from 0.
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
    labels = [_label(model) for model in outcome.models]
    colours = dict(zip(labels, cycle(COLOURS)))
    return {"color": "model", "color_discrete_map": colours}
