"""How far the gates of equation 7 stand open, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.inspection.buckets import equal_frequency, mean_and_error
from recbole_evcf.inspection.latent import LatentModel, batches
from recbole_evcf.model.layers import GatedLayer

__all__ = ["gate_layers", "gate_table", "gates_by_popularity", "openings", "single_item_histories"]

# A gate below the one is called shut, above the other open.
SHUT, OPEN = 0.1, 0.9


def gate_layers(model: LatentModel) -> dict[str, GatedLayer]:
    """The gated layers, in the order of the network, by the distribution they are a part of."""
    decoder = "p(x | z1, z2)" if model.hierarchical else "p(x | z)"
    parts = {
        "encoder": "q(z | x)",
        "encoder_z2": "q(z2 | x)",
        "encoder_z1": "q(z1 | x, z2)",
        "prior_z1": "p(z1 | z2)",
        "decoder": decoder,
    }
    paths = {
        path: layer
        for path, layer in model.network.named_modules()
        if isinstance(layer, GatedLayer)
    }
    part_of = {path: path.partition(".")[0] for path in paths}
    alone = {part for part in part_of.values() if list(part_of.values()).count(part) == 1}
    # Where a distribution has several layers, the name of the module tells them apart.
    return {
        parts[part_of[path]]
        + ("" if part_of[path] in alone else f" {path.partition('.')[2]}"): layer
        for path, layer in paths.items()
    }


def openings(
    model: LatentModel, inputs: Iterable[HistoryBatch]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """sigmoid(x V + c) of every gated layer while histories are encoded, at posterior means, and
    decoded.

    Args:
        model: the network.
        inputs: batches of binary histories.

    Returns:
        the mean over a layer's units, a row per history and a column per layer; and ``shut`` and
        ``open`` by layer, the shares of its gates (over histories and units) below 0.1 and above
        0.9.
    """
    layers = gate_layers(model)
    means, shut, opened = ({name: [] for name in layers} for _ in range(3))

    def record(name: str, gate, args, output: Tensor) -> None:
        opening = torch.sigmoid(output.float())
        means[name].append(opening.mean(1).cpu())
        shut[name].append((opening < SHUT).float().mean(1).cpu())
        opened[name].append((opening > OPEN).float().mean(1).cpu())

    with _watching({name: layer.gate for name, layer in layers.items()}, record):
        for history in inputs:
            top, *lower = model.means(history)
            model.below(top)
            model.logits(top, *lower)
    table, closed, wide = (
        pd.DataFrame({name: torch.cat(parts).double().numpy() for name, parts in part.items()})
        for part in (means, shut, opened)
    )
    return table, pd.DataFrame({"shut": closed.mean(), "open": wide.mean()})


@contextmanager
def _watching(modules: dict, record) -> Iterator[None]:
    hooks = [
        module.register_forward_hook(partial(record, name)) for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def single_item_histories(n_items: int, device: torch.device) -> Iterator[HistoryBatch]:
    """Batches of imaginary users with one item each, every item once and in order."""
    for columns in batches(torch.arange(n_items, device=device), n_items):
        place = torch.arange(len(columns), device=device)
        yield HistoryBatch(place, columns, place, torch.ones_like(place), n_items)


def gate_table(users: pd.DataFrame, extremes: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """A row per layer: ``layer``; ``mean`` and ``std`` over users; ``shut`` and ``open``; and
    ``single_item_mean``, the mean over histories of a single item.

    Args:
        users, extremes: :func:`openings` of the users' histories.
        items: of the histories of single items.
    """
    return pd.DataFrame(
        {
            "layer": users.columns,
            "mean": users.mean().to_numpy(),
            "std": users.std().to_numpy(),
            "shut": extremes["shut"].to_numpy(),
            "open": extremes["open"].to_numpy(),
            "single_item_mean": items.mean().to_numpy(),
        }
    )


def gates_by_popularity(
    users: pd.DataFrame,
    items: pd.DataFrame,
    histories: Histories,
    ids: Tensor,
    popularity: np.ndarray,
    n: int,
) -> pd.DataFrame:
    """Mean openings along item popularity, in groups of equal numbers, measured in two ways.

    Args:
        users: :func:`openings` of the users' histories.
        items: of the histories of single items, an item after the other.
        histories: the input histories.
        ids: user ids, (users,), with a history each.
        popularity: number of training interactions, (items,).
        n: number of groups.

    Returns:
        a row per way, layer and group: ``grouped`` (``users`` by the mean popularity of their
        history, or ``items``, each alone in a history, by their own), ``layer``,
        ``from``, ``to`` (popularity), ``count``, ``mean`` and its standard error ``mean_se``.
    """
    batch = histories.rows(ids.to(histories.starts.device))
    of_entries = torch.from_numpy(popularity).double()[batch.column.cpu()]
    of_users = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, batch.row.cpu(), of_entries)
    of_users = (of_users / batch.lengths.cpu()).numpy()
    rows = []
    for grouped, table, along in (("users", users, of_users), ("items", items, popularity)):
        group = equal_frequency(along, n)
        for layer in table:
            for bucket in range(group.max() + 1):
                inside = group == bucket
                mean, error = mean_and_error(table[layer].to_numpy()[inside])
                rows.append(
                    {
                        "grouped": grouped,
                        "layer": layer,
                        "from": along[inside].min(),
                        "to": along[inside].max(),
                        "count": inside.sum(),
                        "mean": mean,
                        "mean_se": error,
                    }
                )
    return pd.DataFrame(rows)
