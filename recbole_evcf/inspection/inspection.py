"""What there is to see in a trained model, as tables; nothing is drawn or written here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from recbole_evcf.data.histories import Histories
from recbole_evcf.evaluator.per_user import with_error
from recbole_evcf.inspection import components, gates, levels, projection, quality, units
from recbole_evcf.inspection.buckets import mean_and_error
from recbole_evcf.inspection.latent import LatentModel, history_batches
from recbole_evcf.inspection.names import item_names
from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.trainer.generators import drawing_apart

__all__ = ["TOP_ITEMS", "Inspection", "inspect_model"]

TOP_ITEMS = 10
# Groups along popularity and length of history.
N_GROUPS = 5
# Of more users than these, as many are drawn: for what takes users x components x units, and for
# what takes users x points of the grid.
MARGINAL_USERS, DENSITY_USERS = 2_000, 20_000


@dataclass
class Inspection:
    """A model looked into.

    Attributes:
        facts: single figures by name, in the order to show them.
        cutoff: K of the metrics, or None without held-out interactions.
        recall: the name of the Recall that was taken.
        explained: shares of the variance on the axes of the picture, or None without it.
        tables: what the report draws and the CSV files hold, by file name without ending. Which
            there are depends on the model and the data.
    """

    facts: dict[str, object]
    cutoff: int | None = None
    recall: str = "recall"
    explained: tuple[float, float] | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def inspect_model(config, model: VAERecommender, train_data, valid_data, test_data) -> Inspection:
    """Compute all tables for a model and the data it was trained and is to be tested on.

    Latent variables and gates are looked at for the training users, quality for the test users.
    Random draws depend on the config's ``seed`` alone.

    Args: as :func:`recbole_evcf.quick_start.load_data_and_model` returns them.
    """
    with drawing_apart(config["seed"], model.device), torch.no_grad():
        return _Inspector(config, model, train_data, valid_data, test_data).inspect()


class _Inspector:
    def __init__(self, config, model, train_data, valid_data, test_data):
        self.config, self.recommender = config, model
        self.model = LatentModel(model.network)
        self.dataset = train_data._dataset
        self.histories = Histories.input_of(self.dataset).to(model.device)
        trained = Histories.from_dataset(self.dataset)
        self.users = trained.lengths.nonzero().squeeze(1)
        self.popularity = np.bincount(trained.columns.numpy(), minlength=trained.shape[1])
        self.items = self.dataset.field2id_token[self.dataset.iid_field][1:]
        self.names = item_names(config, self.items)
        self.phase = quality.held_out(train_data, valid_data, test_data)
        self.result = Inspection(facts={})

    def inspect(self) -> Inspection:
        steps = (
            self._posteriors,
            self._model_facts,
            self._components,
            self._levels,
            self._projection,
            self._gates,
            self._quality,
        )
        # Where it is no terminal that looks on, nothing is shown.
        for step in tqdm(steps, desc="Inspect", ncols=80, disable=None, leave=False):
            step()
        return self.result

    def _model_facts(self) -> None:
        components = self.model.components
        prior = "standard normal"
        if components is not None:
            prior = f"VampPrior, {len(components.mean)} components"
        self.result.facts.update(
            {
                "model": self.config["model"],
                "data set": self.config["dataset"],
                "training users": len(self.users),
                "items": len(self.items),
                "prior": prior,
                "likelihood": self.config["likelihood"],
            }
        )

    def _posteriors(self) -> None:
        """Of the training users: posteriors, means of every level, average recommendation."""
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

    def _components(self) -> None:
        users = pd.DataFrame(
            {
                self.dataset.uid_field: self._user_tokens(self.users),
                "history_length": self.histories.lengths.cpu()[self.users].numpy(),
            }
        )
        self.result.tables["users"] = users
        if self.model.components is None:
            return
        assignment = components.assign(self.posterior, _cpu(self.model.components))
        table = components.component_table(_cpu(self.model.components), assignment)
        items = components.component_items(self.model, self.average, self.items, TOP_ITEMS)
        if self.names is not None:
            name_of = dict(zip(self.items, self.names))
            items.insert(items.columns.get_loc("item") + 1, "name", items["item"].map(name_of))
        users["component"], users["responsibility"] = assignment.best, assignment.certainty
        self.result.tables.update(components=table, component_items=items)
        self.result.facts.update(
            {
                "components that explain a user best": int((table["users"] > 0).sum()),
                "effective number of components": components.effective_number(
                    table["share"].to_numpy()
                ),
            }
        )

    def _levels(self) -> None:
        kl, lower_units = levels.level_kl(self.model, self.histories, self.users)
        some = _some(len(self.users), MARGINAL_USERS)
        part = Gaussian(self.posterior.mean[some], self.posterior.log_variance[some])
        prior = None if self.model.components is None else _cpu(self.model.components)
        unit_kl = [units.marginal_kl(part, prior), *([] if lower_units is None else [lower_units])]
        tables = [
            units.unit_table(level, means, values)
            for level, means, values in zip(self.model.levels, self.means, unit_kl)
        ]
        self.result.tables["units"] = pd.concat(tables, ignore_index=True)
        rows = []
        for level, table in zip(self.model.levels, tables):
            active = int(table["active"].sum())
            mean, error = mean_and_error(kl[level].to_numpy())
            rows.append(
                {"level": level, "units": len(table), "active": active, "kl": mean, "kl_se": error}
            )
            self.result.facts[f"active units of {level}"] = f"{active} of {len(table)}"
        self.result.tables["levels"] = pd.DataFrame(rows)

    def _projection(self) -> None:
        means = self.posterior.mean.double().numpy()
        if min(means.shape) < 2:
            return
        plane = projection.fit_plane(means)
        self.result.explained = tuple(plane.explained)
        users = self.result.tables["users"]
        users["pc1"], users["pc2"] = plane.project(means).T
        some = _some(len(means), DENSITY_USERS).numpy()
        mixtures = {
            "aggregated_posterior": projection.Mixture(
                means[some], self.posterior.log_variance[some].double().exp().numpy()
            ),
            "prior": self._prior(means.shape[1]),
        }
        self.result.tables["density"] = projection.density_table(plane, mixtures)
        if self.model.components is not None:
            table = self.result.tables["components"]
            points = plane.project(mixtures["prior"].mean)[table["component"]]
            table["pc1"], table["pc2"] = points.T

    def _prior(self, latent: int) -> projection.Mixture:
        if self.model.components is None:
            return projection.Mixture(np.zeros((1, latent)), np.ones((1, latent)))
        prior = _cpu(self.model.components)
        return projection.Mixture(
            prior.mean.double().numpy(), prior.log_variance.double().exp().numpy()
        )

    def _gates(self) -> None:
        if not gates.gate_layers(self.model):
            return
        users, extremes = gates.openings(self.model, history_batches(self.histories, self.users))
        single = gates.single_item_histories(len(self.items), self.recommender.device)
        items, _ = gates.openings(self.model, single)
        self.result.tables["gates"] = gates.gate_table(users, extremes, items)
        self.result.tables["gates_by_popularity"] = gates.gates_by_popularity(
            users, items, self.histories, self.users, self.popularity, N_GROUPS
        )

    def _quality(self) -> None:
        users = self.phase.positives.lengths.nonzero().squeeze(1)
        self.result.facts["test users"] = len(users)
        if len(users) == 0:
            return
        k = min(_cutoff(self.config), len(self.items))
        truncated = "truncatedrecall" in [str(name).lower() for name in self.config["metrics"]]
        self.result.cutoff = k
        self.result.recall = "truncated recall" if truncated else "recall"
        plain = levels.replacements(self.model)["nothing"]
        ranking = quality.rank(plain, self.histories, self.phase, users, k)
        metrics = quality.per_user(ranking.hits, ranking.targets, truncated)
        for name, label in (("ndcg", "NDCG"), ("recall", self.result.recall.capitalize())):
            mean_of_users = mean_and_error(metrics[name].to_numpy())
            self.result.facts[f"{label}@{k} on test users"] = with_error(*mean_of_users)
        lengths = self.histories.lengths.cpu()[users].numpy()
        positives = self.phase.positives
        self.result.tables.update(
            replaced_levels=levels.replaced_levels(
                self.model, self.histories, self.phase, users, k, truncated
            ),
            quality_by_history=quality.quality_by_history(lengths, metrics, N_GROUPS),
            quality_by_popularity=quality.quality_by_popularity(
                ranking, positives, users, self.popularity, truncated, N_GROUPS
            ),
        )

    def _user_tokens(self, users: Tensor) -> np.ndarray:
        return self.dataset.id2token(self.dataset.uid_field, users.numpy())


def _cutoff(config) -> int:
    """K of the validation metric, or the first of ``topk`` if it has none."""
    k = str(config["valid_metric"]).partition("@")[2]
    return int(k) if k else int(config["topk"][0])


def _some(n: int, at_most: int) -> Tensor:
    """Places of all, or of as many drawn without replacement."""
    return torch.arange(n) if n <= at_most else torch.randperm(n)[:at_most].sort().values


def _cpu(gaussian: Gaussian) -> Gaussian:
    return Gaussian(gaussian.mean.cpu(), gaussian.log_variance.cpu())
