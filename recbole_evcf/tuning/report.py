"""The report on a search: its best trial, all trials over time, and each parameter."""

from collections import Counter
from typing import Any

import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from recbole_evcf.report.page import COLOURS, Report, Section, figure_text, styled
from recbole_evcf.report.table import Table, duration, setting, validation_and_test
from recbole_evcf.tuning.search import Search, Trial

BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], COLOURS[-1]
SYMBOLS = {"finished": "circle", "stopped": "circle-open"}
HOVER = "%{customdata[0]}<extra></extra>"
DIAMOND = {"color": ORANGE, "size": 12, "symbol": "diamond"}
BEST = {"mode": "markers", "name": "best trial", "hoverinfo": "skip", "marker": DIAMOND}
COLUMNS = 3
HEIGHT, MARGIN = 420, {"l": 60, "r": 20, "t": 30, "b": 60}
NOTE = "A point is a trial, darker the later it began, and of one choice further to the right. "
NOTE += "The other parameters differ between points. The orange diamond is the best trial."


def write_report(path: str, search: Search, best: dict[str, Any]) -> None:
    """Write the page on a search as an HTML file; ``best`` is that of its ``Tuning``."""
    trials = search.trials
    scored = pd.DataFrame([trial for trial in trials if trial["status"] != "failed"])
    scored["hover"] = [_hover(trial) for trial in scored.to_dict("records")]
    count = Counter(trial["status"] for trial in trials)
    words = {"stopped": "stopped early", "failed": "failed"}
    notes = ", ".join(f"{count[key]} {word}" for key, word in words.items() if count[key])
    summary = (
        f"{len(trials)} trials ({search.algo} search){', of them ' * bool(notes)}{notes}, "
        f"{duration(sum(trial.get('seconds', 0) for trial in trials))} of training in all. Trial "
        f"{best['number']} has the best {search.metric} on the validation users, "
        f"{best['score']:.4f}, and alone was evaluated on the test users, once, at the end."
    )
    params = pd.Series(best["params"], dtype=object).map(setting).rename_axis("parameter")
    of_best = Table(params.reset_index(name="value"))
    sections = [
        Section("", [summary]),
        Section("The best trial", [of_best, validation_and_test(best["valid"], best["test"])]),
        Section("Trials over time", [_over_time(scored, best, search)]),
        Section(f"Each parameter against {search.metric}", [NOTE, _panels(scored, best, search)]),
        Section("Training", [_curves(scored, best, search)]),
        Section("All trials", ["The best first.", _all_trials(best, search)]),
    ]
    Report(f"Tuning of {best['model']} on {best['dataset']}", sections).write_html(path)


def _hover(trial: Trial) -> str:
    lines = [f"<b>trial {trial['number']}: {trial['score']:.4f}</b>"]
    lines += [f"{figure_text(k)} {figure_text(setting(v))}" for k, v in trial["params"].items()]
    return "<br>".join(lines)


def _over_time(scored: pd.DataFrame, best: Trial, search: Search) -> go.Figure:
    look = {"symbol": "status", "symbol_map": SYMBOLS, "color_discrete_sequence": [BLUE]}
    figure = px.scatter(scored, x="number", y="score", custom_data="hover", **look)
    figure.update_traces(marker_size=9, hovertemplate=HOVER)
    leaders = scored["score"].cummax() if search.bigger else scored["score"].cummin()
    line = {"mode": "lines", "line": {"shape": "hv", "color": ORANGE}, "hoverinfo": "skip"}
    figure.add_scatter(x=scored["number"], y=leaders, name="best so far", **line)
    figure.add_scatter(x=[best["number"]], y=[best["score"]], **BEST)
    figure.update_xaxes(title="trial", dtick=1 if len(scored) < 20 else None)
    figure.update_yaxes(title=f"{figure_text(search.metric)} (validation)")
    return styled(figure, HEIGHT, margin=MARGIN)


def _panels(scored: pd.DataFrame, best: Trial, search: Search) -> go.Figure:
    columns = min(COLUMNS, len(search.space))
    rows = -(-len(search.space) // columns)
    spacing = {"horizontal_spacing": 0.04, "vertical_spacing": 0.28 / rows}
    figure = make_subplots(rows, columns, shared_yaxes=True, **spacing)
    colour = {"color": scored["number"], "colorscale": "Blues", "cmin": -len(scored)}
    look = {"symbol": scored["status"].map(SYMBOLS), "line": {"width": 1, "color": BLUE}}
    points = {"mode": "markers", "marker": {"size": 9, **colour, **look}, "hovertemplate": HOVER}
    for place, parameter in enumerate(search.space):
        panel = {"row": place // columns + 1, "col": place % columns + 1}
        x = scored["params"].str[parameter.name]
        axis: dict[str, Any] = {"type": "log" if parameter.kind == "loguniform" else "linear"}
        if parameter.kind == "choice":
            # Those of one choice are side by side.
            shift = 0.5 * (scored["number"] / scored["number"].max() - 0.5)
            x = x.map(parameter.range.index) + shift
            names = [figure_text(value) for value in parameter.range]
            axis = {"tickvals": list(range(len(names))), "ticktext": names}
            axis["range"] = [-0.5, len(names) - 0.5]
        figure.add_scatter(x=x, y=scored["score"], customdata=scored[["hover"]], **points, **panel)
        x_best = x[scored["number"] == best["number"]]
        figure.add_scatter(x=x_best, y=[best["score"]], **BEST, **panel)
        figure.update_xaxes(title=figure_text(parameter.name), **axis, **panel)
    figure.update_yaxes(title=figure_text(search.metric), col=1)
    return styled(figure, 90 + 300 * rows, margin=MARGIN, showlegend=False)


def _curves(scored: pd.DataFrame, best: Trial, search: Search) -> go.Figure:
    points = scored[["number", "history"]].explode("history", ignore_index=True)
    points[["epoch", "score"]] = points["history"].tolist()
    points["best"] = points["number"] == best["number"]
    # The best one last, so that it is drawn on top.
    order = {"category_orders": {"best": [False, True]}, "hover_data": ["number"]}
    colours = {"color": "best", "color_discrete_map": {False: GREY, True: ORANGE}}
    figure = px.line(points, x="epoch", y="score", line_group="number", **colours, **order)
    for line in figure.data:
        line.update(mode="lines" if len(line.x) > 1 else "markers")
        line.update(line_width=2.5 if line.name == "True" else 1)
    figure.update_yaxes(title=f"{figure_text(search.metric)} (validation)")
    return styled(figure, HEIGHT, margin=MARGIN, showlegend=False)


def _all_trials(best: Trial, search: Search) -> Table:
    key, params = search.metric.lower(), list(best["params"])
    rows = search.table()
    for name in params:
        rows[name] = rows[name].map(setting)
    reasons = [trial.get("reason") for trial in search.trials]
    rows["status"] += [f": {reason}" if reason else "" for reason in reasons]
    rows = rows[["trial", *params, key, "best_epoch", "epochs", "seconds", "status"]]
    rows = rows.sort_values(key, ascending=not search.bigger, kind="stable", ignore_index=True)
    return Table(
        rows,
        {key: search.metric, "best_epoch": "best epoch"},
        {"trial": "d", "best_epoch": "d", "epochs": "d", "seconds": ".0f"},
        bold=pd.DataFrame(dict.fromkeys(rows, rows["trial"] == best["number"])),
    )
