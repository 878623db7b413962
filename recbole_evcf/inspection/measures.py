"""Measure a trained network: its latent levels, prior, gates, rankings and their quality."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from recbole.evaluator.metrics import NDCG, Recall
from sklearn.decomposition import PCA
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from recbole_evcf.data.dataloader import RankedPhase
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.evaluator.metrics import SE_SUFFIX, TruncatedRecall, top_hits
from recbole_evcf.model.gaussian import (
    LOG_2PI,
    Gaussian,
    StandardNormalPrior,
    VampPrior,
    mixture_log_prob,
)
from recbole_evcf.model.layers import GatedLayer
from recbole_evcf.model.likelihood import Bernoulli
from recbole_evcf.model.vae import TwoLevelVAE

# The most that one matrix of batch x items or batch x components may occupy.
BATCH_BYTES = 64 * 2**20
# Draws of z per user for the KL terms.
DRAWS = 8
# Groups along popularity and length of history.
N_GROUPS = 5
# Points of the grid along each axis, and its margin beyond the means in standard deviations.
GRID, REACH = 80, 3.0
# Components per block: a block takes a matrix of grid points x components.
CHUNK = 512
# What may be left out beside the levels.
LINEAR = "linear path"
TINY = torch.finfo(torch.float32).tiny


def batches(users: Tensor, width: int) -> Iterator[Tensor]:
    """Split user ids into parts, so that a part x width matrix of doubles fits in memory."""
    return iter(users.split(max(1, BATCH_BYTES // (8 * width))))


def history_batches(histories: Histories, users: Tensor) -> Iterator[HistoryBatch]:
    """Yield users' histories in parts (ids on the CPU), on the histories' own device."""
    return (histories.rows(part) for part in batches(users, histories.shape[1]))


def normal(gaussian: Gaussian, rows: Tensor | slice = slice(None)) -> Normal:
    """Return torch's distributions of the units of some rows."""
    stddev = (0.5 * gaussian.log_variance[rows]).exp()
    return Normal(gaussian.mean[rows], stddev, validate_args=False)


