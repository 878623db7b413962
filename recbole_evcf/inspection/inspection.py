"""Inspect a trained model: what its latent variables, its prior and its gates have learned."""

import logging
import os
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import identity
from scipy.stats import entropy
from sklearn.decomposition import PCA
from tqdm import tqdm

from recbole_evcf.data import atomic
from recbole_evcf.data.dataloader import ranked_phases
from recbole_evcf.data.histories import Histories
from recbole_evcf.inspection import measures
from recbole_evcf.inspection.report import ACTIVE, Inspection
from recbole_evcf.model.gaussian import Gaussian
from recbole_evcf.model.models import NETWORKS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.report.table import value_and_error
from recbole_evcf.trainer.generators import drawing_apart

TOP_ITEMS = 10
# Users are sampled above these numbers: for work on users x components x units, and on
# users x points of the grid.
MARGINAL_USERS, DENSITY_USERS = 2_000, 20_000


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

    def check(config: Any) -> None:
        if dataset not in (None, config["dataset"]):
            raise ValueError(
                f"it was trained on {config['dataset']}, not on {dataset}: correct --dataset or "
                "leave it out."
            )
        if not issubclass(config.model_class, VAERecommender):
            ours = ", ".join(each.__name__ for each in NETWORKS)
            raise ValueError(
                f"it holds the model {config['model']}; inspect reads the latent variables of "
                f"{ours} and their subclasses."
            )

    # RecBole logs the settings and the data set.
    logging.disable(logging.INFO)
    try:
        config, model, _, *loaders = load_data_and_model(model_file, check)
    finally:
        logging.disable(logging.NOTSET)
    return inspect_loaded(config, model, *loaders)


def inspect_loaded(config: Any, model: VAERecommender, *loaders: Any) -> Inspection:
    """As :func:`inspect_model`, for the config, model and dataloaders of a loaded model."""
    with drawing_apart(config["seed"], model.device), torch.no_grad():
        subject = _Subject(config, model, loaders)
        mixture = f"VampPrior, {len(subject.components.mean)} components"
        found = Inspection({"model": config["model"], "data set": config["dataset"]})
        found.facts |= {"training users": len(subject.users), "items": len(subject.items)}
        found.facts["prior"] = mixture if subject.model.is_mixture else "standard normal"
        found.facts["likelihood"] = config["likelihood"]
        # Nothing is shown unless the output is a terminal.
        steps = (_users, _levels, _plane, _gates, _quality)
        for step in tqdm(steps, desc="Inspect", ncols=80, disable=None, leave=False):
            step(subject, found)
    return found


class _Subject:
    """A model and its data: on the CPU, but for the model and the input histories."""

    def __init__(self, config: Any, recommender: VAERecommender, loaders: tuple):
        self.config, self.dataset, test = config, loaders[0]._dataset, loaders[2]
        self.model = measures.LatentModel(
            recommender.network, getattr(recommender, "linear_scores", None)
        )
        prior = self.model.components
        self.components = Gaussian(*(p.cpu().double() for p in (prior.mean, prior.log_variance)))
        trained = Histories.from_dataset(self.dataset)
        self.popularity = trained.item_counts
        self.items = self.dataset.field2id_token[self.dataset.iid_field][1:]
        # Only a dataloader that ranks in full knows what it ranks.
        ranks = hasattr(test, "positives")
        self.test = test if ranks else ranked_phases([each._dataset for each in loaders])[2]
        # Of the training users the top level's posteriors, each level's means, and the mean of the
        # items' probabilities.
        self.histories = Histories.input_of(self.dataset).to(recommender.device)
        self.users = trained.lengths.nonzero().squeeze(1)
        top, means, total = [], [], torch.zeros(len(self.items), dtype=torch.float64)
        for history in measures.history_batches(self.histories, self.users):
            posterior = self.model.encoder(history.normalized())
            top.append((posterior.mean, posterior.log_variance))
            means.append(self.model.means(history))
            total += self.model.probabilities(*means[-1]).double().sum(0).cpu()
        self.posterior = Gaussian(*(torch.cat(parts).cpu().double() for parts in zip(*top)))
        self.means = [torch.cat(level).cpu() for level in zip(*means)]
        self.average = (total / len(self.users)).numpy()

    def some(self, at_most: int) -> Gaussian:
        """Return the posteriors of all training users, or of a sample without replacement."""
        shuffled = torch.randperm(len(self.users), generator=torch.Generator().manual_seed(0))
        rows = shuffled[:at_most].sort().values
        return Gaussian(self.posterior.mean[rows], self.posterior.log_variance[rows])


