"""The page that shows an inspection. It draws; the figures are computed elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from recbole_evcf.evaluator.per_user import with_error
from recbole_evcf.inspection.inspection import Inspection
from recbole_evcf.inspection.levels import DRAWS
from recbole_evcf.inspection.units import ACTIVE
from recbole_evcf.report.figure import drawn_text, styled
from recbole_evcf.report.page import Page
from recbole_evcf.utils.text import shortened

__all__ = ["page"]

# Rows of the table of components, items named in a row, and components named in the plane.
N_COMPONENTS, N_ITEMS, N_LABELS = 15, 6, 20
# Room that a label takes, as shares of the width and height of what is drawn.
LABEL_ROOM = (0.24, 0.07)
# More users would hide one another and swell the file.
N_DOTS = 3000

BLUE, ORANGE, GREEN, GREY = "#2a6f97", "#d1495b", "#3a7d44", "#9aa5b1"
FONT = {"family": "system-ui, sans-serif", "size": 13}
COLOURS = (BLUE, ORANGE, GREEN, "#8e6bbf", "#c08a1e", GREY)


def page(inspection: Inspection) -> Page:
    """The report: a section for each kind of table that the inspection has."""
    result = Page(f"Inside {inspection.facts['model']} on {inspection.facts['data set']}")
    result.table(
        ["", ""], [(name, _fact(value)) for name, value in inspection.facts.items()], words=(0, 1)
    )
    tables = inspection.tables
    if "components" in tables:
        _components(result, tables)
    else:
        result.heading("The prior")
        result.paragraph(
            "The prior is the standard normal distribution. It has no components; what follows "
            "applies to it all the same."
        )
    if "density" in tables:
        _plane(result, inspection)
    _units(result, tables)
    _levels(result, inspection)
    if "gates" in tables:
        _gates(result, tables)
    if inspection.cutoff is not None:
        _quality(result, inspection)
    return result


def _fact(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _components(result: Page, tables: dict[str, pd.DataFrame]) -> None:
    table, items = tables["components"], tables["component_items"]
    result.heading("Components of the prior")
    used = int((table["users"] > 0).sum())
    result.paragraph(
        "A component q(z | u) of the VampPrior is the posterior of a learned pseudo-input u, an "
        "imaginary user. Its weight in practice is the share of training users whose posterior "
        "it explains best: of all components it has the smallest KL divergence from that "
        f"posterior. {used} of {len(table)} components explain a user best."
    )
    result.figure(_weights(table, _labels(items)))
    result.paragraph(
        "A component is decoded like a user. The most probable items are popular ones with most "
        "components; what sets a component apart are the items that contribute most to the "
        "divergence of its recommendations from the average user's, p log(p / average). In "
        "brackets: how many times as probable as for the average user. Spread is the mean over "
        "units of the standard deviation of q(z | u)."
    )
    by = {
        kind: {k: part.head(N_ITEMS) for k, part in items[items["by"] == kind].groupby("component")}
        for kind in ("distinction", "probability")
    }
    result.table(
        ["component", "users", "share", "spread", "what sets it apart", "most probable"],
        [
            [
                row.component,
                row.users,
                f"{row.share:.1%}",
                f"{row.spread:.2f}",
                _item_list(by["distinction"][row.component], lift=True),
                _item_list(by["probability"][row.component], lift=False),
            ]
            for row in table[table["users"] > 0].head(N_COMPONENTS).itertuples()
        ],
        words=(4, 5),
    )
    if len(table) > min(N_COMPONENTS, used):
        result.paragraph(
            f"The {min(N_COMPONENTS, used)} components with most users; components.csv and "
            "component_items.csv hold all."
        )


def _item_list(items: pd.DataFrame, lift: bool) -> str:
    names = _names(items)
    if lift:
        return "; ".join(f"{name} ({times:.1f})" for name, times in zip(names, items.lift))
    return "; ".join(names)


def _names(items: pd.DataFrame) -> pd.Series:
    return items["name" if "name" in items else "item"].map(shortened)


def _labels(items: pd.DataFrame) -> pd.Series:
    """The three items that set each component apart most, as lines of HTML, by component."""
    apart = items[(items["by"] == "distinction") & (items["rank"] <= 3)]
    names = _names(apart).map(drawn_text)
    return names.groupby(apart["component"]).agg("<br>".join)


def _weights(table: pd.DataFrame, labels: pd.Series) -> go.Figure:
    figure = go.Figure(
        go.Bar(
            x=np.arange(1, len(table) + 1),
            y=table["share"],
            marker={"color": BLUE, "line": {"width": 0}},
            customdata=np.stack([table["component"], labels[table["component"]]], axis=1),
            hovertemplate="component %{customdata[0]}: %{y:.1%}<br>%{customdata[1]}<extra></extra>",
        )
    )
    figure.add_scatter(
        x=np.arange(1, len(table) + 1),
        y=table["mean_responsibility"],
        mode="markers",
        marker={"color": ORANGE, "size": 4},
        name="mean responsibility",
        hoverinfo="skip",
    )
    figure.data[0].name = "share of users explained best"
    figure.update_xaxes(title="components, by weight")
    figure.update_yaxes(title="share of users", tickformat=".1%")
    return _styled(figure, 320)


def _plane(result: Page, inspection: Inspection) -> None:
    tables = inspection.tables
    result.heading("Aggregated posterior and prior")
    first, second = inspection.explained
    result.paragraph(
        "The plane of the first two principal components of the training users' posterior "
        f"means, which hold {first:.1%} and {second:.1%} of their variance."
    )
    axes = [f"PC {n} ({share:.1%})" for n, share in enumerate(inspection.explained, 1)]
    result.figure(_map(tables, axes))
    dots = " Dots are the components in use." if "components" in tables else ""
    result.paragraph(
        "The densities in that plane: of the aggregated posterior, the mean of q(z | x) over the "
        "training users, and of the prior that should match it. The same colour is the same "
        f"density, and half the depth of colour a quarter of it.{dots}"
    )
    result.figure(_densities(tables, axes))


def _map(tables: dict[str, pd.DataFrame], axes: list[str]) -> go.Figure:
    users = tables["users"]
    if len(users) > N_DOTS:
        users = users.sample(N_DOTS, random_state=0)
    figure = go.Figure(
        go.Scatter(
            x=users["pc1"],
            y=users["pc2"],
            mode="markers",
            marker={"color": GREY, "size": 4, "opacity": 0.55},
            name="users (posterior means)",
            hoverinfo="skip",
        )
    )
    if "components" in tables:
        _add_components(figure, tables["components"], _labels(tables["component_items"]))
    figure.update_xaxes(title=axes[0], zeroline=False)
    figure.update_yaxes(title=axes[1], zeroline=False)
    return _styled(figure, 620)


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
    for place in _apart(used[["pc1", "pc2"]].to_numpy(), names):
        figure.add_annotation(
            x=used["pc1"].iloc[place],
            y=used["pc2"].iloc[place],
            text=names[place],
            showarrow=False,
            yshift=17,
            font={"size": 12, "color": "#222"},
            bgcolor="rgba(255,255,255,0.5)",
        )


def _apart(points: np.ndarray, names: list[str]) -> list[int]:
    """Places of the first points whose names differ and, written there, do not meet."""
    reach = np.ptp(points, axis=0).clip(min=1e-9) * LABEL_ROOM
    chosen: list[int] = []
    for place, point in enumerate(points):
        near = (np.abs(points[chosen] - point) < reach).all(axis=1)
        new = names[place] not in [names[other] for other in chosen]
        if len(chosen) < N_LABELS and new and not near.any():
            chosen.append(place)
    return chosen


def _densities(tables: dict[str, pd.DataFrame], axes: list[str]) -> go.Figure:
    density = tables["density"]
    titles = ("aggregated posterior", "prior")
    figure = make_subplots(
        cols=2, subplot_titles=titles, shared_xaxes=True, shared_yaxes=True, horizontal_spacing=0.04
    )
    # The square root shows what lies thinly spread beside what is heaped up.
    deepest = np.sqrt(density[["aggregated_posterior", "prior"]].to_numpy().max())
    ticks = np.linspace(0, deepest, 5)
    for column, name in enumerate(("aggregated_posterior", "prior"), 1):
        grid = density.pivot(index="pc2", columns="pc1", values=name)
        figure.add_trace(
            go.Heatmap(
                x=grid.columns,
                y=grid.index,
                z=np.sqrt(grid.to_numpy()),
                zmin=0,
                zmax=deepest,
                colorscale="Blues",
                zsmooth="best",
                showscale=column == 2,
                colorbar={
                    "title": "density",
                    "tickvals": ticks,
                    "ticktext": [f"{tick**2:.2g}" for tick in ticks],
                },
                hoverinfo="skip",
            ),
            row=1,
            col=column,
        )
        if "components" in tables:
            used = tables["components"].query("users > 0")
            figure.add_trace(
                go.Scatter(
                    x=used["pc1"],
                    y=used["pc2"],
                    mode="markers",
                    marker={"color": ORANGE, "size": 4},
                    showlegend=False,
                    hoverinfo="skip",
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title=axes[0], row=1, col=column)
    figure.update_xaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(showgrid=False, zeroline=False)
    figure.update_yaxes(title=axes[1], col=1)
    return _styled(figure, 460)


def _units(result: Page, tables: dict[str, pd.DataFrame]) -> None:
    table = tables["units"]
    result.heading("Latent units")
    measured = (
        " The KL term of a unit under the VampPrior is measured against the prior's marginal of "
        "that unit; the mixture ties its units together, so that they do not add up to the whole."
        if "components" in tables
        else ""
    )
    result.paragraph(
        f"A unit is active where the variance over users of its posterior mean exceeds {ACTIVE} "
        f"(Burda et al. 2016).{measured}"
    )
    figure = go.Figure()
    for colour, (level, part) in zip(COLOURS, table.groupby("level", sort=False)):
        figure.add_scatter(
            x=part["variance"],
            y=part["kl"],
            mode="markers",
            marker={"color": colour, "size": 6, "opacity": 0.7},
            name=f"{level}: {part['active'].sum()} of {len(part)} active",
            customdata=part["unit"],
            hovertemplate=f"{level}, unit %{{customdata}}<br>variance %{{x:.3g}}"
            "<br>KL %{y:.3g} nats<extra></extra>",
            showlegend=True,
        )
    figure.add_vline(x=ACTIVE, line={"color": GREY, "dash": "dash"})
    figure.update_xaxes(type="log", title="variance over users of the posterior mean")
    figure.update_yaxes(title="KL term, nats per user", rangemode="tozero")
    result.figure(_styled(figure, 380))


def _levels(result: Page, inspection: Inspection) -> None:
    table = inspection.tables["levels"]
    several = len(table) > 1
    result.heading("What z1 and z2 carry" if several else "What z carries")
    given = " That of z1 is measured given z2." if several else ""
    result.paragraph(
        f"The KL term of a level is what it tells about a user beyond the prior.{given} Estimated "
        f"from {DRAWS} draws for each training user."
    )
    result.table(
        ["level", "units", "active", "KL, nats per user"],
        [
            [row.level, row.units, row.active, with_error(row.kl, row.kl_se, 2)]
            for row in table.itertuples()
        ],
    )
    if "replaced_levels" not in inspection.tables:
        return
    which = (
        "z1 becomes the mean of p(z1 | z2), z2 the mean of the prior (the z1 beside it stays what "
        "the user's history made it). With both replaced everybody has the same scores."
        if several
        else "Everybody then has the same scores."
    )
    result.paragraph(
        "What is lost where a level is replaced by its prior's mean, for the test users. "
        f"{which} The log-likelihood is that of the history the user is scored from, by "
        "interaction."
    )
    result.table(
        ["replaced", *_metric_names(inspection), "log-likelihood, nats"],
        [
            [
                row.replaced,
                with_error(row.ndcg, row.ndcg_se, 4),
                with_error(row.recall, row.recall_se, 4),
                with_error(row.log_likelihood, row.log_likelihood_se, 3),
            ]
            for row in inspection.tables["replaced_levels"].itertuples()
        ],
    )


def _gates(result: Page, tables: dict[str, pd.DataFrame]) -> None:
    result.heading("Gates")
    result.paragraph(
        "The gate of a layer is sigmoid(x V + c) (equation 7): 0 lets nothing through, 1 all. "
        "The mean over a layer's units, at posterior means, of the training users; the shares of "
        "gates nearly shut (below 0.1) and nearly open (above 0.9); and the mean for imaginary "
        "users with a history of one item."
    )
    result.table(
        ["layer", "mean", "deviation over users", "shut", "open", "mean, one item"],
        [
            [
                row.layer,
                f"{row.mean:.3f}",
                f"{row.std:.3f}",
                f"{row.shut:.1%}",
                f"{row.open:.1%}",
                f"{row.single_item_mean:.3f}",
            ]
            for row in tables["gates"].itertuples()
        ],
    )
    result.paragraph(
        "By item popularity, the number of an item's training interactions: users grouped by the "
        "mean popularity of their history, and histories of one item by that item's own."
    )
    result.figure(_gate_curves(tables["gates_by_popularity"]))


def _gate_curves(table: pd.DataFrame) -> go.Figure:
    ways = {"users": "users, by their history", "items": "one item alone, by its own"}
    figure = make_subplots(cols=2, subplot_titles=tuple(ways.values()), shared_yaxes=True)
    for column, way in enumerate(ways, 1):
        part = table[table["grouped"] == way]
        for colour, (layer, line) in zip(_cycle(part), part.groupby("layer", sort=False)):
            figure.add_trace(
                go.Scatter(
                    x=_ranges(line),
                    y=line["mean"],
                    error_y={"array": line["mean_se"], "thickness": 1},
                    mode="lines+markers",
                    marker={"color": colour},
                    name=layer,
                    legendgroup=layer,
                    showlegend=column == 1,
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title="popularity", type="category", row=1, col=column)
    figure.update_yaxes(title="mean gate", col=1)
    # Above the titles of the two halves.
    return _styled(figure, 400).update_layout(margin_t=80, legend_y=1.12)


def _cycle(part: pd.DataFrame) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(part["layer"].nunique())]


def _quality(result: Page, inspection: Inspection) -> None:
    history = inspection.tables["quality_by_history"]
    popularity = inspection.tables["quality_by_popularity"]
    names = _metric_names(inspection)
    result.heading("Quality of recommendations")
    result.paragraph(
        "On the held-out interactions of the test users, all items ranked but those a user is "
        "known to have; ± is the standard error over users."
    )
    result.heading("By length of history", level=3)
    result.paragraph(
        "The history a user is scored from. Users with a long one have more held-out interactions "
        "as well, as a rule, and so more that can be hit."
    )
    result.figure(_bars(history, "length of history", names))
    result.table(
        ["length", "users", *names],
        [
            [
                label,
                row.users,
                with_error(row.ndcg, row.ndcg_se, 4),
                with_error(row.recall, row.recall_se, 4),
            ]
            for label, row in zip(_ranges(history), history.itertuples())
        ],
    )
    result.heading("By popularity of the item", level=3)
    result.paragraph(
        "Held-out interactions grouped by the number of training interactions of their item, into "
        "groups of about equal size. A group's metrics count its own items only, at the rank they "
        "have in the whole list. Recommended is the group's share of all places in the lists."
    )
    result.figure(_bars(popularity, "popularity of the item", names))
    result.table(
        ["popularity", "items", "held out", "recommended", "users", *names],
        [
            [
                label,
                row.items,
                f"{row.held_out:.1%}",
                f"{row.recommended:.1%}",
                row.users,
                with_error(row.ndcg, row.ndcg_se, 4),
                with_error(row.recall, row.recall_se, 4),
            ]
            for label, row in zip(_ranges(popularity), popularity.itertuples())
        ],
    )


def _bars(table: pd.DataFrame, title: str, names: list[str]) -> go.Figure:
    figure = go.Figure()
    for metric, name, colour in zip(("ndcg", "recall"), names, COLOURS):
        figure.add_bar(
            x=_ranges(table),
            y=table[metric],
            error_y={"array": table[f"{metric}_se"], "thickness": 1},
            marker={"color": colour},
            name=name,
        )
    figure.update_xaxes(title=title, type="category")
    return _styled(figure, 320)


def _ranges(table: pd.DataFrame) -> list[str]:
    return [
        f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
        for low, high in zip(table["from"], table["to"])
    ]


def _metric_names(inspection: Inspection) -> list[str]:
    return [f"{name}@{inspection.cutoff}" for name in ("NDCG", inspection.recall.capitalize())]


def _styled(figure: go.Figure, height: int) -> go.Figure:
    margin = {"l": 60, "r": 20, "t": 40, "b": 50}
    return styled(figure, height, margin=margin, font=FONT)
