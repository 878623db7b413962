"""Ranking metrics against a second, naive implementation, alone and through a whole evaluation."""

import math

import numpy as np
import pytest
import recbole.evaluator.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.evaluator import register as metric_registry

from build import build
from conftest import write_inter
from recbole_evcf.evaluator.metrics import TruncatedRecall

SG = {"split": {"SG": [0.4, 0.3, 0.3]}, "order": "RO", "group_by": "user", "mode": "full"}
TOPK = [1, 3, 5, 10]
KEYS = [f"{name}@{k}" for name in ("ndcg", "truncatedrecall", "recall") for k in TOPK]


def naive_truncated_recall(ranking, targets, k):
    return sum(item in targets for item in ranking[:k]) / min(k, len(targets))


def naive_recall(ranking, targets, k):
    return sum(item in targets for item in ranking[:k]) / len(targets)


def naive_ndcg(ranking, targets, k):
    found = sum(
        1 / math.log2(place + 2) for place, item in enumerate(ranking[:k]) if item in targets
    )
    return found / sum(1 / math.log2(place + 2) for place in range(min(k, len(targets))))


NAIVE = {"ndcg": naive_ndcg, "truncatedrecall": naive_truncated_recall, "recall": naive_recall}


def naive_values(rankings, targets, key):
    name, k = key.split("@")
    return [NAIVE[name](rankings[user], targets[user], int(k)) for user in rankings]


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
        expected.append([naive_truncated_recall(ranking, targets, n + 1) for n in range(k)])
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


def test_a_perfect_ranking_reaches_one_where_recall_cannot(sg):
    _, _, targets, _ = evaluated(sg, table("equal"))
    perfect = torch.zeros(61, 41)
    for user, items in targets.items():
        perfect[user, list(items)] = 1
    result, _, _, _ = evaluated(sg, perfect)
    for k in TOPK:
        assert result[f"truncatedrecall@{k}"] == 1
        assert result[f"ndcg@{k}"] == pytest.approx(1)
        recall = np.mean([min(k, len(items)) / len(items) for items in targets.values()])
        assert result[f"recall@{k}"] == pytest.approx(recall)
    assert result["recall@3"] < 1


def test_recboles_recall_is_its_own(sg):
    assert metric_registry.metrics_dict["recall"] is recbole.evaluator.metrics.Recall
    assert metric_registry.metrics_dict["truncatedrecall"] is TruncatedRecall
    with_ours, *_ = evaluated(sg, table("tied"))
    alone, *_ = evaluated({**sg, "metrics": ["Recall"], "valid_metric": "Recall@10"}, table("tied"))
    assert alone == {key: with_ours[key] for key in KEYS if key.startswith("recall")}


@pytest.mark.parametrize("kind", ["distinct", "tied"])
def test_standard_errors_are_those_of_naive_values(sg, kind):
    result, rankings, targets, _ = evaluated({**sg, "standard_error": True}, table(kind))
    assert list(result) == [*KEYS, *(f"{key}_se" for key in KEYS)]
    for key in KEYS:
        values = naive_values(rankings, targets, key)
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert result[f"{key}_se"] == pytest.approx(error, abs=1e-9)
        assert error > 0


def test_standard_errors_are_rounded_as_the_metrics_are(sg):
    exact, *_ = evaluated({**sg, "standard_error": True}, table("tied"))
    rounded, *_ = evaluated(
        {**sg, "standard_error": True, "metric_decimal_place": 3}, table("tied")
    )
    assert rounded == {key: round(value, 3) for key, value in exact.items()}


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


def test_metrics_that_are_no_mean_over_users_have_no_standard_error(sg):
    settings = {**sg, "metrics": ["NDCG", "GAUC"], "standard_error": True}
    _, loaders, _, trainer = build("EASE", "tiny", settings)
    result = trainer.evaluate(loaders[2], load_best_model=False)
    keys = [f"ndcg@{k}" for k in TOPK]
    assert list(result) == [*keys, "gauc", *(f"{key}_se" for key in keys)]
