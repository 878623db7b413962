"""Ranking metrics against a second, naive implementation, alone and through a whole evaluation."""

import math

import numpy as np
import pytest
import recbole.evaluator.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.evaluator import Collector
from recbole.evaluator import register as metric_registry
from recbole.evaluator.evaluator import Evaluator

from build import build
from conftest import write_inter
from recbole_evcf.evaluator.metrics import TruncatedRecall, top_hits
from recbole_evcf.hooks.evaluation import HitCollector

SG = {"split": {"SG": [0.4, 0.3, 0.3]}, "order": "RO", "group_by": "user", "mode": "full"}
TOPK = [1, 3, 5, 10]
CUT_OFFS = [3, 41, 42, 100]
RS = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
KEYS = [f"{name}@{k}" for name in ("ndcg", "truncatedrecall", "recall") for k in TOPK]


def naive(ranking: list, targets: set, k: int) -> dict[str, float]:
    """Each metric at K of one user, by its formula."""
    hits = [item in targets for item in ranking[:k]]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(targets)) + 1))
    precisions = [sum(hits[:rank]) / rank for rank in range(1, len(hits) + 1)]
    return {
        "ndcg": sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit) / ideal,
        "recall": sum(hits) / len(targets),
        "truncatedrecall": sum(hits) / min(k, len(targets)),
        "precision": sum(hits) / k,
        "hit": float(any(hits)),
        "mrr": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
        "map": sum(p for p, hit in zip(precisions, hits) if hit) / min(k, len(targets)),
    }


def naive_values(rankings, targets, key):
    name, k = key.split("@")
    return [naive(rankings[user], targets[user], int(k))[name] for user in rankings]


@pytest.fixture
def sg(tiny):
    """Few items shown: many users have more targets than the smaller K."""
    return {
        **tiny,
        "eval_args": {**SG, "fold_in_ratio": 0.4},
        "metrics": ["NDCG", "TruncatedRecall", "Recall"],
        "topk": TOPK,
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 12,
    }


def evaluated(sg, table):
    """Metrics of a model that scores by a table (users, items), and naive rankings and targets."""
    _, loaders, network, trainer = build("EASE", "tiny", sg)
    network.full_sort_predict = lambda interaction: table[interaction["user_id"]].flatten()
    result = trainer.evaluate(loaders[2], load_best_model=False)
    dataset, rankings, targets, scores = loaders[2]._dataset, {}, {}, {}
    users, items = (dataset.inter_feat[field].tolist() for field in ("user_id", "item_id"))
    for user, item in zip(users, items):
        targets.setdefault(user, set()).add(item)
    for user in sorted(targets):
        row = table[user].clone()
        row[0] = -torch.inf
        row[(dataset.fold_in.rows(torch.tensor([user])).column + 1)] = -torch.inf
        scores[user] = row.tolist()
        # Of equal scores, topk's order is the one that counts.
        rankings[user] = torch.topk(row, max(TOPK)).indices.tolist()
    return result, rankings, targets, scores


def table(kind):
    rng = np.random.default_rng(8)
    scores = {
        "distinct": rng.permutation(61 * 41).reshape(61, 41),
        "tied": rng.integers(0, 4, size=(61, 41)),
        "equal": np.ones((61, 41)),
    }[kind]
    return torch.from_numpy(scores).float()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 30))
def test_truncated_recall_of_random_rankings(seed, k, n_items):
    rng = np.random.default_rng(seed)
    k = min(k, n_items)
    hits, lengths, expected = [], [], []
    for _ in range(5):
        ranking = rng.permutation(n_items)
        targets = set(rng.choice(n_items, size=int(rng.integers(1, n_items + 1)), replace=False))
        hits.append([item in targets for item in ranking[:k]])
        lengths.append(len(targets))
        expected.append([naive(list(ranking), targets, n + 1)["truncatedrecall"] for n in range(k)])
    metric = TruncatedRecall({"topk": [k], "metric_decimal_place": 4})
    values = metric.metric_info(np.array(hits), np.array(lengths))
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert (values <= 1).all()


@pytest.mark.parametrize("kind", ["distinct", "tied", "equal"])
def test_a_whole_evaluation_agrees_with_naive_metrics(sg, kind):
    result, rankings, targets, _ = evaluated(sg, table(kind))
    assert list(result) == KEYS
    for key in KEYS:
        values = naive_values(rankings, targets, key)
        assert result[key] == pytest.approx(np.mean(values), abs=1e-6)
        assert 0 < result[key] <= 1
    assert sum(len(found) > 5 for found in targets.values()) > 3


