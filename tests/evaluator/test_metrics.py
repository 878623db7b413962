"""Ranking metrics against a second, naive implementation, alone and through a whole evaluation."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole.evaluator.metrics
import torch
from recbole.config import Config
from recbole.evaluator import Collector
from recbole.evaluator import register as metric_registry
from recbole.evaluator.evaluator import Evaluator
from recbole.quick_start import run_recbole

from build import build, naive_metrics
from conftest import write_inter
from recbole_evcf.evaluator.metrics import TruncatedRecall, top_hits, write_per_user
from recbole_evcf.hooks.speedups import HitCollector

RS = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
# Few items shown: many users have more targets than the smaller K.
SG = {**RS, "split": {"SG": [0.4, 0.3, 0.3]}, "fold_in_ratio": 0.4}
# Some above the number of items: what there is is ranked; RecBole's topk ends in an error.
TOPK = [1, 3, 5, 10, 41, 42, 100]
METRICS = ["NDCG", "Recall", "TruncatedRecall", "Precision", "Hit", "MRR", "MAP"]


def settings_of(tiny, eval_args, metrics=METRICS):
    keys = {"eval_args": eval_args, "metrics": metrics, "valid_metric": f"{metrics[0]}@100"}
    keys |= {"topk": TOPK, "metric_decimal_place": 9, "per_user_file": "results/users.csv"}
    return {**tiny, **keys, "standard_error": True}


def pairs(dataset) -> dict[int, set[int]]:
    users, items = (dataset.inter_feat[field].numpy() for field in ("user_id", "item_id"))
    return {user: set(items[users == user].tolist()) for user in np.unique(users).tolist()}


def evaluated(model, settings, kind):
    """Metrics of a model with given scores; and targets and naive rankings by user."""
    _, loaders, network, trainer = build(model, "tiny", settings)
    dataset, rng = loaders[2]._dataset, np.random.default_rng(8)
    table = {
        "distinct": rng.permutation(61 * 41).reshape(61, 41),
        "tied": rng.integers(0, 4, size=(61, 41)),
        "equal": np.ones((61, 41)),
    }[kind]
    table = torch.from_numpy(table).float()[:, : dataset.item_num]
    network.full_sort_predict = lambda interaction: table[interaction["user_id"]].flatten()
    result = trainer.evaluate(loaders[2], load_best_model=False)
    targets, rankings = {}, {}
    earlier = [pairs(loader._dataset) for loader in loaders[:2]]
    for number, found in pairs(dataset).items():
        if "SG" in settings["eval_args"]["split"]:
            seen = {*(dataset.fold_in.rows(torch.tensor([number])).column + 1).tolist()}
        else:
            seen = set().union(*(part.get(number, ()) for part in earlier))
        row = table[number].clone()
        row[[0, *(seen - found)]] = -torch.inf
        # Of equal scores, topk's order is the one that counts.
        ranking = torch.topk(row, min(max(settings["topk"]), dataset.item_num)).indices.tolist()
        user = dataset.id2token("user_id", number)
        targets[user] = found
        rankings[user] = [item for item in ranking if row[item] > -torch.inf]
    return result, targets, rankings


def naive_values(rankings, targets):
    """By user, and by the names of the results."""
    of_users = {}
    for user, ranking in rankings.items():
        values = {k: naive_metrics(ranking, targets[user], k) for k in TOPK}
        of_users[user] = {f"{name}@{k}": values[k][name] for k in TOPK for name in values[k]}
    return pd.DataFrame.from_dict(of_users, orient="index")


@pytest.mark.parametrize(
    ("model", "eval_args", "kind", "more"),
    [
        ("BPR", RS, "distinct", []),
        ("BPR", RS, "distinct", ["GAUC"]),
        ("Vamp", RS, "tied", []),
        ("EASE", SG, "distinct", ["GAUC"]),
        ("EASE", SG, "equal", []),
        ("Vamp", SG, "tied", []),
    ],
)
def test_k_above_the_number_of_items(tiny, model, eval_args, kind, more):
    """And below it: values by user, means and standard errors are those of naive formulas."""
    settings = settings_of(tiny, eval_args, [*METRICS, *more])
    settings["eval_batch_size"] = {"Vamp": 1, "BPR": 41 * 4, "EASE": 10**6}[model]
    result, targets, rankings = evaluated(model, settings, kind)
    values = naive_values(rankings, targets)
    expected = {**values.mean(), **values.sem().add_suffix("_se")}
    found = {key: value for key, value in result.items() if key in expected}
    assert found == pytest.approx(expected, abs=1e-6)
    assert set(result) - set(found) == {name.lower() for name in more}
    assert result["recall@100"] == 1
    of_users = read().set_index("user_id")
    pd.testing.assert_frame_equal(of_users, values, check_like=True, check_names=False)
    assert eval_args is RS or sum(len(found) > 5 for found in targets.values()) > 3


def test_recboles_recall_is_its_own():
    assert metric_registry.metrics_dict["recall"] is recbole.evaluator.metrics.Recall
    assert metric_registry.metrics_dict["truncatedrecall"] is TruncatedRecall


@pytest.mark.parametrize("asked", [True, False, None])
@pytest.mark.parametrize(("model", "split"), [("Vamp", SG), ("EASE", SG), ("BPR", RS)])
def test_standard_errors_are_given_where_asked_for(tiny, model, split, asked):
    more = {"metrics": ["NDCG", "TruncatedRecall"], "valid_metric": "NDCG@10", "eval_args": split}
    more |= {} if asked is None else {"standard_error": asked}
    _, loaders, _, trainer = build(model, "tiny", {**tiny, **more})
    keys = {"ndcg@10", "truncatedrecall@10"}
    keys |= {f"{key}_se" for key in keys} if asked else set()
    assert trainer.fit(loaders[0], loaders[1])[1].keys() == keys
    assert trainer.evaluate(loaders[2]).keys() == keys


def test_a_single_test_user_has_no_standard_error(tiny):
    settings = settings_of(tiny, {**SG, "split": {"SG": [-1, 2, 1]}}, ["NDCG"])
    _, loaders, _, trainer = build("EASE", "tiny", settings)
    for loader, alone in ((loaders[1], False), (loaders[2], True)):
        result = trainer.evaluate(loader, load_best_model=False)
        assert math.isnan(result["ndcg@10_se"]) == alone


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


def draw(density=0.2):
    torch.manual_seed(3)
    return torch.randn(7, 30), *(torch.rand(7, 30) < density).nonzero(as_tuple=True)


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
    # Pairs in any order and twice count once.
    mixed = torch.randperm(len(users)).repeat(2)
    assert torch.equal(top_hits(scores, 10, users[mixed], items[mixed])[1], hits)


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


# The file of metrics by user: who is in it, and what it says.


@pytest.fixture
def per_user(tiny):
    metrics = {"metrics": ["NDCG", "TruncatedRecall"], "topk": [3, 10], "valid_metric": "NDCG@10"}
    file = {"per_user_file": "results/users.csv", "metric_decimal_place": 10}
    return {**tiny, **metrics, **file, "eval_args": SG}


def read(path="results/users.csv"):
    return pd.read_csv(path, dtype={"user_id": str})


def test_run_recbole_writes_it_with_the_test_result(per_user):
    result = run_recbole(model="MultiVAE", dataset="tiny", config_dict=per_user)
    users = read()
    keys = ["ndcg@3", "ndcg@10", "truncatedrecall@3", "truncatedrecall@10"]
    assert list(users) == ["user_id", *keys]
    for key in keys:
        assert users[key].mean() == pytest.approx(result["test_result"][key], abs=1e-7)
    assert any(abs(users[key].mean() - result["best_valid_result"][key]) > 1e-3 for key in keys)


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec", "Vamp", "EASE"])
def test_every_test_user_is_in_it_under_the_id_of_the_data(per_user, tmp_path, model):
    odd = ["a,b", 'say "x"', "007", "ünï", "1e3", " x", "'", "nan"]
    rows = [(f"{odd[n % 8]}{n // 8}", f"i{i}", i) for n in range(40) for i in range(n % 7, 20, 2)]
    write_inter(tmp_path / "data", "odd", rows)
    if model != "EASE":
        per_user["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO"}
    if model == "BPR":
        per_user["train_neg_sample_args"] = {"distribution": "uniform"}
    _, loaders, _, trainer = build(model, "odd", {"train_neg_sample_args": None, **per_user})
    trainer.evaluate(loaders[1], load_best_model=False)
    assert not Path("results").exists(), "the file is of the test users"
    result = trainer.evaluate(loaders[2], load_best_model=False)
    users, dataset = read(), loaders[2]._dataset
    assert users["user_id"].is_unique
    assert set(users["user_id"]) == set(dataset.id2token("user_id", dataset.inter_feat["user_id"]))
    assert users["ndcg@10"].mean() == pytest.approx(result["ndcg@10"], abs=1e-7)


def test_values_are_written_without_loss(tmp_path):
    values = {"ndcg@3": np.random.default_rng(0).random(50), "recall@3": np.full(50, 1 / 3)}
    write_per_user(str(tmp_path / "a.csv"), [f"u{n}" for n in range(50)], values)
    table = pd.read_csv(tmp_path / "a.csv", float_precision="round_trip")
    for name, value in values.items():
        np.testing.assert_array_equal(table[name], value)
