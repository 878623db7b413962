"""The results of an inspection, as CSV files and as a page of tables, figures and explanations."""

import tempfile
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import yaml

from recbole_evcf.inspection.measures import DRAWS, LINEAR
from recbole_evcf.report.page import COLOURS, Report, Section, faceted, figure_text, styled
from recbole_evcf.report.table import Table, number
from recbole_evcf.utils.text import shortened

# Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016, section 5.2.
ACTIVE = 0.01
TABLES = (
    *("users", "components", "component_items", "density", "units", "levels"),
    *("gates", "gates_by_popularity"),
    *("replaced_levels", "quality_by_history", "quality_by_popularity"),
)
# Rows of the components table, items named per row, and components named in the plane.
N_COMPONENTS, N_ITEMS, N_LABELS = 15, 6, 20
# A label's size, as shares of the plot's width and height.
LABEL_ROOM = (0.24, 0.07)
# More users would overlap and swell the file.
N_DOTS = 3000
BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], COLOURS[-1]
MARGIN = {"l": 60, "r": 20, "t": 40, "b": 50}
LAYOUT: dict[str, Any] = {"margin": MARGIN, "font": {"family": "system-ui, sans-serif", "size": 13}}
PROSE = yaml.safe_load(files(__package__).joinpath("prose.yaml").read_text(encoding="utf-8"))


@dataclass
class Inspection:
    """The results of inspecting a model.

    Attributes:
        facts: single values by name, in display order.
        tables: tidy frames by name, some of :data:`TABLES`, depending on the model and the data.
            A column ``x_se`` has the standard errors of ``x``.
        metrics: names of the columns ``ndcg`` and ``recall``; empty without test users.
        explained: shares of the variance on the axes of the plane; empty without it.
    """

    facts: dict[str, object] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    explained: list[float] = field(default_factory=list)

    def report(self, folder: str) -> list[str]:
        """Write ``report.html`` and a CSV file per table, replacing those of an older report.

        All are made elsewhere first: if one cannot be written, none is replaced. Returns the names
        of the files, the page first. A file where the folder would be is a ``ValueError``.
        """
        check_folder(folder)
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        names = ["report.html", *sorted(f"{name}.csv" for name in self.tables)]
        with tempfile.TemporaryDirectory(prefix=".inspect-", dir=target) as hidden:
            page(self).write_html(f"{hidden}/{names[0]}")
            for name, table in self.tables.items():
                table.to_csv(f"{hidden}/{name}.csv", index=False)
            for name in names:
                Path(hidden, name).replace(target / name)
        for name in set(TABLES) - set(self.tables):
            (target / f"{name}.csv").unlink(missing_ok=True)
        return names


