"""Quality against RecBole's own metrics, and group by group against loops."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from inspected import SG, untrained
from recbole_evcf.inspection.levels import logits_without
from recbole_evcf.inspection.quality import (
    equal_frequency,
    held_out,
    mean_and_error,
    means_by_group,
    per_user,
    quality_by_popularity,
    rank,
)


def ranked(settings, k, **more):
    _, loaders, _, trainer, model, histories, _ = untrained("GatedHVamp", settings, **more)
    phase = held_out(*loaders)
    users = phase.positives.lengths.nonzero().squeeze(1)
    with torch.no_grad():
        ranking = rank(partial(logits_without, model, "nothing"), histories, phase, users, k)
    return loaders, trainer, phase, users, ranking, histories


@pytest.mark.parametrize("split", [{"RS": [0.8, 0.1, 0.1]}, SG])
def test_the_whole_is_what_recbole_evaluates(split, tiny):
    settings = {
        **tiny,
        "eval_args": {"split": split, "order": "RO", "group_by": "user", "mode": "full"},
        "metrics": ["NDCG", "Recall", "TruncatedRecall"],
        "topk": [4],
        "valid_metric": "NDCG@4",
        "metric_decimal_place": 9,
    }
    loaders, trainer, _, _, ranking, _ = ranked(settings, 4)
    result = trainer.evaluate(loaders[2], load_best_model=False, show_progress=False)
    found = per_user(ranking.hits, ranking.targets, truncated=False).mean()
    assert found["ndcg"] == pytest.approx(result["ndcg@4"], abs=1e-6)
    assert found["recall"] == pytest.approx(result["recall@4"], abs=1e-6)
    truncated = per_user(ranking.hits, ranking.targets, truncated=True).mean()
    assert truncated["recall"] == pytest.approx(result["truncatedrecall@4"], abs=1e-6)


def test_sampled_evaluation_has_the_same_phase(tiny):
    split = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user"}
    full = ranked(tiny, 4, eval_args={**split, "mode": "full"})[2]
    sampled = ranked(tiny, 4, eval_args={**split, "mode": "uni20"})[2]
    for part in ("positives", "seen"):
        left, right = getattr(full, part).matrix(), getattr(sampled, part).matrix()
        assert (left != right).nnz == 0


def test_lists_hold_nothing_seen(tiny):
    *_, phase, users, ranking, _ = ranked(tiny, 5)
    seen = phase.seen.rows(users).dense().numpy()
    positives = phase.positives.rows(users).dense().numpy()
    assert not np.take_along_axis(seen, ranking.items, 1).any()
    assert (np.take_along_axis(positives, ranking.items, 1) == ranking.hits).all()
    assert (ranking.targets == positives.sum(1)).all()


def test_by_history(tiny):
    *_, users, ranking, histories = ranked(tiny, 5)
    lengths = histories.lengths[users].numpy()
    metrics = per_user(ranking.hits, ranking.targets, truncated=False)
    table = means_by_group(metrics, lengths, 4)
    assert table["count"].sum() == len(users)
    assert (table["from"].to_numpy()[1:] > table["to"].to_numpy()[:-1]).all()
    for row in table.to_dict("records"):
        inside = metrics[(lengths >= row["from"]) & (lengths <= row["to"])]
        assert row["count"] == len(inside)
        for metric in ("ndcg", "recall"):
            assert row[metric] == pytest.approx(inside[metric].mean())
            assert row[f"{metric}_se"] == pytest.approx(inside[metric].sem())


def test_by_popularity(tiny):
    k = 5
    *_, phase, users, ranking, histories = ranked(
        tiny, k, eval_args={"split": {"RS": [0.5, 0.1, 0.4]}, "order": "RO", "mode": "full"}
    )
    popularity = histories.matrix().sum(0).A1.astype(int)
    table = quality_by_popularity(ranking, phase.positives, users, popularity, False, 3)
    assert table["held_out"].sum() == pytest.approx(1)
    assert table["recommended"].sum() == pytest.approx(1)
    assert table["items"].sum() == len(popularity)
    for row in table.to_dict("records"):
        ndcg, recall, places = [], [], 0
        for place, user in enumerate(users):
            wanted = [
                item
                for item in phase.positives.rows(user[None]).column.tolist()
                if row["from"] <= popularity[item] <= row["to"]
            ]
            shown = ranking.items[place].tolist()
            places += sum(row["from"] <= popularity[item] <= row["to"] for item in shown)
            if not wanted:
                continue
            gain = sum(1 / np.log2(shown.index(item) + 2) for item in wanted if item in shown)
            ndcg.append(gain / sum(1 / np.log2(r + 2) for r in range(min(k, len(wanted)))))
            recall.append(np.mean([item in shown for item in wanted]))
        assert row["users"] == len(ndcg)
        assert row["ndcg"] == pytest.approx(np.mean(ndcg))
        assert row["recall"] == pytest.approx(np.mean(recall))
        assert row["recall_se"] == pytest.approx(np.std(recall, ddof=1) / len(recall) ** 0.5)
        assert row["recommended"] == pytest.approx(places / ranking.items.size)


def test_more_places_than_items_are_all_items(tiny):
    *_, ranking, histories = ranked(tiny, 1000)
    assert ranking.items.shape[1] == histories.shape[1]
    assert torch.equal(torch.tensor(ranking.hits.sum(1)), torch.tensor(ranking.targets))


def test_distinct_values_fill_equal_buckets():
    values = np.random.default_rng(0).permutation(100)
    bucket = equal_frequency(values, 5)
    assert np.bincount(bucket).tolist() == [20] * 5
    assert (bucket == values // 20).all()


def test_equal_values_share_a_bucket():
    values = np.array([1] * 90 + [2] * 5 + [3] * 5)
    bucket = equal_frequency(values, 5)
    assert np.unique(bucket).tolist() == list(range(bucket.max() + 1))
    assert all(len(np.unique(bucket[values == value])) == 1 for value in (1, 2, 3))


def test_weights_are_shared_out():
    values, weights = np.arange(1000), np.arange(1000)
    bucket = equal_frequency(values, 4, weights)
    shares = np.bincount(bucket, weights) / weights.sum()
    np.testing.assert_allclose(shares, 0.25, atol=0.002)
    assert (np.diff(bucket) >= 0).all()


def test_one_value_is_one_bucket():
    assert equal_frequency(np.full(7, 3), 5).tolist() == [0] * 7


def test_the_error_of_a_mean():
    found = mean_and_error(pd.DataFrame({"x": [1.0, 2.0, 4.0]}))
    assert found["x"] == pytest.approx(7 / 3)
    assert found["x_se"] == pytest.approx(np.std([1, 2, 4], ddof=1) / 3**0.5)
    assert np.isnan(mean_and_error(pd.DataFrame({"x": [1.0]}))["x_se"])
