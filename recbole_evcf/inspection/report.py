"""The report on an inspection: its tables, their figures, and explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go

from recbole_evcf.inspection.levels import ACTIVE, DRAWS
from recbole_evcf.report.page import COLOURS, Report, Section, faceted, figure_text, styled
from recbole_evcf.report.table import Table, number
from recbole_evcf.utils.text import shortened

__all__ = ["report"]

# Rows of the components table, items named per row, and components named in the plane.
N_COMPONENTS, N_ITEMS, N_LABELS = 15, 6, 20
# A label's size, as shares of the plot's width and height.
LABEL_ROOM = (0.24, 0.07)
# More users would overlap and swell the file.
N_DOTS = 3000

BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], COLOURS[-1]
FONT = {"family": "system-ui, sans-serif", "size": 13}
LAYOUT: dict[str, Any] = {"margin": {"l": 60, "r": 20, "t": 40, "b": 50}, "font": FONT}


def report(
    facts: Mapping[str, object],
    tables: Mapping[str, pd.DataFrame],
    metrics: Mapping[str, str],
    explained: tuple[float, float] | None,
) -> Report:
    """Return a section for each kind of table present.

    Args: the attributes of an :class:`~recbole_evcf.inspection.inspection.Inspection`.
    """
    rows = [(name, number(value, ".1f")) for name, value in facts.items()]
    frame = pd.DataFrame(rows, columns=["fact", "value"])
    sections = [Section("", [Table(frame, {"fact": "", "value": ""})])]
    if "components" in tables:
        sections.append(_components(tables["components"], tables["component_items"]))
    else:
        text = (
            "The prior is the standard normal distribution. It has no components; what follows "
            "applies to it all the same."
        )
        sections.append(Section("The prior", [text]))
    if explained is not None:
        sections.append(_plane(tables, explained))
    sections += [_units(tables["units"], "components" in tables), _levels(tables, metrics)]
    if "gates" in tables:
        sections.append(_gates(tables))
    if metrics:
        sections += _quality(tables, metrics)
    return Report(f"Inside {facts['model']} on {facts['data set']}", sections)


def _components(table: pd.DataFrame, items: pd.DataFrame) -> Section:
    used = table[table["users"] > 0]
    about = (
        "A component q(z | u) of the VampPrior is the posterior of a learned pseudo-input u, an "
        "imaginary user. Its weight in practice is the share of training users whose posterior "
        "it explains best: of all components it has the smallest KL divergence from that "
        f"posterior. {len(used)} of {len(table)} components explain a user best."
    )
    decoded = (
        "A component is decoded like a user. The most probable items are popular ones with most "
        "components; what sets a component apart are the items that contribute most to the "
        "divergence of its recommendations from the average user's, p log(p / average). In "
        "brackets: how many times as probable as for the average user. Spread is the mean over "
        "units of the standard deviation of q(z | u)."
    )
    shown = used.head(N_COMPONENTS)[["component", "users", "share", "spread"]].copy()
    top = items[items["rank"] <= N_ITEMS]
    names = _names(top)
    with_lift = names + [f" ({times:.1f})" for times in top["lift"]]
    for by, listed in (("distinction", with_lift), ("probability", names)):
        joined = listed[top["by"] == by].groupby(top["component"]).agg("; ".join)
        shown[by] = shown["component"].map(joined)
    titles = {"distinction": "what sets it apart", "probability": "most probable"}
    formats = {"component": "d", "share": ".1%", "spread": ".2f"}
    parts = [about, _weights(table, _labels(items)), decoded, Table(shown, titles, formats)]
    if len(table) > len(shown):
        parts.append(
            f"The {len(shown)} components with most users; components.csv and "
            "component_items.csv hold all."
        )
    return Section("Components of the prior", parts)


def _names(items: pd.DataFrame) -> pd.Series:
    return items["name" if "name" in items else "item"].map(shortened)


def _labels(items: pd.DataFrame) -> pd.Series:
    """Return, by component, the three most distinctive items as lines of HTML."""
    apart = items[(items["by"] == "distinction") & (items["rank"] <= 3)]
    return _names(apart).map(figure_text).groupby(apart["component"]).agg("<br>".join)


def _weights(table: pd.DataFrame, labels: pd.Series) -> go.Figure:
    places = np.arange(1, len(table) + 1)
    figure = go.Figure()
    figure.add_bar(
        x=places,
        y=table["share"],
        marker={"color": BLUE, "line": {"width": 0}},
        name="share of users explained best",
        customdata=np.stack([table["component"], labels[table["component"]]], axis=1),
        hovertemplate="component %{customdata[0]}: %{y:.1%}<br>%{customdata[1]}<extra></extra>",
    )
    dots = _dots(ORANGE, 4, name="mean responsibility")
    figure.add_scatter(x=places, y=table["mean_responsibility"], **dots)
    figure.update_xaxes(title="components, by weight")
    figure.update_yaxes(title="share of users", tickformat=".1%")
    return styled(figure, 320, **LAYOUT)


def _dots(colour: str, size: int, opacity: float = 1, **more: Any) -> dict[str, Any]:
    marker = {"color": colour, "size": size, "opacity": opacity}
    return {"mode": "markers", "marker": marker, "hoverinfo": "skip", **more}


def _plane(tables: Mapping[str, pd.DataFrame], explained: tuple[float, float]) -> Section:
    first, second = explained
    axes = [f"PC 1 ({first:.1%})", f"PC 2 ({second:.1%})"]
    dots = " Dots are the components in use." if "components" in tables else ""
    parts = [
        "The plane of the first two principal components of the training users' posterior "
        f"means, which hold {first:.1%} and {second:.1%} of their variance.",
        _map(tables, axes),
        "The densities in that plane: of the aggregated posterior, the mean of q(z | x) over the "
        "training users, and of the prior that should match it. The same colour is the same "
        f"density, and half the depth of colour a quarter of it.{dots}",
        _densities(tables, axes),
    ]
    return Section("Aggregated posterior and prior", parts)


def _map(tables: Mapping[str, pd.DataFrame], axes: list[str]) -> go.Figure:
    users = tables["users"]
    users = users.sample(min(N_DOTS, len(users)), random_state=0).sort_index()
    figure = go.Figure()
    dots = _dots(GREY, 4, 0.55, name="users (posterior means)")
    figure.add_scatter(x=users["pc1"], y=users["pc2"], **dots)
    if "components" in tables:
        _add_components(figure, tables["components"], _labels(tables["component_items"]))
    figure.update_xaxes(title=axes[0], zeroline=False)
    figure.update_yaxes(title=axes[1], zeroline=False)
    return styled(figure, 620, **LAYOUT)


def _add_components(figure: go.Figure, table: pd.DataFrame, labels: pd.Series) -> None:
    used = table[table["users"] > 0]
    hover = labels[used["component"]].to_numpy()
    figure.add_scatter(
        x=used["pc1"],
        y=used["pc2"],
        mode="markers",
        marker={
            "color": ORANGE,
            "opacity": 0.75,
            "size": used["users"],
            "sizemode": "area",
            "sizeref": used["users"].max() / 24**2,
            "sizemin": 3,
            "line": {"color": "white", "width": 1},
        },
        customdata=np.stack([used["component"], used["users"], hover], axis=1),
        hovertemplate=(
            "component %{customdata[0]}, %{customdata[1]} users<br>%{customdata[2]}<extra></extra>"
        ),
        name="components in use, area by users",
    )
    names = [text.partition("<br>")[0] for text in hover]
    points = used[["pc1", "pc2"]].to_numpy()
    look = {"showarrow": False, "yshift": 17, "bgcolor": "rgba(255,255,255,0.5)"}
    font = {"size": 12, "color": "#222"}
    for place in _apart(points, names):
        x, y = points[place]
        figure.add_annotation(x=x, y=y, text=names[place], font=font, **look)


def _apart(points: np.ndarray, names: list[str]) -> list[int]:
    """Return the first points whose names differ and do not overlap in the plot."""
    reach = np.ptp(points, axis=0).clip(min=1e-9) * LABEL_ROOM
    chosen: list[int] = []
    for place, point in enumerate(points):
        near = (np.abs(points[chosen] - point) < reach).all(axis=1)
        new = names[place] not in [names[other] for other in chosen]
        if len(chosen) < N_LABELS and new and not near.any():
            chosen.append(place)
    return chosen


def _densities(tables: Mapping[str, pd.DataFrame], axes: list[str]) -> go.Figure:
    density, names = tables["density"], ["aggregated_posterior", "prior"]
    # The square root shows thin regions next to dense ones.
    grids = np.sqrt([density.pivot(index="pc2", columns="pc1", values=name) for name in names])
    figure = px.imshow(
        grids,
        x=density["pc1"].unique(),
        y=density["pc2"].unique(),
        facet_col=0,
        origin="lower",
        aspect="auto",
        color_continuous_scale="Blues",
    )
    figure.update_traces(zsmooth="best", hoverinfo="skip", hovertemplate=None)
    for title, name in zip(figure.layout.annotations, names):
        title.text = f"={name.replace('_', ' ')}"
    if "components" in tables:
        used = tables["components"].query("users > 0")
        dots = _dots(ORANGE, 4, showlegend=False)
        figure.add_scatter(x=used["pc1"], y=used["pc2"], **dots, row="all", col="all")
    ticks = np.linspace(0, grids.max(), 5)
    labels = [f"{tick**2:.2g}" for tick in ticks]
    bar = {"title": "density", "tickvals": ticks, "ticktext": labels}
    figure.update_xaxes(showgrid=False, zeroline=False, title=axes[0])
    figure.update_yaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(title=axes[1], col=1)
    return faceted(figure, 460, coloraxis={"cmin": 0, "colorbar": bar}, **LAYOUT)


def _units(table: pd.DataFrame, is_mixture: bool) -> Section:
    measured = (
        " The KL term of a unit under the VampPrior is measured against the prior's marginal of "
        "that unit; the mixture ties its units together, so that they do not add up to the whole."
    )
    text = (
        f"A unit is active where the variance over users of its posterior mean exceeds {ACTIVE} "
        f"(Burda et al. 2016).{measured if is_mixture else ''}"
    )
    active = table.groupby("level")["active"].agg(["sum", "size"])
    names = {level: f"{level}: {n} of {of} active" for level, n, of in active.itertuples()}
    figure = px.scatter(
        table.assign(level=table["level"].map(names)),
        x="variance",
        y="kl",
        color="level",
        color_discrete_sequence=COLOURS,
        log_x=True,
        opacity=0.7,
        hover_data={"unit": True, "variance": ":.3g", "kl": ":.3g"},
    )
    figure.add_vline(x=ACTIVE, line={"color": GREY, "dash": "dash"})
    figure.update_xaxes(title="variance over users of the posterior mean")
    figure.update_yaxes(title="KL term, nats per user", rangemode="tozero")
    return Section("Latent units", [text, styled(figure, 380, showlegend=True, **LAYOUT)])


def _levels(tables: Mapping[str, pd.DataFrame], metrics: Mapping[str, str]) -> Section:
    table = tables["levels"]
    several = len(table) > 1
    given = " That of z1 is measured given z2." if several else ""
    parts: list[str | Table | go.Figure] = [
        f"The KL term of a level is what it tells about a user beyond the prior.{given} Estimated "
        f"from {DRAWS} draws for each training user.",
        Table(table, {"kl": "KL, nats per user"}, {"kl": ".2f"}),
    ]
    if metrics:
        which = (
            "z1 becomes the mean of p(z1 | z2), z2 the mean of the prior (the z1 beside it stays "
            "what the user's history made it). With both replaced everybody has the same scores."
            if several
            else "Everybody then has the same scores."
        )
        names = {**metrics, "log_likelihood": "log-likelihood, nats"}
        parts += [
            "What is lost where a level is replaced by its prior's mean, for the test users. "
            f"{which} The log-likelihood is that of the history the user is scored from, by "
            "interaction.",
            Table(tables["replaced_levels"], names, {"log_likelihood": ".3f"}),
        ]
    return Section("What z1 and z2 carry" if several else "What z carries", parts)


def _gates(tables: Mapping[str, pd.DataFrame]) -> Section:
    table = Table(
        tables["gates"],
        {"std": "deviation over users", "single_item_mean": "mean, one item"},
        {"mean": ".3f", "std": ".3f", "shut": ".1%", "open": ".1%", "single_item_mean": ".3f"},
    )
    parts = [
        "The gate of a layer is sigmoid(x V + c) (equation 7): 0 lets nothing through, 1 all. "
        "The mean over a layer's units, at posterior means, of the training users; the shares of "
        "gates nearly shut (below 0.1) and nearly open (above 0.9); and the mean for imaginary "
        "users with a history of one item.",
        table,
        "By item popularity, the number of an item's training interactions: users grouped by the "
        "mean popularity of their history, and histories of one item by that item's own.",
        _gate_curves(tables["gates_by_popularity"]),
    ]
    return Section("Gates", parts)


def _gate_curves(table: pd.DataFrame) -> go.Figure:
    ways = {"users": "users, by their history", "items": "one item alone, by its own"}
    figure = px.line(
        table.assign(popularity=_ranges(table), way=table["grouped"].map(ways)),
        x="popularity",
        y="mean",
        error_y="mean_se",
        color="layer",
        color_discrete_sequence=COLOURS,
        facet_col="way",
        markers=True,
    )
    figure.update_traces(error_y_thickness=1)
    figure.update_xaxes(matches=None, type="category")
    figure.update_yaxes(title="mean gate", col=1)
    # Above the titles of the two halves.
    return faceted(figure, 400, **LAYOUT).update_layout(margin_t=80, legend_y=1.12)


def _quality(tables: Mapping[str, pd.DataFrame], names: Mapping[str, str]) -> list[Section]:
    text = (
        "On the held-out interactions of the test users, all items ranked but those a user is "
        "known to have; ± is the standard error over users."
    )
    by_history = (
        "The history a user is scored from. Users with a long one have more held-out interactions "
        "as well, as a rule, and so more that can be hit."
    )
    by_popularity = (
        "Held-out interactions grouped by the number of training interactions of their item, into "
        "groups of about equal size. A group's metrics count its own items only, at the rank they "
        "have in the whole list. Recommended is the group's share of all places in the lists."
    )
    sections = [Section("Quality of recommendations", [text])]
    for title, about, key, group in (
        ("By length of history", by_history, "history", "length of history"),
        ("By popularity of the item", by_popularity, "popularity", "popularity of the item"),
    ):
        table = tables[f"quality_by_{key}"]
        shown = table.drop(columns=["from", "to"])
        shown.insert(0, group, _ranges(table))
        shares = {"held_out": ".1%", "recommended": ".1%"}
        parts = [about, _bars(table, group, names)]
        parts.append(Table(shown, {**names, "held_out": "held out"}, shares))
        sections.append(Section(title, parts, level=3))
    return sections


def _bars(table: pd.DataFrame, title: str, names: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    for colour, (metric, name) in zip(COLOURS, names.items()):
        error = {"array": table[f"{metric}_se"], "thickness": 1}
        look = {"name": name, "marker_color": colour}
        figure.add_bar(x=_ranges(table), y=table[metric], error_y=error, **look)
    figure.update_xaxes(title=title, type="category")
    return styled(figure, 320, **LAYOUT)


def _ranges(table: pd.DataFrame) -> list[str]:
    bounds = zip(table["from"].map("{:.0f}".format), table["to"].map("{:.0f}".format))
    return [low if low == high else f"{low} to {high}" for low, high in bounds]
