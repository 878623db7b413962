"""The report on a search: its best trial, all trials over time, and each parameter."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from recbole_evcf.report.page import COLOURS, Report, Section, figure_text, styled
from recbole_evcf.report.table import Table, duration, setting, validation_and_test
from recbole_evcf.tuning.params_file import Parameter

__all__ = ["write_report"]

BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], COLOURS[-1]
SYMBOLS = {"finished": "circle", "stopped": "circle-open"}
HOVER = "%{customdata[0]}<extra></extra>"
BEST = {"color": ORANGE, "size": 12, "symbol": "diamond"}
COLUMNS = 3
MARGIN = {"l": 60, "r": 20, "t": 30, "b": 60}


def write_report(
    path: str,
    trials: list[dict[str, Any]],
    best: dict[str, Any],
    parameters: list[Parameter],
    metric: str,
    bigger: bool,
    search: str,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        trials: the store's.
        best: what :func:`~recbole_evcf.tuning.results.conclude` returns.
        parameters: the search space.
        metric: name of the metric that chose the best trial.
        bigger: whether a larger score is better.
        search: how the trials were found, in words.
    """
    scored = pd.DataFrame([trial for trial in trials if trial["status"] != "failed"])
    scored["text"] = [_hover(trial) for trial in scored.to_dict("records")]
    values = [(name, setting(value)) for name, value in best["params"].items()]
    of_best = Table(pd.DataFrame(values, columns=["parameter", "value"]))
    explanation = (
        "A point is a trial, darker the later it began, and of one choice further to the right. "
        "The other parameters differ between points. The orange diamond is the best trial."
    )
    by_parameter = _by_parameter(scored, best, parameters, metric)
    sections = [
        Section("", [_summary(trials, best, metric, search)]),
        Section("The best trial", [of_best, validation_and_test(best["valid"], best["test"])]),
        Section("Trials over time", [_over_time(scored, best, metric, bigger)]),
        Section(f"Each parameter against {metric}", [explanation, by_parameter]),
        Section("Training", [_curves(scored, best, metric)]),
        Section("All trials", ["The best first.", _all_trials(trials, best, metric, bigger)]),
    ]
    Report(f"Tuning of {best['model']} on {best['dataset']}", sections).write_html(path)


def _summary(trials: list[dict], best: dict, metric: str, search: str) -> str:
    count = pd.Series([trial["status"] for trial in trials]).value_counts()
    words = {"stopped": "stopped early", "failed": "failed"}
    notes = [f"{count[status]} {text}" for status, text in words.items() if status in count]
    seconds = sum(trial.get("seconds", 0) for trial in trials)
    return (
        f"{len(trials)} trials ({search}){', of them ' if notes else ''}{', '.join(notes)}, "
        f"{duration(seconds)} of training in all. Trial {best['number']} has the best {metric} on "
        f"the validation users, {best['score']:.4f}, and alone was evaluated on the test users, "
        "once, at the end."
    )


def _hover(trial: dict[str, Any]) -> str:
    lines = [f"<b>trial {trial['number']}: {trial['score']:.4f}</b>"]
    lines += [f"{figure_text(k)} {figure_text(setting(v))}" for k, v in trial["params"].items()]
    return "<br>".join(lines)


def _over_time(scored: pd.DataFrame, best: dict, metric: str, bigger: bool) -> go.Figure:
    look = {"symbol": "status", "symbol_map": SYMBOLS, "color_discrete_sequence": [BLUE]}
    figure = px.scatter(scored, x="number", y="score", custom_data="text", **look)
    figure.update_traces(marker_size=9, hovertemplate=HOVER)
    leaders = scored["score"].cummax() if bigger else scored["score"].cummin()
    line = {"mode": "lines", "line": {"shape": "hv", "color": ORANGE}, "hoverinfo": "skip"}
    figure.add_scatter(x=scored["number"], y=leaders, name="best so far", **line)
    _mark_best(figure, best["number"], best["score"])
    figure.update_xaxes(title="trial", dtick=1 if len(scored) < 20 else None)
    figure.update_yaxes(title=f"{figure_text(metric)} (validation)")
    return styled(figure, 420, margin=MARGIN)