class LatentModel:
    """The distributions of a ``VAERecommender``'s network in evaluation mode, under ``no_grad``.

    The level that has the prior is called the top one: z, or z2 above z1.

    Attributes:
        linear: of a batch of histories, what is added to the logits to score; None for nothing.
        components: of the prior, (K, latent): the VampPrior's q(z | u_k), or the one N(0, I).
        is_mixture: whether the prior is a VampPrior; it must be one or the standard normal.
        levels: names of the latent levels, from the top.
        encoder: q(z | x) or q(z2 | x), of normalized histories.
    """

    def __init__(self, network: Any, linear: Callable[[HistoryBatch], Tensor] | None = None):
        self.linear = linear
        prior = network.prior
        kind = type(prior).__name__
        if not isinstance(prior, (VampPrior, StandardNormalPrior)):
            raise ValueError(f"inspect reads a VampPrior or the standard normal prior, no {kind}.")
        self.network = network.eval()
        self.is_mixture = isinstance(prior, VampPrior)
        self.hierarchical = isinstance(network, TwoLevelVAE)
        self.levels = ("z2", "z1") if self.hierarchical else ("z",)
        self.encoder = network.encoder_z2 if self.hierarchical else network.encoder
        zeros = torch.zeros_like(self.encoder.head.mean.bias)[None]
        with torch.no_grad():
            self.components = prior.components(self.encoder) or Gaussian(zeros, zeros)

    def means(self, history: HistoryBatch, replaced: Collection[str] = ()) -> tuple[Tensor, ...]:
        """Return each level's posterior means, top first, (batch, latent); z1 given that of z2.

        Levels in ``replaced`` are at their prior's mean: z1 at that of p(z1 | z2), so that it adds
        nothing to z2. Where z2 alone is, z1 stays what the user's own z2 and history made it.
        """
        x = history.normalized()
        top = own = self.encoder(x).mean
        if self.levels[0] in replaced:
            top = self.components.mean.mean(0).expand_as(own)
        if self.hierarchical and "z1" not in replaced:
            return top, self.network.encoder_z1(x, own).mean
        return self.below(top)

    def below(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the levels that the prior expects where the top one is ``z``, (batch, latent)."""
        return (z, self.network.prior_z1(z).mean) if self.hierarchical else (z,)

    def logits(self, *levels: Tensor) -> Tensor:
        """Return the decoder's logits, (batch, items), at latent vectors from the top."""
        return self.network.output(self.network.decoder(*reversed(levels)))

    def probabilities(self, *levels: Tensor) -> Tensor:
        """Return p(item | z) under the likelihood: softmax, or sigmoid for the Bernoulli."""
        logits = self.logits(*levels)
        return logits.sigmoid() if self.network.likelihood is Bernoulli else logits.softmax(1)


def level_kl(
    model: LatentModel, histories: Histories, users: Tensor
) -> tuple[pd.DataFrame, list[Tensor]]:
    """Return the KL term of each level, estimated with draws of z (of z2 for both levels).

    Of the top level E_q[log q(z | x) - log p(z)], of the lower E_q(z2 | x)[KL(q(z1 | x, z2) ||
    p(z1 | z2))]: by level and user, in nats; and of the lower level's units, (latent,), the mean
    over users, if there is such a level.
    """
    terms, units = [], []
    for history in history_batches(histories, users):
        x, network = history.normalized(), model.network
        posterior = model.encoder(x)
        draws = [posterior.sample() for _ in range(DRAWS)]
        top = [posterior.log_prob(z) - mixture_log_prob(z, model.components) for z in draws]
        levels = [torch.stack(top).double().mean(0)]
        if model.hierarchical:
            pairs = [(normal(network.encoder_z1(x, z)), normal(network.prior_z1(z))) for z in draws]
            units.append(torch.stack([kl_divergence(*pair) for pair in pairs]).double().mean(0))
            levels.append(units[-1].sum(1))
        terms.append(torch.stack(levels, dim=1).cpu())
    table = pd.DataFrame(torch.cat(terms).numpy(), columns=list(model.levels))
    return table, [torch.cat(units).mean(0).cpu()] if units else []


def gate_values(model: LatentModel, inputs: Iterable[HistoryBatch]) -> dict[str, pd.DataFrame]:
    """Measure the gates sigmoid(x V + c) while histories are encoded and decoded, at the means.

    By gated layer, in network order and under the name of its distribution, a row per history:
    ``mean`` over the layer's units, and the shares ``shut`` (below 0.1) and ``open`` (above 0.9).
    """
    distributions = {
        "encoder": "q(z | x)",
        "encoder_z2": "q(z2 | x)",
        "encoder_z1": "q(z1 | x, z2)",
        "prior_z1": "p(z1 | z2)",
        "decoder": "p(x | z1, z2)" if model.hierarchical else "p(x | z)",
    }
    modules = model.network.named_modules()
    layers = [(*path.partition(".")[::2], m) for path, m in modules if isinstance(m, GatedLayer)]
    layers_of = Counter(part for part, *_ in layers)

    def record(rows: list[Tensor], module: torch.nn.Module, args: tuple, output: Tensor) -> None:
        gate = torch.sigmoid(output.float())
        parts = (gate, (gate < 0.1).float(), (gate > 0.9).float())
        rows.append(torch.stack([part.mean(1) for part in parts], dim=1).cpu())

    found: dict[str, list[Tensor]] = {}
    with ExitStack() as hooks:
        for part, name, layer in layers:
            # The module's name distinguishes a distribution's layers if it has several.
            title = distributions[part] + (f" {name}" if layers_of[part] > 1 else "")
            found[title] = []
            hooks.enter_context(layer.gate.register_forward_hook(partial(record, found[title])))
        for history in inputs if found else ():
            top, *lower = model.means(history)
            model.below(top)
            model.logits(top, *lower)
    columns = ["mean", "shut", "open"]
    tensors = {name: torch.cat(rows).double().numpy() for name, rows in found.items()}
    return {name: pd.DataFrame(values, columns=columns) for name, values in tensors.items()}


class Ranking(NamedTuple):
    """The top K of some users."""

    items: np.ndarray  # columns of the items, the best first, (users, K)
    hits: np.ndarray  # whether each is a held-out interaction of the user, (users, K)
    targets: np.ndarray  # number of held-out interactions, (users,)
    log_likelihood: np.ndarray  # of the input history, by interaction, in nats, (users,)


def rank(
    model: LatentModel, inputs: Histories, phase: RankedPhase, users: Tensor, k: int, replaced: str
) -> Ranking:
    """Rank all items but those seen before, for users, (users,), and look for the held-out ones.

    The input histories are on the network's device, ``phase`` and ``users`` on the CPU. Levels in
    ``replaced`` are at their prior's mean: ``nothing``, ``z``, ``z1``, ``z2``, ``z1 and z2``; the
    ``linear path`` is left out.
    """
    found = []
    for part in batches(users, inputs.shape[1]):
        history = inputs.rows(part)
        scores = model.logits(*model.means(history, replaced.split(" and ")))
        log_prob = model.network.likelihood.log_prob(scores, history) / history.lengths.clamp(min=1)
        if model.linear is not None and LINEAR not in replaced:
            scores += model.linear(history)
        scores, seen, positives = scores.cpu(), phase.seen.rows(part), phase.positives.rows(part)
        scores[seen.row, seen.column] = -torch.inf
        items, topk = top_hits(scores, k, positives.row, positives.column)
        found.append((items, topk[:, :-1].bool(), topk[:, -1], log_prob.double().cpu()))
    return Ranking(*(torch.cat(parts).numpy() for parts in zip(*found)))


def explain_users(posterior: Gaussian, components: Gaussian) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the components, (K, latent), that explain the users' posteriors, (users, latent), best.

    The responsibility r_uk is proportional to exp(-KL(q(z | x_u) || q(z | u_k))): of all
    distributions over the components it makes the bound on the cross-entropy of posterior and
    mixture tightest. By user, ``component`` and its ``responsibility``, the largest; and by
    component, from the one that explains most users best: ``users``, their ``share``,
    ``mean_responsibility`` and ``spread``, the mean standard deviation of q(z | u_k).
    """
    k = len(components.mean)
    largest, total = [], torch.zeros(k, dtype=torch.float64)
    for users in batches(torch.arange(len(posterior.mean)), k):
        part = Gaussian(posterior.mean[users], posterior.log_variance[users])
        responsibility = expected_log_density(part, components).softmax(1)
        largest.append(responsibility.max(1))
        total += responsibility.sum(0)
    certainty, best = (torch.cat(parts).numpy() for parts in zip(*largest))
    table = pd.DataFrame({"component": np.arange(k), "users": np.bincount(best, minlength=k)})
    table["share"] = table["users"] / len(best)
    table["mean_responsibility"] = (total / len(best)).numpy()
    table["spread"] = normal(components).stddev.mean(1).numpy()
    table = table.sort_values(["users", "mean_responsibility"], ascending=False, ignore_index=True)
    return pd.DataFrame({"component": best, "responsibility": certainty}), table


def expected_log_density(posterior: Gaussian, components: Gaussian) -> Tensor:
    """E_q[log q(z | u_k)] of each user's posterior q and each component, (users, components).

    KL(q(z | x_u) || q(z | u_k)) is the negative entropy of q less this.
    """
    # -1/2 sum over units of log(2 pi v_k) + ((m - m_k)^2 + v) / v_k, here expanded into matrix
    # products.
    q, centre = normal(posterior), normal(components)
    precision = 1 / centre.variance
    constant = (centre.mean**2 * precision + components.log_variance + LOG_2PI).sum(1)
    squares = (q.mean**2 + q.variance) @ precision.T
    return -0.5 * (squares - 2 * q.mean @ (centre.mean * precision).T + constant)


def component_items(
    model: LatentModel, average: np.ndarray, items: np.ndarray, k: int
) -> pd.DataFrame:
    """Return the top k items of every component, decoded at the mean of q(z | u_k).

    A row has ``by``: ``probability``, mostly of popular items, or ``distinction``, an item's share
    in KL(p_k || average), p log(p / average), large where it is probable and more so than for the
    ``average`` user, (items,). Further columns: ``component``, ``rank``, ``item`` (original id),
    ``probability``, ``lift`` (p / average), ``pseudo_input`` (its value in u_k, from 0 to 1).
    """
    # Softmax can underflow to 0 in single precision.
    usual = torch.from_numpy(average).clamp(min=TINY)
    k, tables = min(k, len(items)), []
    means, pseudo_inputs = model.components.mean, model.network.prior.pseudo_inputs.detach()
    for part in batches(torch.arange(len(means)), len(items)):
        p = model.probabilities(*model.below(means[part])).cpu().double()
        inputs = pseudo_inputs[part].clamp(0, 1).cpu()
        values = {"probability": p, "lift": p / usual, "pseudo_input": inputs}
        distinction = p * (p.clamp(min=TINY) / usual).log()
        for by, score in (("probability", p), ("distinction", distinction)):
            place = score.topk(k, dim=1).indices
            table = pd.DataFrame({"component": part.repeat_interleave(k), "by": by})
            table["rank"] = np.tile(np.arange(1, k + 1), len(part))
            table["item"] = items[place.flatten().numpy()]
            for name, value in values.items():
                table[name] = value.gather(1, place).flatten().numpy()
            tables.append(table)
    return pd.concat(tables).sort_values(["component", "by", "rank"], ignore_index=True)


def marginal_kl(posterior: Gaussian, components: Gaussian) -> Tensor:
    """KL of each unit's posterior from the prior's marginal of that unit, mean over users, in nats.

    Exact for one component. A marginal of the VampPrior is a mixture of K Gaussians: there one draw
    per user estimates it, and the sum over units, which the mixture ties together, is not the KL
    term of the whole. (users, latent), (K, latent) -> (latent,).
    """
    prior, (k, latent) = normal(components), components.mean.shape
    total = torch.zeros(latent, dtype=torch.float64)
    for users in batches(torch.arange(len(posterior.mean)), k * latent):
        q = normal(posterior, users)
        if k == 1:
            total += kl_divergence(q, prior).sum(0)
        else:
            z = q.sample()
            log_prior = prior.log_prob(z[:, None]).logsumexp(1) - np.log(k)
            total += (q.log_prob(z) - log_prior).sum(0)
    return total / len(posterior.mean)


def density_table(plane: PCA, mixtures: Mapping[str, Gaussian]) -> pd.DataFrame:
    """The exact densities of mixtures of Gaussians, projected into the plane, on a common grid.

    A diagonal Gaussian of the latent space is a Gaussian in the plane: nothing is drawn. Mixtures
    have equally weighted components, (components, latent), in double precision. Columns: ``pc1``,
    which runs slowest, ``pc2``, and one per mixture.
    """
    axes, projected, ends = torch.from_numpy(plane.components_), {}, []
    for name, mixture in mixtures.items():
        mean = (mixture.mean - torch.from_numpy(plane.mean_)) @ axes.T
        covariance = torch.einsum("al,nl,bl->nab", axes, mixture.log_variance.exp(), axes)
        projected[name] = mean, covariance
        # The grid covers nearly all of every mixture.
        spread = mean.var(0, correction=0) + covariance.diagonal(dim1=1, dim2=2).mean(0)
        ends += [mean.mean(0) + sign * REACH * spread.sqrt() for sign in (-1, 1)]
    low, high = torch.stack(ends).aminmax(dim=0)
    sides = [torch.linspace(*pair, GRID, dtype=torch.float64) for pair in zip(low, high)]
    grid = torch.cartesian_prod(*sides)
    table = pd.DataFrame(grid.numpy(), columns=["pc1", "pc2"])
    for name, (mean, covariance) in projected.items():
        total = torch.zeros(len(grid), dtype=torch.float64)
        for part in zip(mean.split(CHUNK), covariance.split(CHUNK)):
            total += MultivariateNormal(*part).log_prob(grid[:, None]).exp().sum(1)
        table[name] = (total / len(mean)).numpy()
    return table


def per_user(hits: np.ndarray, targets: np.ndarray, truncated: bool) -> pd.DataFrame:
    """Return ``ndcg`` and ``recall``, ``truncated`` or not, of lists (users, K)."""
    recall: Any = TruncatedRecall if truncated else Recall
    # RecBole's own, which need no config for it.
    ndcg, recalled = (each.metric_info(None, hits, targets)[:, -1] for each in (NDCG, recall))
    return pd.DataFrame({"ndcg": ndcg, "recall": recalled})


def mean_and_error(values: pd.DataFrame) -> dict[str, float]:
    """Return each column's mean and, as ``_se``, standard error (NaN for fewer than two rows)."""
    ways = (("mean", ""), ("sem", SE_SUFFIX))
    return {name + end: float(values[name].agg(how)) for name in values for how, end in ways}


def equal_frequency(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the group of each value, counted from 0 along the values, all of about equal weight.

    Equal values share a group, so that many ties leave fewer groups, or uneven ones.
    """
    unique, place = np.unique(values, return_inverse=True)
    weight = np.bincount(place, weights, minlength=len(unique))
    # A value belongs to the group that holds the middle of its weight.
    middle = weight.cumsum() - weight / 2
    group = np.minimum(np.floor(N_GROUPS * middle / weight.sum()), N_GROUPS - 1)
    return np.unique(group[place], return_inverse=True)[1]


def means_by_group(values: pd.DataFrame, along: np.ndarray) -> pd.DataFrame:
    """Average rows in groups of about equal size along some quantity, (rows,).

    Columns: ``from`` and ``to`` (the range of ``along``), ``count``, :func:`mean_and_error`.
    """
    group = equal_frequency(along)
    bounds = pd.Series(along).groupby(group).agg(["min", "max", "size"])
    means = [mean_and_error(values[group == each]) for each in bounds.index]
    return bounds.set_axis(["from", "to", "count"], axis=1).join(pd.DataFrame(means))


def quality_by_popularity(
    ranking: Ranking, positives: Histories, users: Tensor, popularity: np.ndarray, truncated: bool
) -> pd.DataFrame:
    """Mean metrics on held-out interactions in groups by popularity, of about equal size.

    Of a user's list a group counts the held-out items of its own alone: to find, and found at the
    rank they have in the whole list. Columns: ``from`` and ``to`` (popularity), ``items``,
    ``held_out`` and ``recommended`` (shares of the held-out interactions, and of the places of all
    lists), ``users`` (who have any to find), metrics and standard errors over these users.
    """
    batch = positives.rows(users)
    columns = batch.column.numpy()
    group = equal_frequency(popularity, np.bincount(columns, minlength=len(popularity)))
    rows = []
    for each in range(group.max() + 1):
        items, places = group == each, group[ranking.items] == each
        targets = np.bincount(batch.row.numpy()[items[columns]], minlength=len(users))
        some = targets > 0
        row = {"from": popularity[items].min(), "to": popularity[items].max(), "items": items.sum()}
        row |= {"held_out": targets.sum() / len(columns), "recommended": places.mean()}
        metrics = per_user((ranking.hits & places)[some], targets[some], truncated)
        rows.append({**row, "users": some.sum(), **mean_and_error(metrics)})
    return pd.DataFrame(rows)
