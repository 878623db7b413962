"""Measure how far the gates of equation 7 are open, by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.inspection.latent import LatentModel, batches
from recbole_evcf.inspection.quality import means_by_group
from recbole_evcf.model.layers import GatedLayer

__all__ = [
    "gate_layers",
    "gate_table",
    "gate_values",
    "gates_by_popularity",
    "single_item_histories",
]

# A gate below the first is called shut, above the second open.
SHUT, OPEN = 0.1, 0.9


def gate_layers(model: LatentModel) -> dict[str, GatedLayer]:
    """Return the gated layers in network order, by the distribution they belong to."""
    decoder = "p(x | z1, z2)" if model.hierarchical else "p(x | z)"
    distributions = {
        "encoder": "q(z | x)",
        "encoder_z2": "q(z2 | x)",
        "encoder_z1": "q(z1 | x, z2)",
        "prior_z1": "p(z1 | z2)",
        "decoder": decoder,
    }
    modules = model.network.named_modules()
    found = [(*path.partition(".")[::2], m) for path, m in modules if isinstance(m, GatedLayer)]
    count = Counter(part for part, *_ in found)
    # The module's name distinguishes a distribution's layers if it has several.
    return {
        distributions[part] + (f" {name}" if count[part] > 1 else ""): layer
        for part, name, layer in found
    }


def gate_values(
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
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def record(name: str, module: torch.nn.Module, args: tuple, output: Tensor) -> None:
        gate = torch.sigmoid(output.float())
        parts = (gate, (gate < SHUT).float(), (gate > OPEN).float())
        found[name].append(torch.stack([part.mean(1) for part in parts]).cpu())

    hooks = [
        layer.gate.register_forward_hook(partial(record, name)) for name, layer in layers.items()
    ]
    try:
        for history in inputs:
            top, *lower = model.means(history)
            model.below(top)
            model.logits(top, *lower)
    finally:
        for hook in hooks:
            hook.remove()
    values = {name: torch.cat(parts, dim=1).double() for name, parts in found.items()}
    means, shut, wide = (
        pd.DataFrame({name: value[n].numpy() for name, value in values.items()}) for n in range(3)
    )
    return means, pd.DataFrame({"shut": shut.mean(), "open": wide.mean()})


def single_item_histories(n_items: int, device: torch.device) -> Iterator[HistoryBatch]:
    """Yield batches of imaginary users with one item each, every item once and in order."""
    for columns in batches(torch.arange(n_items, device=device), n_items):
        place = torch.arange(len(columns), device=device)
        yield HistoryBatch(place, columns, place, torch.ones_like(place), n_items)


def gate_table(users: pd.DataFrame, extremes: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Return one row per layer: ``layer``; ``mean`` and ``std`` over users; ``shut`` and ``open``;
    and ``single_item_mean``, the mean over histories of a single item.

    Args:
        users, extremes: :func:`gate_values` of the users' histories.
        items: of the histories of single items.
    """
    table = pd.DataFrame({"mean": users.mean(), "std": users.std(), **extremes})
    return table.assign(single_item_mean=items.mean()).rename_axis("layer").reset_index()


def mean_popularity(histories: Histories, ids: Tensor, popularity: np.ndarray) -> np.ndarray:
    """Return the mean popularity of the items of each user's history, (users,).

    Args:
        histories: the input histories.
        ids: user ids, (users,), with a history each.
        popularity: number of training interactions, (items,).
    """
    batch = histories.rows(ids.to(histories.starts.device))
    return (
        pd.Series(popularity[batch.column.cpu()]).groupby(batch.row.cpu().numpy()).mean().to_numpy()
    )


def gates_by_popularity(
    users: pd.DataFrame, items: pd.DataFrame, of_users: np.ndarray, of_items: np.ndarray, n: int
) -> pd.DataFrame:
    """Average gates along item popularity, in groups of equal numbers, measured in two ways.

    Args:
        users: :func:`gate_values` of the users' histories.
        items: of the histories of single items, an item after the other.
        of_users: :func:`mean_popularity`.
        of_items: popularity, (items,).
        n: number of groups.

    Returns:
        a row per way, layer and group: ``grouped`` (``users`` by the mean popularity of their
        history, or ``items``, each alone in a history, by their own), ``layer``,
        ``from``, ``to`` (popularity), ``count``, ``mean`` and its standard error ``mean_se``.
    """
    ways = {"users": (users, of_users), "items": (items, of_items)}
    return pd.concat(
        {
            (way, layer): means_by_group(pd.DataFrame({"mean": table[layer]}), along, n)
            for way, (table, along) in ways.items()
            for layer in table
        },
        names=["grouped", "layer", None],
    ).reset_index(["grouped", "layer"])
