"""Inspect a trained model, as tidy frames, as CSV files and as a page."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.utils import get_model
from torch import Tensor
from tqdm import tqdm

from recbole_evcf.config.names import unknown_model
from recbole_evcf.data import atomic
from recbole_evcf.data.histories import Histories
from recbole_evcf.inspection import gates, levels, prior, quality
from recbole_evcf.inspection.latent import LatentModel, history_batches
from recbole_evcf.inspection.report import report
from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.models import MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.report.table import value_and_error
from recbole_evcf.trainer.checkpoint import load_checkpoint
from recbole_evcf.trainer.generators import drawing_apart

__all__ = ["TABLES", "Inspection", "check_folder", "inspect_loaded", "inspect_model", "item_names"]

# Every possible table.
TABLES = (
    "components",
    "component_items",
    "density",
    "gates",
    "gates_by_popularity",
    "levels",
    "quality_by_history",
    "quality_by_popularity",
    "replaced_levels",
    "units",
    "users",
)
TOP_ITEMS = 10
# Groups along popularity and length of history.
N_GROUPS = 5
# Users are sampled above these numbers: for work on users x components x units, and on
# users x points of the grid.
MARGINAL_USERS, DENSITY_USERS = 2_000, 20_000


@dataclass
class Inspection:
    """The results of inspecting a model.

    Attributes:
        facts: single values by name, in display order.
        tables: tidy frames by name, some of :data:`TABLES`, depending on the model and the data.
            A column ``x_se`` has the standard errors of ``x``.
        metrics: names of the columns ``ndcg`` and ``recall``; empty without test users.
        explained: shares of the variance on the axes of the plane, or None without it.
    """

    facts: dict[str, object] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    explained: tuple[float, float] | None = None

    def report(self, folder: str) -> list[str]:
        """Write ``report.html`` and a CSV file per table, replacing those of an older report.

        All are made elsewhere first: if one cannot be written, none is replaced.

        Args:
            folder: made if it is missing.

        Returns:
            names of the files in the folder, the page first.

        Raises:
            ValueError: there is a file where the folder would be.
        """
        check_folder(folder)
        target = Path(folder).resolve()
        target.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=".inspect-", dir=target))
        try:
            page = report(self.facts, self.tables, self.metrics, self.explained)
            page.write_html(str(hidden / "report.html"))
            for name, table in self.tables.items():
                table.to_csv(hidden / f"{name}.csv", index=False)
            names = ["report.html", *sorted(f"{name}.csv" for name in self.tables)]
            for name in names:
                os.replace(hidden / name, target / name)
            for name in set(TABLES) - set(self.tables):
                (target / f"{name}.csv").unlink(missing_ok=True)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        return names


def check_folder(folder: str) -> None:
    """Refuse an impossible folder before anything is computed.

    Raises:
        ValueError: it is a file, or lies in one.
    """
    path = Path(folder)
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{place} is a file, so nothing can be written into it.")


def inspect_model(model_file: str, dataset: str | None = None) -> Inspection:
    """Look inside a trained model of ours: its prior, latent units and levels, gates and quality.

    Latent variables and gates are looked at for the training users, quality for the test users.
    Random draws depend on the model's ``seed`` alone.

    Args:
        model_file: path of the trained model.
        dataset: its data set, only checked; by default none is expected.

    Raises:
        ValueError: the file holds no model with latent variables, or does not fit its data set.

    >>> import recbole_evcf
    >>> small = {"latent_dimension": 20, "mlp_hidden_size": [30], "n_pseudo_inputs": 40}
    >>> trained = recbole_evcf.run("Vamp", "ml-100k", epochs=1, **small)
    >>> inspection = recbole_evcf.inspect_model(trained["model_file"])
    >>> inspection.tables["levels"]["units"].tolist()
    [20]
    >>> inspection.report("inspected")[:2]
    ['report.html', 'component_items.csv']
    """
    _check_model_file(model_file, dataset)
    with _without_log():
        config, model, _, *loaders = load_data_and_model(model_file)
        return inspect_loaded(config, model, *loaders)


def inspect_loaded(
    config: Any, model: VAERecommender, train_data: Any, valid_data: Any, test_data: Any
) -> Inspection:
    """As :func:`inspect_model`, for what ``load_data_and_model`` returns."""
    with drawing_apart(config["seed"], model.device), torch.no_grad():
        return _Inspector(config, model, (train_data, valid_data, test_data)).inspect()


def _check_model_file(path: str, dataset: str | None) -> None:
    """Refuse known errors before the data are loaded."""
    settings = load_checkpoint(path, "cpu")["config"]
    if not isinstance(settings, dict) or not {"model", "dataset"} <= settings.keys():
        raise ValueError(f"{path} does not say which model it holds, or of which data set.")
    name, trained_on = str(settings["model"]), settings["dataset"]
    if dataset is not None and dataset != trained_on:
        raise ValueError(
            f"{path} was trained on {trained_on}, not on {dataset}: correct --dataset or leave it "
            "out."
        )
    try:
        model = get_model(name)
    except Exception:
        raise unknown_model(name) from None
    if not issubclass(model, VAERecommender):
        ours = ", ".join(model.__name__ for model in MODELS)
        raise ValueError(
            f"{path} holds the model {name}; inspect reads the latent variables of {ours} "
            "and their subclasses."
        )


@contextmanager
def _without_log() -> Iterator[None]:
    """Silence RecBole's log of the settings and the data set."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _Inspector:
    """Compute the tables step by step, sharing the training users' posteriors."""

    def __init__(self, config: Any, model: VAERecommender, loaders: tuple):
        self.config, self.device = config, model.device
        self.model = LatentModel(model.network)
        self.components = None if self.model.components is None else _cpu(self.model.components)
        self.dataset = loaders[0]._dataset
        self.histories = Histories.input_of(self.dataset).to(self.device)
        trained = Histories.from_dataset(self.dataset)
        self.users = trained.lengths.nonzero().squeeze(1)
        self.popularity = np.bincount(trained.columns.numpy(), minlength=trained.shape[1])
        self.items = self.dataset.field2id_token[self.dataset.iid_field][1:]
        self.names = item_names(config, self.items)
        self.phase = quality.held_out(*loaders)
        self.result = Inspection()
        self.tables = self.result.tables

    def inspect(self) -> Inspection:
        steps = (
            self._posteriors,
            self._model_facts,
            self._components,
            self._levels,
            self._plane,
            self._gates,
            self._quality,
        )
        # Nothing is shown unless the output is a terminal.
        for step in tqdm(steps, desc="Inspect", ncols=80, disable=None, leave=False):
            step()
        return self.result

    def _posteriors(self) -> None:
        """Compute the training users' posteriors, level means and average recommendation."""
        top, means = [], []
        total = torch.zeros(len(self.items), dtype=torch.float64)
        for history in history_batches(self.histories, self.users):
            top.append(_cpu(self.model.top_posterior(history)))
            means.append(self.model.means(history))
            logits = self.model.logits(*means[-1])
            total += self.model.probabilities(logits).double().sum(0).cpu()
        self.posterior = Gaussian(
            torch.cat([q.mean for q in top]), torch.cat([q.log_variance for q in top])
        )
        self.means = [torch.cat(level).cpu() for level in zip(*means)]
        self.average = (total / len(self.users)).numpy()

    def _model_facts(self) -> None:
        k = None if self.components is None else len(self.components.mean)
        self.result.facts |= {
            "model": self.config["model"],
            "data set": self.config["dataset"],
            "training users": len(self.users),
            "items": len(self.items),
            "prior": "standard normal" if k is None else f"VampPrior, {k} components",
            "likelihood": self.config["likelihood"],
        }

    def _components(self) -> None:
        users = pd.DataFrame(
            {
                self.dataset.uid_field: self.dataset.id2token(
                    self.dataset.uid_field, self.users.numpy()
                ),
                "history_length": self.histories.lengths.cpu()[self.users].numpy(),
            }
        )
        self.tables["users"] = users
        if self.components is None:
            return
        certainty, best, mean = prior.responsibilities(self.posterior, self.components)
        table = prior.component_table(self.components, best, mean)
        items = prior.component_items(self.model, self.average, self.items, TOP_ITEMS)
        if self.names is not None:
            name_of = dict(zip(self.items, self.names))
            items.insert(items.columns.get_loc("item") + 1, "name", items["item"].map(name_of))
        users["component"], users["responsibility"] = best, certainty
        self.tables.update(components=table, component_items=items)
        effective = prior.effective_number(table["share"].to_numpy())
        self.result.facts |= {
            "components that explain a user best": int((table["users"] > 0).sum()),
            "effective number of components": effective,
        }

    def _levels(self) -> None:
        kl, lower_units = levels.level_kl(self.model, self.histories, self.users)
        some = _some(self.posterior, MARGINAL_USERS)
        unit_kl = [levels.marginal_kl(some, self.components)]
        unit_kl += [] if lower_units is None else [lower_units]
        units, rows = [], []
        for level, means, values in zip(self.model.levels, self.means, unit_kl):
            table = levels.unit_table(level, means, values)
            active = int(table["active"].sum())
            of_level = quality.mean_and_error(kl[[level]].rename(columns={level: "kl"}))
            rows.append({"level": level, "units": len(table), "active": active, **of_level})
            units.append(table)
            self.result.facts[f"active units of {level}"] = f"{active} of {len(table)}"
        self.tables["units"] = pd.concat(units, ignore_index=True)
        self.tables["levels"] = pd.DataFrame(rows)

    def _plane(self) -> None:
        means = self.posterior.mean.double().numpy()
        if min(means.shape) < 2:
            return
        plane = prior.fit_plane(means)
        first, second = np.nan_to_num(plane.explained_variance_ratio_)
        self.result.explained = float(first), float(second)
        users = self.tables["users"]
        users["pc1"], users["pc2"] = plane.transform(means).T
        posterior = _some(self.posterior, DENSITY_USERS)
        normal = Gaussian(*torch.zeros(2, 1, means.shape[1]))
        mixtures = {"aggregated_posterior": posterior, "prior": self.components or normal}
        self.tables["density"] = prior.density_table(plane, mixtures)
        if self.components is not None:
            table = self.tables["components"]
            points = plane.transform(self.components.mean.double().numpy())[table["component"]]
            table["pc1"], table["pc2"] = points.T

    def _gates(self) -> None:
        if not gates.gate_layers(self.model):
            return
        histories = history_batches(self.histories, self.users)
        users, extremes = gates.gate_values(self.model, histories)
        single = gates.single_item_histories(len(self.items), self.device)
        items, _ = gates.gate_values(self.model, single)
        of_users = gates.mean_popularity(self.histories, self.users, self.popularity)
        self.tables["gates"] = gates.gate_table(users, extremes, items)
        self.tables["gates_by_popularity"] = gates.gates_by_popularity(
            users, items, of_users, self.popularity, N_GROUPS
        )

    def _quality(self) -> None:
        positives = self.phase.positives
        users = positives.lengths.nonzero().squeeze(1)
        self.result.facts["test users"] = len(users)
        if len(users) == 0:
            return
        k = min(_cutoff(self.config), len(self.items))
        truncated = "truncatedrecall" in [str(name).lower() for name in self.config["metrics"]]
        recall = "Truncated recall" if truncated else "Recall"
        self.result.metrics = {"ndcg": f"NDCG@{k}", "recall": f"{recall}@{k}"}
        plain = partial(levels.logits_without, self.model, "nothing")
        ranking = quality.rank(plain, self.histories, self.phase, users, k)
        metrics = quality.per_user(ranking.hits, ranking.targets, truncated)
        overall = quality.mean_and_error(metrics)
        for key, name in self.result.metrics.items():
            text = value_and_error(overall[key], overall[f"{key}_se"])
            self.result.facts[f"{name} on test users"] = text
        lengths = self.histories.lengths.cpu()[users].numpy()
        by_history = quality.means_by_group(metrics, lengths, N_GROUPS)
        self.tables.update(
            replaced_levels=levels.replaced_levels(
                self.model, self.histories, self.phase, users, k, truncated
            ),
            quality_by_history=by_history.rename(columns={"count": "users"}),
            quality_by_popularity=quality.quality_by_popularity(
                ranking, positives, users, self.popularity, truncated, N_GROUPS
            ),
        )