def test_ties_lie_between_their_best_and_their_worst_order(sg):
    result, rankings, targets, scores = evaluated(sg, table("tied"))
    bounds = []
    for favour in (-1, 1):
        ordered = {
            user: sorted(
                range(1, 41),
                key=lambda item, user=user: (-scores[user][item], favour * (item in targets[user])),
            )
            for user in rankings
        }
        bounds.append({key: np.mean(naive_values(ordered, targets, key)) for key in KEYS})
    best, worst = bounds
    for key in KEYS:
        assert worst[key] - 1e-6 <= result[key] <= best[key] + 1e-6
    assert worst["ndcg@5"] < best["ndcg@5"]


def test_recboles_recall_is_its_own(sg):
    assert metric_registry.metrics_dict["recall"] is recbole.evaluator.metrics.Recall
    assert metric_registry.metrics_dict["truncatedrecall"] is TruncatedRecall
    with_ours, *_ = evaluated(sg, table("tied"))
    alone, *_ = evaluated({**sg, "metrics": ["Recall"], "valid_metric": "Recall@10"}, table("tied"))
    assert alone == {key: with_ours[key] for key in KEYS if key.startswith("recall")}


@pytest.mark.parametrize("model", ["Vamp", "EASE", "BPR"])
@pytest.mark.parametrize("asked", [True, False, None])
def test_standard_errors_are_given_where_asked_for_with_and_without_the_split(tiny, model, asked):
    settings = {**tiny, "metrics": ["NDCG", "TruncatedRecall"], "valid_metric": "NDCG@10"}
    if asked is not None:
        settings["standard_error"] = asked
    splits = [{}] if model == "BPR" else [{}, {"eval_args": SG}]
    for split in splits:
        _, loaders, _, trainer = build(model, "tiny", {**settings, **split})
        _, valid = trainer.fit(loaders[0], loaders[1])
        keys = {"ndcg@10", "truncatedrecall@10"}
        keys |= {f"{key}_se" for key in keys} if asked else set()
        assert valid.keys() == keys
        assert trainer.evaluate(loaders[2]).keys() == keys


def test_a_single_test_user_has_no_standard_error(tiny, tmp_path):
    rows = [(f"u{user}", f"i{item}", 0) for user in range(9) for item in range(15)]
    write_inter(tmp_path / "data", "few", rows)
    eval_args = {**SG, "split": {"SG": [-1, 2, 1]}}
    settings = {**tiny, "eval_args": eval_args, "standard_error": True, "topk": [2]}
    settings |= {"metrics": ["NDCG"], "valid_metric": "NDCG@2"}
    _, loaders, _, trainer = build("EASE", "few", settings)
    result = trainer.evaluate(loaders[2], load_best_model=False)
    assert 0 <= result["ndcg@2"] <= 1
    assert math.isnan(result["ndcg@2_se"])
    assert not math.isnan(trainer.evaluate(loaders[1], load_best_model=False)["ndcg@2_se"])


# K above the number of items: what there is is ranked; RecBole's topk ends in an error.


def settings_of(tiny, eval_args, metrics):
    return {
        **tiny,
        "eval_args": eval_args,
        "metrics": metrics,
        "topk": CUT_OFFS,
        "valid_metric": "NDCG@100",
        "metric_decimal_place": 9,
        "standard_error": True,
    }


def pairs(dataset) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for user, item in zip(*(dataset.inter_feat[f].tolist() for f in ("user_id", "item_id"))):
        found.setdefault(user, set()).add(item)
    return found


@pytest.mark.parametrize("more", [[], ["GAUC"]])
@pytest.mark.parametrize(
    ("model", "eval_args"),
    [("BPR", RS), ("Vamp", RS), ("EASE", SG), ("Vamp", SG)],
    ids=["RecBole's RS", "our RS", "RecBole's SG", "our SG"],
)
def test_k_above_the_number_of_items(tiny, model, eval_args, more):
    metrics = ["NDCG", "Recall", "TruncatedRecall", "Precision", "Hit", "MRR", "MAP", *more]
    _, loaders, network, trainer = build(model, "tiny", settings_of(tiny, eval_args, metrics))
    table = torch.from_numpy(np.random.default_rng(8).permutation(61 * 41).reshape(61, 41)).float()
    n_items = loaders[2]._dataset.item_num
    assert n_items <= 41
    table = table[:, :n_items]
    network.full_sort_predict = lambda interaction: table[interaction["user_id"]].flatten()
    result = trainer.evaluate(loaders[2], load_best_model=False)
    test, seen = pairs(loaders[2]._dataset), {}
    if eval_args is RS:
        before = [pairs(loader._dataset) for loader in loaders[:2]]
        seen = {user: set().union(*(part.get(user, ()) for part in before)) for user in test}
    else:
        fold_in = loaders[2]._dataset.fold_in
        seen = {u: {*(fold_in.rows(torch.tensor([u])).column + 1).tolist()} for u in test}
    values: dict[str, list[float]] = {}
    for user, targets in test.items():
        candidates = [item for item in range(1, n_items) if item not in seen[user] - targets]
        ranking = sorted(candidates, key=lambda item, user=user: -table[user, item])
        for k in CUT_OFFS:
            for name, value in naive(ranking, targets, k).items():
                values.setdefault(f"{name}@{k}", []).append(value)
    for key, of_users in values.items():
        assert result[key] == pytest.approx(np.mean(of_users), abs=1e-6), key
        error = np.std(of_users, ddof=1) / math.sqrt(len(of_users))
        assert result[f"{key}_se"] == pytest.approx(error, abs=1e-6), key
    assert result["recall@100"] == 1
    assert ("gauc" in result) == bool(more)


