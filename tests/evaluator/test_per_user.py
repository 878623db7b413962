"""The file of metrics by user: who is in it, and what it says."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.quick_start import run_recbole

from build import build
from conftest import write_inter
from recbole_evcf.evaluator.metrics import per_user_values, standard_error, write_per_user

SG = {"split": {"SG": [0.4, 0.3, 0.3]}, "order": "RO", "group_by": "user", "mode": "full"}
COLUMNS = ["ndcg@3", "ndcg@10", "truncatedrecall@3", "truncatedrecall@10"]


@pytest.fixture
def sg(tiny):
    return {
        **tiny,
        "eval_args": SG,
        "metrics": ["NDCG", "TruncatedRecall"],
        "topk": [3, 10],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 10,
        "per_user_file": "results/users.csv",
    }


def read(path="results/users.csv"):
    return pd.read_csv(path, dtype={"user_id": str})


def tokens(loader):
    feat = loader._dataset.inter_feat["user_id"]
    return set(loader._dataset.id2token("user_id", feat.unique().numpy()))


@pytest.mark.parametrize("model", ["GatedVamp", "EASE", "MultiVAE"])
def test_the_file_is_of_the_test_users_and_agrees_with_the_metrics(sg, model):
    _, loaders, _, trainer = build(model, "tiny", {**sg, "standard_error": True})
    trainer.fit(loaders[0], loaders[1])
    assert not Path("results").exists()
    result = trainer.evaluate(loaders[2])
    users = read()
    assert list(users) == ["user_id", *COLUMNS]
    assert set(users["user_id"]) == tokens(loaders[2])
    assert users["user_id"].is_unique
    assert len(users) > 5
    for key in COLUMNS:
        assert users[key].mean() == pytest.approx(result[key], abs=1e-7)
        error = users[key].std(ddof=1) / math.sqrt(len(users))
        assert error == pytest.approx(result[f"{key}_se"], abs=1e-9)


def test_each_row_is_of_its_user(sg):
    for eval_batch_size in (1, 41 * 4, 10**6):
        settings = {**sg, "eval_batch_size": eval_batch_size}
        _, loaders, network, trainer = build("EASE", "tiny", settings)
        trainer.evaluate(loaders[2], load_best_model=False)
        users, dataset = read().set_index("user_id"), loaders[2]._dataset
        feat = dataset.inter_feat
        for number in loaders[2].uid_list.tolist():
            scores = network.full_sort_predict({"user_id": torch.tensor([number])}).flatten()
            shown = (dataset.fold_in.rows(torch.tensor([number])).column + 1).tolist()
            order = [i for i in scores.argsort(descending=True).tolist() if i and i not in shown]
            targets = set(feat["item_id"][feat["user_id"] == number].tolist())
            row = users.loc[dataset.id2token("user_id", number)]
            for k in (3, 10):
                hits = sum(item in targets for item in order[:k])
                assert row[f"truncatedrecall@{k}"] == pytest.approx(hits / min(k, len(targets)))


def test_run_recbole_writes_it_with_the_test_result(sg):
    result = run_recbole(model="Vamp", dataset="tiny", config_dict=sg)
    users = read()
    for key in COLUMNS:
        assert users[key].mean() == pytest.approx(result["test_result"][key], abs=1e-7)
    assert any(abs(users[key].mean() - result["best_valid_result"][key]) > 1e-3 for key in COLUMNS)


def test_validation_leaves_an_earlier_file_alone(sg):
    _, loaders, _, trainer = build("Vamp", "tiny", sg)
    Path("results").mkdir()
    Path("results/users.csv").write_text("mine")
    trainer.fit(loaders[0], loaders[1])
    trainer.evaluate(loaders[1])
    assert Path("results/users.csv").read_text() == "mine"


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec", "Vamp"])
def test_on_recboles_own_split_every_model_writes_it(sg, model):
    sg["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO"}
    if model != "Vamp":
        sg["train_neg_sample_args"] = None if model == "GRU4Rec" else {"distribution": "uniform"}
    _, loaders, _, trainer = build(model, "tiny", sg)
    result = trainer.evaluate(loaders[2], load_best_model=False)
    users = read()
    dataset = loaders[2]._dataset
    assert users["user_id"].is_unique
    assert set(users["user_id"]) == set(dataset.id2token("user_id", dataset.inter_feat["user_id"]))
    assert users["ndcg@10"].mean() == pytest.approx(result["ndcg@10"], abs=1e-7)


def test_odd_user_ids_come_back_as_they_were(sg, tmp_path):
    odd = ["a,b", 'say "x"', "007", "ünï", "1e3", " x", "'", "nan"]
    rows = [(f"{odd[n % 8]}{n // 8}", f"i{i}", i) for n in range(40) for i in range(n % 7, 20, 2)]
    write_inter(tmp_path / "data", "odd", rows)
    _, loaders, _, trainer = build("EASE", "odd", sg)
    trainer.evaluate(loaders[2], load_best_model=False)
    assert set(read()["user_id"]) == tokens(loaders[2])


def test_values_are_written_without_loss(tmp_path):
    values = {"ndcg@3": np.random.default_rng(0).random(50), "recall@3": np.full(50, 1 / 3)}
    write_per_user(str(tmp_path / "a.csv"), [f"u{n}" for n in range(50)], values)
    table = pd.read_csv(tmp_path / "a.csv", float_precision="round_trip")
    for name, value in values.items():
        np.testing.assert_array_equal(table[name], value)


def test_per_user_values_are_taken_at_each_k_of_ranking_metrics_only():
    class Metric:
        per_user = np.arange(12.0).reshape(3, 4)

    values = per_user_values({"ndcg": Metric(), "gauc": object()}, [1, 4])
    assert values.keys() == {"ndcg@1", "ndcg@4"}
    np.testing.assert_array_equal(values["ndcg@1"], [0, 4, 8])
    np.testing.assert_array_equal(values["ndcg@4"], [3, 7, 11])


def test_a_standard_error_is_the_sample_deviation_over_the_root_of_n():
    values = np.random.default_rng(1).random(20)
    variance = sum((value - sum(values) / 20) ** 2 for value in values) / 19
    assert standard_error(values) == pytest.approx(math.sqrt(variance / 20), abs=1e-12)
    assert math.isnan(standard_error(values[:1]))
    assert standard_error(np.ones(5)) == 0
