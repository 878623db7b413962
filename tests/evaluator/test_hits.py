"""Hits against the dense matrix that RecBole's collector makes of them."""

import pytest
import torch
from recbole.config import Config
from recbole.evaluator import Collector

from recbole_evcf.evaluator.metrics import top_hits
from recbole_evcf.hooks.evaluation import HitCollector


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
