"""Write a comparison for people and programs."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from itertools import cycle
from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from recbole_evcf.comparison.outcome import COSTS, Outcome
from recbole_evcf.evaluator.metrics import SE_SUFFIX
from recbole_evcf.report.page import COLOURS, Report, Section, faceted, figure_text
from recbole_evcf.report.table import Table
from recbole_evcf.utils.files import atomic_write, write_json, write_text

# Of significance.
LEVEL = 0.05
# Charts side by side.
COLUMNS = 3
# Longer labels are wrapped at this many characters.
LABEL_WIDTH = 30
# Keys of a curve's rows for our models, and their labels.
TERMS = {"reconstruction": "Reconstruction", "kl": "KL term", "kl_weight": "KL weight"}
MARGIN = {"l": 20, "r": 20, "t": 70, "b": 30}
ABOUT_SPREAD = "Sample standard deviations of a metric over the seeds of a model."
ABOUT_CURVES = (
    "Reconstruction and KL term are means over the training users. RecBole's own models give only "
    "the sum of their losses, and are in the first chart alone; models that do not learn by epochs "
    "are a point there."
)
ABOUT_COSTS = (
    "Training includes making the model, where some models learn all they learn, and the training "
    "epochs. Users per second count every training user once an epoch, and in the evaluation every "
    "test user. Memory is that of the whole process, which ran this model alone; before the model "
    "there is what Python, the libraries and the data took. Costs of different machines cannot be "
    "compared."
)
NO_TESTS = (
    "There are no two models with metrics of the same two users or more, which a paired test needs."
)


def write_comparison(outcome: Outcome, folder: str, command: str) -> str:
    """Write the tables of :func:`write_tables` and the page, which shows the ``command`` to
    repeat it, into a folder; returns the path of the page."""
    write_tables(outcome, folder, "comparison")
    path = os.path.join(folder, "report.html")
    content = [*sections(outcome), Section("Command", [command])]
    Report(f"Comparison on {outcome.dataset}", content).write_html(path)
    return path


def write_tables(outcome: Outcome, folder: str, name: str) -> None:
    """Write ``name.csv``, ``.json``, ``.md`` and ``.tex``, each atomically."""
    plan, path, note = outcome.plan, os.path.join(folder, name), caption(outcome)
    with atomic_write(f"{path}.csv") as temporary:
        outcome.values.to_csv(temporary)
    values = outcome.values.to_dict("index")
    shared = ("dataset", "eval_args", "split_seed", "valid_metric")
    content = {
        **{key: plan.settings[key] for key in shared},
        "seeds": plan.seeds,
        "n_test_users": outcome.n_users,
        "note": note,
        "models": [{**asdict(spec), **values[spec.label]} for spec in plan.specs],
        "runs": [{"label": label, "seed": seed, **run} for label, seed, run in outcome.runs],
        "failures": [dict(zip(("label", "seed", "reason"), each)) for each in outcome.failures],
        "baseline": plan.baseline,
        "comparisons": outcome.tests.to_dict("records"),
    }
    write_json(f"{path}.json", content)
    Report(f"Comparison on {outcome.dataset}", sections(outcome)).write_markdown(f"{path}.md")
    write_text(f"{path}.tex", metric_table(outcome).latex(note, "tab:comparison"))


def sections(outcome: Outcome) -> list[Section]:
    """Return the sections of a report; those of finished runs where there are some."""
    plan, shared = outcome.plan, outcome.plan.settings
    found = _of_finished_runs(outcome) if outcome.runs else []
    if outcome.failures:
        table = pd.DataFrame(outcome.failures, columns=["model", "seed", "reason"])
        found.insert(1, Section("Failed", [Table(table, formats={"seed": "d"})]))
    rows = [(spec.label, spec.model, _listed(spec.settings)) for spec in plan.specs]
    table = pd.DataFrame(rows, columns=["label", "model", "its own settings"])
    text = (
        f"Split: {_listed(shared['eval_args'])}; its seed is {shared['split_seed']}. Seeds of "
        f"the models: {', '.join(map(str, plan.seeds))}. Every other setting of every run is "
        "in the folder runs."
    )
    return [*found, Section("Settings", [Table(table), text])]


def _of_finished_runs(outcome: Outcome) -> list[Section]:
    plan, finished = outcome.plan, outcome.finished
    found = [
        Section("Test metrics", [metric_table(outcome), caption(outcome)]),
        Section("Metrics", [metric_bars(outcome)]),
    ]
    spread = {f"{key}_seed_sd": name for key, name in outcome.metrics.items()}
    if finished[list(spread)].notna().any(axis=None):
        table = finished[["model", "finished_seeds", *spread]]
        parts = [Table(table, {"finished_seeds": "seeds", **spread}), ABOUT_SPREAD]
        found.append(Section("Spread between the seeds", parts))
    if any(len(run["curve"]) > 1 for _, _, run in outcome.runs):
        found.append(Section("Learning curves", [learning_curves(outcome), ABOUT_CURVES]))
    if len(plan.specs) > 1:
        found.append(Section(f"Against {plan.baseline}", _tests(outcome)))
    names = {"model": "model", "epochs": "epochs", **COSTS, "measured_on": "measured on"}
    if not finished["peak_gpu_memory_mib"].any():
        del names["peak_gpu_memory_mib"]
    formats = {**dict.fromkeys(names, ",.0f"), "training_seconds": ",.2f", "total_seconds": ",.2f"}
    costs = Table(finished[list(names)], names, formats)
    return [*found, Section("Costs", [costs, ABOUT_COSTS])]


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in settings.items()) or "–"


def metric_table(outcome: Outcome) -> Table:
    """Return the finished models' test metrics and standard errors, the best in bold."""
    table = outcome.finished
    values = [name for key in outcome.metrics for name in (key, f"{key}{SE_SUFFIX}")]
    best = {key: table["model"].isin(outcome.best(key)) for key in outcome.metrics}
    return Table(table[["model", *values]], outcome.metrics, bold=pd.DataFrame(best))


