"""A cut-off K above the number of items ranks what there is; RecBole's topk ends in an error."""

import math

import numpy as np
import pytest
import torch
from recbole.evaluator.evaluator import Evaluator

from build import build

CUT_OFFS = [3, 41, 42, 100]
SG = {"split": {"SG": [0.4, 0.3, 0.3]}, "order": "RO", "group_by": "user", "mode": "full"}
RS = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}


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


@pytest.mark.parametrize("model", ["BPR", "HVamp"])
def test_a_run_with_k_above_the_number_of_items_ends(tiny, model):
    eval_args = RS if model == "BPR" else SG
    settings = settings_of(tiny, eval_args, ["NDCG", "ShannonEntropy"])
    _, loaders, _, trainer = build(model, "tiny", {**settings, "epochs": 1})
    _, valid = trainer.fit(loaders[0], loaders[1])
    assert 0 < valid["ndcg@42"] <= valid["ndcg@100"] <= 1
    assert valid["shannonentropy@42"] == valid["shannonentropy@100"]