def _users(of: _Subject, found: Inspection) -> None:
    field = of.dataset.uid_field
    tokens = of.dataset.id2token(field, of.users.numpy())
    lengths = of.histories.lengths.cpu()[of.users].numpy()
    users = found.tables["users"] = pd.DataFrame({field: tokens, "history_length": lengths})
    if not of.model.is_mixture:
        return
    explained, components = measures.explain_users(of.posterior, of.components)
    users[explained.columns] = explained
    items = measures.component_items(of.model, of.average, of.items, TOP_ITEMS)
    names = item_names(of.config)
    if names is not None:
        items.insert(4, "name", items["item"].map(names).fillna(items["item"]))
    found.tables |= {"components": components, "component_items": items}
    found.facts |= {
        "components that explain a user best": int((components["users"] > 0).sum()),
        # The perplexity of their shares.
        "effective number of components": float(np.exp(entropy(components["share"]))),
    }


def _levels(of: _Subject, found: Inspection) -> None:
    kl, lower_units = measures.level_kl(of.model, of.histories, of.users)
    unit_kl = [measures.marginal_kl(of.some(MARGINAL_USERS), of.components), *lower_units]
    units, rows = [], []
    for level, means, values in zip(of.model.levels, of.means, unit_kl):
        variance = means.double().var(0).numpy()
        table = pd.DataFrame({"level": level, "unit": range(len(values)), "variance": variance})
        table["active"], table["kl"] = variance > ACTIVE, values.double().numpy()
        units.append(table.sort_values("variance", ascending=False, kind="stable"))
        n, active = len(table), int(table["active"].sum())
        row = measures.mean_and_error(kl[[level]].set_axis(["kl"], axis=1))
        rows.append({"level": level, "units": n, "active": active, **row})
        found.facts[f"active units of {level}"] = f"{active} of {n}"
    found.tables["units"] = pd.concat(units, ignore_index=True)
    found.tables["levels"] = pd.DataFrame(rows)


def _plane(of: _Subject, found: Inspection) -> None:
    means = of.posterior.mean.numpy()
    if min(means.shape) < 2:
        return
    plane = PCA(2, svd_solver="full").fit(means)
    found.explained = np.nan_to_num(plane.explained_variance_ratio_).tolist()
    found.tables["users"][["pc1", "pc2"]] = plane.transform(means)
    mixtures = {"aggregated_posterior": of.some(DENSITY_USERS), "prior": of.components}
    found.tables["density"] = measures.density_table(plane, mixtures)
    if of.model.is_mixture:
        table = found.tables["components"]
        centres = of.components.mean.numpy()[table["component"]]
        table[["pc1", "pc2"]] = plane.transform(centres)