def caption(outcome: Outcome) -> str:
    """Explain the values of the table, their standard errors and what is marked."""
    shared, seeds = outcome.plan.settings, outcome.plan.seeds
    kind = "by users" if "SG" in (shared["eval_args"]["split"] or {}) else "of interactions"
    sentences = [
        f"Test metrics on {shared['dataset']}, one split {kind} (seed {shared['split_seed']}), "
        f"{outcome.n_users:,} users."
    ]
    several = len(seeds) > 1
    if several:
        listed = ", ".join(map(str, seeds))
        sentences.append(
            f"Each value is the mean over {len(seeds)} seeds ({listed}); the spread between them "
            "is on the page, and in the CSV file as _seed_sd."
        )
    if any(len(users) > 1 for users in outcome.users.values()):
        whose = "each user's mean over the seeds" if several else "the users' values"
        sentences.append(
            f"± is the standard error over the test users, of {whose}: how far the value would "
            "move with other users."
        )
    elif several:
        sentences.append("± is the standard error over the seeds: no values of users are known.")
    return " ".join([*sentences, "The best of each column is marked."])


def _tests(outcome: Outcome) -> list[Table | str]:
    """Return the tests against the baseline, those of the selecting metric first."""
    if outcome.tests.empty:
        return [NO_TESTS]
    first = outcome.plan.settings["valid_metric"].lower()
    table = outcome.tests.sort_values("metric", key=lambda key: key != first, kind="stable")
    table["metric"] = table["metric"].map(outcome.metrics)
    names = {"label": "model", "metric": "metric", "difference": "mean difference"}
    names |= {"low": "95% from", "high": "to", "p_value": "p", "p_corrected": "corrected p"}
    formats = {**dict.fromkeys(names, "+.4f"), "p_value": "p", "p_corrected": "p"}
    whose = ", each the mean over the seeds" if len(outcome.plan.seeds) > 1 else ""
    about = (
        f"Paired t-tests on the metrics of {outcome.tests['n_users'][0]:,} test users{whose}. "
        f"The p-values are corrected by Holm's method for all {len(outcome.tests)} "
        "comparisons of the table, the intervals are not. The test says whether the difference "
        "would hold for other users, not whether it would hold for another training run. Bold: "
        "below 0.05 after the correction."
    )
    return [Table(table[[*names]], names, formats, table[["p_corrected"]] < LEVEL), about]


def metric_bars(outcome: Outcome) -> go.Figure:
    """Draw a chart per metric: a bar per model with its standard error."""
    bars = [
        (_label(row["model"]), name, row[key], row[f"{key}{SE_SUFFIX}"])
        for key, name in outcome.metrics.items()
        for row in outcome.finished.to_dict("records")
    ]
    table = pd.DataFrame(bars, columns=["model", "metric", "value", "error"])
    rows = -(-len(outcome.metrics) // COLUMNS)
    facets = {"facet_col": "metric", "facet_col_wrap": min(COLUMNS, len(outcome.metrics))}
    spacing = {"facet_col_spacing": 0.03, "facet_row_spacing": 0.3 / max(rows, 2)}
    look = {**facets, **spacing, **_coloured(outcome)}
    figure = px.bar(table.dropna(subset="value"), x="value", y="model", error_x="error", **look)
    error = {"color": "#333", "thickness": 1.2}
    figure.update_traces(hovertemplate="%{y}: %{x:.4f}<extra></extra>", error_x=error)
    figure.update_xaxes(matches=None, showticklabels=True, rangemode="tozero", nticks=5, title="")
    figure.update_yaxes(automargin=True, title="")
    height = 60 + rows * (80 + 26 * len(outcome.users))
    return faceted(figure, height, margin=MARGIN, showlegend=False)


def learning_curves(outcome: Outcome) -> go.Figure:
    """Draw validation metric, reconstruction, KL term and KL weight by epoch, a line per seed."""
    terms = {"valid_score": f"Validation {outcome.plan.settings['valid_metric']}", **TERMS}
    points = [
        # Counted from 1; RecBole's log counts from 0.
        (_label(label), seed, row["epoch"] + 1, name, row[key])
        for key, name in terms.items()
        for label, seed, result in outcome.runs
        for row in result["curve"]
        if key in row
    ]
    table = pd.DataFrame(points, columns=["model", "seed", "epoch", "term", "value"])
    facets = {"facet_col": "term", "facet_col_wrap": 2}
    spacing = {"facet_col_spacing": 0.08, "facet_row_spacing": 0.14}
    hover = {"seed": True, "value": ":.4f", "term": False}
    look = {**facets, **spacing, "hover_data": hover, **_coloured(outcome)}
    figure = px.line(table, x="epoch", y="value", line_group="seed", **look)
    for line in figure.data:
        line.update(mode="lines" if len(line.x) > 1 else "markers", line_width=1.6)
    figure.update_yaxes(matches=None, showticklabels=True, title="")
    figure.update_xaxes(showticklabels=True)
    legend = {"orientation": "h", "y": -0.1, "yanchor": "top", "title": None}
    return faceted(figure, 720, margin=MARGIN, legend=legend)


def _label(label: str) -> str:
    lines = wrap(label, LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "<br>".join(map(figure_text, lines))


def _coloured(outcome: Outcome) -> dict[str, Any]:
    labels = [_label(spec.label) for spec in outcome.plan.specs]
    return {"color": "model", "color_discrete_map": dict(zip(labels, cycle(COLOURS)))}