def test_k_above_the_number_of_items_with_sampled_candidates(tiny):
    """All targets are candidates: at the end of the ranking all are found."""
    eval_args = {**RS, "mode": "uni10"}
    settings = settings_of(tiny, eval_args, ["NDCG", "Recall", "Precision"])
    _, loaders, network, trainer = build("BPR", "tiny", settings)
    network.predict = lambda interaction: interaction["item_id"].float()
    result = trainer.evaluate(loaders[2], load_best_model=False)
    lengths = [len(items) for items in pairs(loaders[2]._dataset).values()]
    assert result["recall@100"] == 1
    assert result["precision@100"] == pytest.approx(np.mean(lengths) / 100)
    assert result["ndcg@42"] == result["ndcg@100"] > result["ndcg@3"]


def test_metrics_of_the_recommended_items_are_those_of_all():
    items = torch.tensor([[1, 2, 3], [2, 1, 3]])
    names = ["AveragePopularity", "TailPercentage", "ItemCoverage"]
    config = {"metrics": names, "topk": [2, 3, 9], "metric_decimal_place": 9, "tail_ratio": 0.4}
    data = {"rec.items": items, "data.count_items": {1: 9, 2: 6, 3: 3}, "data.num_items": 4}
    result = Evaluator({**config, "standard_error": False}).evaluate(data)
    assert [result[f"averagepopularity@{k}"] for k in (2, 3, 9)] == [7.5, 6, 6]
    tail = [result[f"tailpercentage@{k}"] for k in (2, 3, 9)]
    assert tail == pytest.approx([0, 1 / 3, 1 / 3])
    assert [result[f"itemcoverage@{k}"] for k in (2, 3, 9)] == [0.5, 0.75, 0.75]


def draw(batch=7, n_items=30, density=0.2):
    torch.manual_seed(3)
    scores = torch.randn(batch, n_items)
    positive_u, positive_i = (torch.rand(batch, n_items) < density).nonzero(as_tuple=True)
    return scores, positive_u, positive_i


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_hits_are_those_of_a_dense_matrix(density):
    scores, users, items = draw(density=density)
    wanted = torch.zeros(7, 30, dtype=torch.long)
    wanted[users, items] = 1
    order = torch.argsort(scores, dim=1, descending=True)[:, :10]
    ranked, hits = top_hits(scores, 10, users, items)
    assert torch.equal(ranked, order)
    assert torch.equal(hits[:, :10], wanted.gather(1, order))
    assert torch.equal(hits[:, 10], wanted.sum(1))


def test_pairs_in_any_order_and_twice_count_once():
    scores, users, items = draw()
    expected = top_hits(scores, 10, users, items)[1]
    mixed = torch.randperm(len(users)).repeat(2)
    assert torch.equal(top_hits(scores, 10, users[mixed], items[mixed])[1], expected)


@pytest.mark.parametrize("metrics", [["NDCG"], ["Recall", "ItemCoverage"], ["GAUC", "Recall"]])
@pytest.mark.parametrize("fast", [False, True])
def test_the_collector_gathers_what_recboles_own_gathers(metrics, fast, monkeypatch):
    monkeypatch.setattr(HitCollector, "fast_for_all", fast)
    settings = {"metrics": metrics, "topk": [10], "valid_metric": f"{metrics[-1]}@10"}
    config = Config("BPR", "ml-100k", config_dict=settings)
    scores, users, items = draw()
    ours, theirs = Collector(config), Collector(config)
    ours.eval_batch_collect(scores.clone(), None, users, items)
    Collector.eval_batch_collect(theirs, scores.clone(), None, users, items)
    kept, expected = ours.data_struct._data_dict, theirs.data_struct._data_dict
    assert kept.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(kept[name], value), name
        assert kept[name].dtype == value.dtype