def _gates(of: _Subject, found: Inspection) -> None:
    users = measures.gate_values(of.model, measures.history_batches(of.histories, of.users))
    if not users:
        return
    # Imaginary users with one item each.
    alone = Histories(identity(len(of.items))).to(of.histories.starts.device)
    items = measures.gate_values(
        of.model, measures.history_batches(alone, torch.arange(len(of.items)))
    )
    gates = pd.DataFrame({layer: values.mean() for layer, values in users.items()}).T
    gates.insert(1, "std", [values["mean"].std() for values in users.values()])
    gates["single_item_mean"] = [values["mean"].mean() for values in items.values()]
    history = of.histories.matrix()[of.users.numpy()]
    mean_popularity = history @ of.popularity / history.getnnz(1)
    ways = {"users": (users, mean_popularity), "items": (items, of.popularity)}
    by_popularity = {
        (way, layer): measures.means_by_group(values[["mean"]], along)
        for way, (layers, along) in ways.items()
        for layer, values in layers.items()
    }
    table = pd.concat(by_popularity, names=["grouped", "layer", None])
    found.tables["gates"] = gates.rename_axis("layer").reset_index()
    found.tables["gates_by_popularity"] = table.reset_index(["grouped", "layer"])


def _quality(of: _Subject, found: Inspection) -> None:
    users = of.test.positives.lengths.nonzero().squeeze(1)
    found.facts["test users"] = len(users)
    if len(users) == 0:
        return
    # Of the validation metric, or if it has none, the first of topk.
    k = int(str(of.config["valid_metric"]).partition("@")[2] or of.config["topk"][0])
    k = min(k, len(of.items))
    truncated = "truncatedrecall" in [str(name).lower() for name in of.config["metrics"]]
    recall = "Truncated recall" if truncated else "Recall"
    found.metrics = {"ndcg": f"NDCG@{k}", "recall": f"{recall}@{k}"}
    names: tuple[str, ...] = (
        ("nothing", "z1", "z2", "z1 and z2") if of.model.hierarchical else ("nothing", "z")
    )
    names += (measures.LINEAR,) * (of.model.linear is not None)
    rankings = [measures.rank(of.model, of.histories, of.test, users, k, name) for name in names]
    metrics = [measures.per_user(each.hits, each.targets, truncated) for each in rankings]
    rows: list[dict[str, Any]] = [
        {"replaced": name, **measures.mean_and_error(values.assign(log_likelihood=likelihood))}
        for name, values, (*_, likelihood) in zip(names, metrics, rankings)
    ]
    for key, name in found.metrics.items():
        found.facts[f"{name} on test users"] = value_and_error(rows[0][key], rows[0][f"{key}_se"])
    found.tables["replaced_levels"] = pd.DataFrame(rows)
    lengths = of.histories.lengths.cpu()[users].numpy()
    by_history = measures.means_by_group(metrics[0], lengths).rename(columns={"count": "users"})
    found.tables["quality_by_history"] = by_history
    found.tables["quality_by_popularity"] = measures.quality_by_popularity(
        rankings[0], of.test.positives, users, of.popularity, truncated
    )


def item_names(config: Any) -> pd.Series | None:
    """Return the names of items by original id; None without an .item file, or names in it.

    RecBole loads columns of that file only where ``load_col`` asks for them, so it is read here.
    Names are in the first column of words with *title* in its field, or else *name*. A file that
    cannot be read is a ``ValueError``.
    """
    path, key = os.path.join(config["data_path"], f"{config['dataset']}.item"), "ITEM_ID_FIELD"
    if not os.path.isfile(path):
        return None
    form = config["field_separator"], config["encoding"]
    atomic.check_header(path, *form, required=(config[key],))
    with atomic.reading(path, *form):
        # A film may be called None, or NA.
        options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "engine": "python"}
        table = pd.read_csv(path, sep=form[0], encoding=form[1], **options)
    id_column = next(c for c in table if c.partition(":")[0] == config[key])
    columns = table.filter(regex=r"(?i)(title|name)[^:]*:token(_seq)?$").columns
    if columns.empty:
        return None
    # A title is the name, even next to a column such as studio_name.
    column = min(columns, key=lambda column: "title" not in column.lower())
    names = table.drop_duplicates(id_column).set_index(id_column)[column]
    if column.endswith(":token_seq"):
        names = names.str.replace(config["seq_separator"], " ", regex=False)
    return names[names != ""]
