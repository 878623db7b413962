"""The page on a search: its best trial, all trials over time, and each parameter by itself."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from recbole_evcf.evaluator.per_user import SE_SUFFIX, with_error
from recbole_evcf.report.figure import drawn_text, styled
from recbole_evcf.report.page import Bold, Page
from recbole_evcf.tuning.params_file import Parameter

__all__ = ["value_text", "write_report"]

# Colours that colour-blind readers can tell apart (Okabe and Ito), and a sign for each status.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
SIGNS = {"finished": "circle", "stopped": "circle-open"}
COLUMNS = 3


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
    page = Page(f"Tuning of {best['model']} on {best['dataset']}")
    scored = [trial for trial in trials if trial["status"] != "failed"]
    page.paragraph(_summary(trials, best, metric, search))
    page.heading("The best trial")
    page.table(
        ["parameter", "value"],
        [[name, value_text(best["params"][name])] for name in best["params"]],
    )
    _metric_table(page, best)
    page.heading("Trials over time")
    page.figure(_over_time(scored, best, metric, bigger))
    page.heading(f"Each parameter against {metric}")
    page.paragraph(
        "A point is a trial, darker the later it began, and of one choice further to the right. "
        "The other parameters differ between points. The orange diamond is the best trial."
    )
    page.figure(_by_parameter(scored, best, parameters, metric))
    page.heading("Training")
    page.figure(_curves(scored, best, metric))
    page.heading("All trials")
    _trial_list(page, trials, best, metric, bigger)
    page.write(path)


def value_text(value) -> str:
    """A parameter's value as it reads best: four digits of a number between others."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summary(trials, best, metric, search) -> str:
    count = dict.fromkeys(("finished", "stopped", "failed"), 0)
    for trial in trials:
        count[trial["status"]] += 1
    said = f"{len(trials)} trials ({search})"
    notes = [
        f"{count['stopped']} stopped early" if count["stopped"] else "",
        f"{count['failed']} failed" if count["failed"] else "",
    ]
    notes = ", ".join(note for note in notes if note)
    hours = sum(trial.get("seconds", 0) for trial in trials)
    return (
        f"{said}{', of them ' + notes if notes else ''}, {_duration(hours)} of training in all. "
        f"Trial {best['number']} has the best {metric} on the validation users, "
        f"{best['score']:.4f}, and alone was evaluated on the test users, once, at the end."
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _metric_table(page: Page, best: dict[str, Any]) -> None:
    rows = [
        [name, *(_with_error(best[part], name) for part in ("valid", "test"))]
        for name in best["test"]
        if not name.endswith(SE_SUFFIX)
    ]
    page.table(["metric", "validation", "test"], rows)


def _with_error(result: dict[str, float], name: str) -> str:
    return with_error(result[name], result.get(name + SE_SUFFIX))


def _over_time(scored, best, metric, bigger) -> go.Figure:
    numbers = [trial["number"] for trial in scored]
    leaders, leader = [], None
    better = max if bigger else min
    for trial in scored:
        leader = trial["score"] if leader is None else better(leader, trial["score"])
        leaders.append(leader)
    figure = go.Figure()
    figure.add_scatter(
        x=numbers,
        y=leaders,
        mode="lines",
        line={"shape": "hv", "color": ORANGE},
        name="best so far",
        hoverinfo="skip",
    )
    for status, sign in SIGNS.items():
        of_status = [trial for trial in scored if trial["status"] == status]
        if of_status:
            figure.add_scatter(
                x=[trial["number"] for trial in of_status],
                y=[trial["score"] for trial in of_status],
                mode="markers",
                marker={"symbol": sign, "color": BLUE, "size": 9},
                text=[_hover(trial) for trial in of_status],
                hovertemplate="%{text}<extra></extra>",
                name="stopped early" if status == "stopped" else status,
            )
    _mark_best(figure, best["number"], best["score"])
    figure.update_xaxes(title="trial", dtick=1 if len(scored) < 20 else None)
    figure.update_yaxes(title=f"{drawn_text(metric)} (validation)")
    return _styled(figure, 420)


def _by_parameter(scored, best, parameters, metric) -> go.Figure:
    columns = min(COLUMNS, len(parameters))
    rows = -(-len(parameters) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.28 / rows,
    )
    for i, parameter in enumerate(parameters):
        cell = {"row": i // columns + 1, "col": i % columns + 1}
        last = scored[-1]["number"]
        values = [_place(parameter, trial, last) for trial in scored]
        figure.add_scatter(
            x=values,
            y=[trial["score"] for trial in scored],
            mode="markers",
            marker={
                "size": 9,
                "color": [trial["number"] for trial in scored],
                "colorscale": "Blues",
                "cmin": -len(scored),
                "line": {"width": 1, "color": BLUE},
                "symbol": [SIGNS[trial["status"]] for trial in scored],
            },
            text=[_hover(trial) for trial in scored],
            hovertemplate="%{text}<extra></extra>",
            **cell,
        )
        _mark_best(figure, _place(parameter, best, last), best["score"], **cell)
        figure.update_xaxes(title=drawn_text(parameter.name), **_axis(parameter), **cell)
    figure.update_yaxes(title=drawn_text(metric), col=1)
    figure.update_layout(showlegend=False)
    return _styled(figure, 90 + 300 * rows)


def _place(parameter: Parameter, trial: dict[str, Any], last: int):
    """Where a trial stands on a parameter's axis; those of one choice stand side by side."""
    value = trial["params"][parameter.name]
    if parameter.kind != "choice":
        return value
    return parameter.range.index(value) + 0.5 * (trial["number"] / last - 0.5)


def _axis(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind == "choice":
        return {
            "tickmode": "array",
            "tickvals": list(range(len(parameter.range))),
            "ticktext": [drawn_text(value) for value in parameter.range],
            "range": [-0.5, len(parameter.range) - 0.5],
        }
    return {"type": "log" if parameter.kind == "loguniform" else "linear"}


def _curves(scored, best, metric) -> go.Figure:
    figure = go.Figure()
    # The best one last, above the others.
    for trial in sorted(scored, key=lambda trial: trial["number"] == best["number"]):
        is_best = trial["number"] == best["number"]
        epochs, values = zip(*trial["history"])
        figure.add_scatter(
            x=epochs,
            y=values,
            mode="lines" if len(epochs) > 1 else "markers",
            line={"color": ORANGE if is_best else GREY, "width": 2.5 if is_best else 1},
            opacity=1 if is_best else 0.6,
            name=f"trial {trial['number']}",
            hovertemplate="epoch %{x}: %{y:.4f}",
            showlegend=False,
        )
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=f"{drawn_text(metric)} (validation)")
    return _styled(figure, 420)


def _mark_best(figure: go.Figure, x, y, **cell) -> None:
    figure.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        marker={"color": ORANGE, "size": 12, "symbol": "diamond"},
        name="best trial",
        hoverinfo="skip",
        **cell,
    )


def _hover(trial: dict[str, Any]) -> str:
    lines = [f"<b>trial {trial['number']}: {trial['score']:.4f}</b>"]
    lines += [f"{drawn_text(k)} {drawn_text(value_text(v))}" for k, v in trial["params"].items()]
    return "<br>".join(lines)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    return styled(figure, height, margin={"l": 60, "r": 20, "t": 30, "b": 60})


def _trial_list(page: Page, trials, best, metric, bigger) -> None:
    names = list(best["params"])
    header = ["trial", *names, metric, "best epoch", "epochs", "seconds", "status"]
    sign = -1 if bigger else 1
    ordered = sorted(
        trials, key=lambda trial: (trial["status"] == "failed", sign * trial.get("score", 0))
    )
    rows = []
    for trial in ordered:
        cells = [trial["number"], *(value_text(trial["params"][name]) for name in names)]
        if trial["status"] == "failed":
            cells += ["", "", "", "", f"failed: {trial['reason']}"]
        else:
            cells += [f"{trial['score']:.4f}", trial["best_epoch"], trial["epochs"]]
            cells += [f"{trial['seconds']:.0f}", trial["status"]]
        is_best = trial["number"] == best["number"]
        rows.append([Bold(cell) for cell in cells] if is_best else cells)
    page.paragraph("The best first.")
    page.table(header, rows, words=(len(header) - 1,))