def _by_parameter(
    scored: pd.DataFrame, best: dict, parameters: list[Parameter], metric: str
) -> go.Figure:
    columns = min(COLUMNS, len(parameters))
    rows = -(-len(parameters) // columns)
    spacing = {"horizontal_spacing": 0.04, "vertical_spacing": 0.28 / rows}
    figure = make_subplots(rows, columns, shared_yaxes=True, **spacing)
    marker = {
        "size": 9,
        "color": scored["number"],
        "colorscale": "Blues",
        "cmin": -len(scored),
        "line": {"width": 1, "color": BLUE},
        "symbol": scored["status"].map(SYMBOLS),
    }
    last = scored["number"].iloc[-1]
    for place, parameter in enumerate(parameters):
        panel = {"row": place // columns + 1, "col": place % columns + 1}
        x = [_position(parameter, trial, last) for trial in scored.to_dict("records")]
        points = {"mode": "markers", "marker": marker, "customdata": scored[["text"]]}
        figure.add_scatter(x=x, y=scored["score"], hovertemplate=HOVER, **points, **panel)
        _mark_best(figure, _position(parameter, best, last), best["score"], **panel)
        figure.update_xaxes(title=figure_text(parameter.name), **_axis(parameter), **panel)
    figure.update_yaxes(title=figure_text(metric), col=1)
    return styled(figure, 90 + 300 * rows, margin=MARGIN, showlegend=False)


def _position(parameter: Parameter, trial: dict, last: int) -> float:
    """Return a trial's place on a parameter's axis; trials of one choice are side by side."""
    value = trial["params"][parameter.name]
    if parameter.kind != "choice":
        return value
    return parameter.range.index(value) + 0.5 * (trial["number"] / last - 0.5)


def _axis(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind != "choice":
        return {"type": "log" if parameter.kind == "loguniform" else "linear"}
    n = len(parameter.range)
    labels = [figure_text(value) for value in parameter.range]
    return {"tickvals": list(range(n)), "ticktext": labels, "range": [-0.5, n - 0.5]}


def _curves(scored: pd.DataFrame, best: dict, metric: str) -> go.Figure:
    points = scored[["number", "history"]].explode("history", ignore_index=True)
    points[["epoch", "score"]] = points["history"].tolist()
    points["best"] = points["number"] == best["number"]
    # The best one last, so that it is drawn on top.
    order = {"category_orders": {"best": [False, True]}, "line_group": "number", "color": "best"}
    colours = {False: GREY, True: ORANGE}
    figure = px.line(
        points, x="epoch", y="score", hover_data=["number"], color_discrete_map=colours, **order
    )
    for line in figure.data:
        line.update(mode="lines" if len(line.x) > 1 else "markers")
        line.update(line_width=2.5 if line.name == "True" else 1)
    figure.update_yaxes(title=f"{figure_text(metric)} (validation)")
    return styled(figure, 420, margin=MARGIN, showlegend=False)


def _mark_best(figure: go.Figure, x: float, y: float, **panel: int) -> None:
    best = {"mode": "markers", "marker": BEST, "name": "best trial", "hoverinfo": "skip"}
    figure.add_scatter(x=[x], y=[y], **best, **panel)


def _all_trials(trials: list[dict], best: dict, metric: str, bigger: bool) -> Table:
    # A separate name, since a parameter may share the metric's.
    params = {f"params.{name}": name for name in best["params"]}
    rows = pd.DataFrame(
        {
            "trial": trial["number"],
            **{column: setting(trial["params"][name]) for column, name in params.items()},
            **{key: trial.get(key) for key in ("score", "best_epoch", "epochs", "seconds")},
            "status": f"failed: {trial['reason']}" if "reason" in trial else trial["status"],
        }
        for trial in trials
    )
    rows = rows.sort_values("score", ascending=not bigger, kind="stable", ignore_index=True)
    is_best = rows["trial"] == best["number"]
    return Table(
        rows,
        {**params, "score": metric, "best_epoch": "best epoch"},
        {"trial": "d", "best_epoch": ".0f", "epochs": ".0f", "seconds": ".0f"},
        bold=pd.DataFrame(dict.fromkeys(rows, is_best)),
    )