def _cutoff(config: Any) -> int:
    """Return K of the validation metric, or the first of ``topk`` if it has none."""
    k = str(config["valid_metric"]).partition("@")[2]
    return int(k) if k else int(config["topk"][0])


def _some(posterior: Gaussian, at_most: int) -> Gaussian:
    """Return all rows, or a sample without replacement."""
    n = len(posterior.mean)
    if n <= at_most:
        return posterior
    rows: Tensor = torch.randperm(n)[:at_most].sort().values
    return Gaussian(posterior.mean[rows], posterior.log_variance[rows])


def _cpu(gaussian: Gaussian) -> Gaussian:
    return Gaussian(gaussian.mean.cpu(), gaussian.log_variance.cpu())


def item_names(config: Any, tokens: np.ndarray) -> np.ndarray | None:
    """Return a name for each item, its original id where the file has none.

    RecBole loads columns of the .item file only where ``load_col`` asks for them, so the file is
    read here. Names are in the first column of words with *title* in its field, or else *name*.

    Args:
        config: RecBole's ``Config`` of the data set.
        tokens: original item ids, (items,).

    Returns:
        (items,), or None without an .item file or without a column of names in it.

    Raises:
        ValueError: the file cannot be read.
    """
    path = os.path.join(config["data_path"], f"{config['dataset']}.item")
    if not os.path.isfile(path):
        return None
    separator, encoding = config["field_separator"], config["encoding"]
    id_field = config["ITEM_ID_FIELD"]
    # A film may be called None, or NA.
    form = {"sep": separator, "encoding": encoding, "dtype": str, "keep_default_na": False}
    atomic.check_header(path, separator, encoding, required=(id_field,))
    with atomic.reading(path, separator, encoding):
        header = list(pd.read_csv(path, nrows=0, engine="python", **form))
        column = _name_column(header, id_field)
        if column is None:
            return None
        id_column = next(field for field in header if field.partition(":")[0] == id_field)
        table = pd.read_csv(path, usecols=[id_column, column], engine="python", **form)
    names = table.drop_duplicates(id_column).set_index(id_column)[column]
    if column.endswith(":token_seq"):
        names = names.str.replace(config["seq_separator"], " ", regex=False)
    found = names[names != ""].reindex(tokens)
    return found.where(found.notna(), tokens).to_numpy(dtype=object)


def _name_column(header: list[str], id_field: str) -> str | None:
    # A title is the name, even next to a column such as studio_name.
    for word in ("title", "name"):
        for column in header:
            field, _, kind = column.partition(":")
            if field != id_field and kind in ("token", "token_seq") and word in field.lower():
                return column
    return None