def check_folder(folder: str) -> None:
    """Refuse a folder that is a file, or lies in one, before anything is computed."""
    for path in (Path(folder), *Path(folder).parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file, so nothing can be written into it.")


def page(of: Inspection) -> Report:
    """Return a section for each kind of table present."""
    facts = [(name, number(value, ".1f")) for name, value in of.facts.items()]
    table = Table(pd.DataFrame(facts, columns=["fact", "value"]), {"fact": "", "value": ""})
    sections = [Section("", [table])]
    for make in (_components, _plane, _units, _levels, _gates, _quality):
        sections += make(of)
    return Report(f"Inside {of.facts['model']} on {of.facts['data set']}", sections)


def _prose(*keys: str, **values: object) -> str:
    return " ".join(PROSE[key] for key in keys).format(**values)


def _components(of: Inspection) -> list[Section]:
    if "components" not in of.tables:
        return [Section("The prior", [_prose("standard_normal")])]
    table, items = of.tables["components"], of.tables["component_items"]
    used = table[table["users"] > 0]
    shown = used.head(N_COMPONENTS)[["component", "users", "share", "spread"]].copy()
    top = items[items["rank"] <= N_ITEMS]
    lifts = np.where(top["by"] == "distinction", top["lift"].map(" ({:.1f})".format), "")
    listed = (_names(top) + lifts).groupby([top["by"], top["component"]]).agg("; ".join)
    for by in ("distinction", "probability"):
        shown[by] = shown["component"].map(listed[by])
    titles = {"distinction": "what sets it apart", "probability": "most probable"}
    formats = {"component": "d", "share": ".1%", "spread": ".2f"}
    about = _prose("components", used=len(used), n=len(table))
    parts = [about, _weights(table, _labels(items)), _prose("component_items")]
    parts.append(Table(shown, titles, formats))
    if len(table) > len(shown):
        parts.append(_prose("more_components", n=len(shown)))
    return [Section("Components of the prior", parts)]


def _names(items: pd.DataFrame) -> pd.Series:
    return items["name" if "name" in items else "item"].map(shortened)


def _labels(items: pd.DataFrame) -> pd.Series:
    """Return, by component, the three most distinctive items as lines of HTML."""
    apart = items[(items["by"] == "distinction") & (items["rank"] <= 3)]
    return _names(apart).map(figure_text).groupby(apart["component"]).agg("<br>".join)


def _weights(table: pd.DataFrame, labels: pd.Series) -> go.Figure:
    places, look = np.arange(1, len(table) + 1), {"color": BLUE, "line": {"width": 0}}
    bars = go.Bar(x=places, y=table["share"], marker=look, name="share of users explained best")
    bars.customdata = np.stack([table["component"], labels[table["component"]]], axis=1)
    bars.hovertemplate = "component %{customdata[0]}: %{y:.1%}<br>%{customdata[1]}<extra></extra>"
    means = _dots(places, table["mean_responsibility"], ORANGE, name="mean responsibility")
    share = {"title": "share of users", "tickformat": ".1%"}
    axes = {"xaxis_title": "components, by weight", "yaxis": share}
    return styled(go.Figure([bars, means]), 320, **axes, **LAYOUT)


def _dots(x: Any, y: Any, colour: str, opacity: float = 1, **more: Any) -> go.Scatter:
    marker = {"color": colour, "size": 4, "opacity": opacity}
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip", **more)


def _plane(of: Inspection) -> list[Section]:
    if not of.explained:
        return []
    first, second = of.explained
    axes = [f"PC 1 ({first:.1%})", f"PC 2 ({second:.1%})"]
    used = of.tables["components"].query("users > 0") if "components" in of.tables else None
    users = of.tables["users"].sample(frac=1, random_state=0).head(N_DOTS).sort_index()
    dots = _dots(users["pc1"], users["pc2"], GREY, 0.55, name="users (posterior means)")
    figure = go.Figure(dots)
    if used is not None:
        _add_components(figure, used, _labels(of.tables["component_items"])[used["component"]])
    x, y = ({"title": title, "zeroline": False} for title in axes)
    styled(figure, 620, xaxis=x, yaxis=y, **LAYOUT)
    about = _prose("densities", *(() if used is None else ("dots",)))
    densities = _densities(of.tables["density"], used, axes)
    parts = [_prose("plane", first=first, second=second), figure, about, densities]
    return [Section("Aggregated posterior and prior", parts)]


def _add_components(figure: go.Figure, used: pd.DataFrame, hover: pd.Series) -> None:
    points = used.assign(hover=hover.to_numpy())
    look = {"size": "users", "size_max": 24, "opacity": 0.75, "color_discrete_sequence": [ORANGE]}
    data = ["component", "users", "hover"]
    bubbles = px.scatter(points, x="pc1", y="pc2", custom_data=data, **look)
    bubbles.update_traces(
        marker={"sizemin": 3, "line": {"color": "white", "width": 1}},
        hovertemplate="component %{customdata[0]}, %{customdata[1]} users<br>%{customdata[2]}"
        "<extra></extra>",
        name="components in use, area by users",
        showlegend=True,
    )
    figure.add_traces(bubbles.data)
    places = used[["pc1", "pc2"]].to_numpy()
    reach = np.ptp(places, axis=0).clip(min=1e-9) * LABEL_ROOM
    named: dict[str, np.ndarray] = {}
    for point, name in zip(places, [text.partition("<br>")[0] for text in hover]):
        # The first whose names differ and do not overlap.
        near = any((np.abs(other - point) < reach).all() for other in named.values())
        if len(named) < N_LABELS and name not in named and not near:
            named[name] = point
    box = {"showarrow": False, "yshift": 17, "bgcolor": "rgba(255,255,255,0.5)"}
    for name, (x, y) in named.items():
        figure.add_annotation(x=x, y=y, text=name, font={"size": 12, "color": "#222"}, **box)


def _densities(density: pd.DataFrame, used: pd.DataFrame | None, axes: list[str]) -> go.Figure:
    names = ["aggregated_posterior", "prior"]
    # The square root shows thin regions next to dense ones.
    grids = np.sqrt([density.pivot(index="pc2", columns="pc1", values=name) for name in names])
    x, y = density["pc1"].unique(), density["pc2"].unique()
    look = {"origin": "lower", "aspect": "auto", "color_continuous_scale": "Blues"}
    figure = px.imshow(grids, x=x, y=y, facet_col=0, **look)
    figure.update_traces(zsmooth="best", hoverinfo="skip", hovertemplate=None)
    for title, name in zip(figure.layout.annotations, names):
        title.text = f"={name.replace('_', ' ')}"
    if used is not None:
        dots = _dots(used["pc1"], used["pc2"], ORANGE, showlegend=False)
        figure.add_trace(dots, row="all", col="all")
    ticks = np.linspace(0, grids.max(), 5)
    labels = [f"{tick**2:.2g}" for tick in ticks]
    bar = {"title": "density", "tickvals": ticks, "ticktext": labels}
    figure.update_xaxes(showgrid=False, zeroline=False, title=axes[0])
    figure.update_yaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(title=axes[1], col=1)
    return faceted(figure, 460, coloraxis={"cmin": 0, "colorbar": bar}, **LAYOUT)


def _units(of: Inspection) -> list[Section]:
    rows = of.tables["levels"].itertuples()
    names = {row.level: f"{row.level}: {row.active} of {row.units} active" for row in rows}
    points = of.tables["units"].replace({"level": names})
    look = {"color": "level", "color_discrete_sequence": COLOURS, "log_x": True, "opacity": 0.7}
    hover = {"unit": True, "variance": ":.3g", "kl": ":.3g"}
    figure = px.scatter(points, x="variance", y="kl", hover_data=hover, **look)
    figure.add_vline(x=ACTIVE, line={"color": GREY, "dash": "dash"})
    figure.update_xaxes(title="variance over users of the posterior mean")
    figure.update_yaxes(title="KL term, nats per user", rangemode="tozero")
    text = _prose("units", *["marginals"] * ("components" in of.tables), active=ACTIVE)
    return [Section("Latent units", [text, styled(figure, 380, showlegend=True, **LAYOUT)])]


def _levels(of: Inspection) -> list[Section]:
    table = of.tables["levels"]
    two = len(table) > 1
    about = _prose("levels", *["z1_given_z2"] * two, "draws", draws=DRAWS)
    parts = [about, Table(table, {"kl": "KL, nats per user"}, {"kl": ".2f"})]
    if of.metrics:
        names = {**of.metrics, "log_likelihood": "log-likelihood, nats"}
        replaced = "replaced_z1_z2" if two else "replaced_z"
        linear = ["linear_path"] * (LINEAR in {*of.tables["replaced_levels"]["replaced"]})
        parts.append(_prose("replaced", replaced, *linear, "log_likelihood"))
        parts.append(Table(of.tables["replaced_levels"], names, {"log_likelihood": ".3f"}))
    return [Section("What z1 and z2 carry" if two else "What z carries", parts)]


def _gates(of: Inspection) -> list[Section]:
    if "gates" not in of.tables:
        return []
    names = {"std": "deviation over users", "single_item_mean": "mean, one item"}
    formats = {name: ".1%" if name in ("shut", "open") else ".3f" for name in of.tables["gates"]}
    table = of.tables["gates_by_popularity"]
    ways = {"users": "users, by their history", "items": "one item alone, by its own"}
    points = table.assign(popularity=_ranges(table), way=table["grouped"].map(ways))
    look = {"error_y": "mean_se", "color": "layer", "facet_col": "way", "markers": True}
    figure = px.line(points, x="popularity", y="mean", color_discrete_sequence=COLOURS, **look)
    figure.update_traces(error_y_thickness=1)
    figure.update_xaxes(matches=None, type="category")
    figure.update_yaxes(title="mean gate", col=1)
    # Above the titles of the two halves.
    faceted(figure, 400, **LAYOUT).update_layout(margin_t=80, legend_y=1.12)
    about = Table(of.tables["gates"], names, formats)
    return [Section("Gates", [_prose("gates"), about, _prose("gates_by_popularity"), figure])]


def _quality(of: Inspection) -> list[Section]:
    if not of.metrics:
        return []
    sections = [Section("Quality of recommendations", [_prose("quality")])]
    names = {**of.metrics, "held_out": "held out"}
    shares = {"held_out": ".1%", "recommended": ".1%"}
    for key, group in (("history", "length of history"), ("popularity", "popularity of the item")):
        table = of.tables[f"quality_by_{key}"]
        ranges, figure = _ranges(table), go.Figure()
        for colour, (metric, name) in zip(COLOURS, of.metrics.items()):
            error = {"array": table[f"{metric}_se"], "thickness": 1}
            bars = {"x": ranges, "y": table[metric], "error_y": error}
            figure.add_bar(**bars, name=name, marker_color=colour)
        styled(figure, 320, xaxis={"title": group, "type": "category"}, **LAYOUT)
        shown = table.drop(columns=["from", "to"])
        shown.insert(0, group, ranges)
        parts = [_prose(f"quality_by_{key}"), figure, Table(shown, names, shares)]
        sections.append(Section(f"By {group}", parts, level=3))
    return sections


def _ranges(table: pd.DataFrame) -> list[str]:
    bounds = zip(table["from"].map("{:.0f}".format), table["to"].map("{:.0f}".format))
    return [low if low == high else f"{low} to {high}" for low, high in bounds]
