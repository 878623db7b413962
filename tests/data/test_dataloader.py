"""Our dataloaders against RecBole's own on the same split."""

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.sampler import RepeatableSampler, Sampler
from recbole.utils import init_seed
from recbole.utils.case_study import full_sort_topk

from build import RS, SG, build, naive_result, pairs_of
from recbole_evcf.data.dataloader import FullSortHistoryDataLoader, TrainUserDataLoader

LATEST = {**RS, "split": {"LS": "valid_and_test"}, "order": "TO"}
UNGROUPED = {**RS, "split": {"RS": [0.5, 0.2, 0.3]}, "group_by": "none"}


def recboles_loaders(config, loaders):
    datasets = [loader._dataset for loader in loaders]
    sampler = Sampler(["train", "valid", "test"], datasets, "uniform", 1.0)
    return [
        FullSortEvalDataLoader(config, dataset, sampler.set_phase(phase))
        for phase, dataset in zip(("valid", "test"), datasets[1:])
    ]


def contents(loader):
    """(user, item) pairs that are to be found and that are not ranked."""
    positives, seen = set(), set()
    for users, (history_row, history_item), row, item in loader:
        ids = users["user_id"].numpy()
        positives |= set(zip(ids[row.numpy()], item.numpy()))
        seen |= set(zip(ids[history_row.numpy()], history_item.numpy()))
    return positives, seen


METRICS = ["Recall", "NDCG", "MRR", "Hit", "Precision", "MAP"]
COMPARED = [(RS, METRICS), (LATEST, METRICS), (UNGROUPED, METRICS), (RS, ["GAUC"])]


@pytest.mark.parametrize("model", ["GatedVamp", "EDLAE", "WMF"])
@pytest.mark.parametrize(("eval_args", "metrics"), COMPARED)
def test_full_sort_gives_what_recboles_gives(tiny, model, eval_args, metrics):
    settings = {**tiny, "eval_args": eval_args, "metrics": metrics, "topk": [3, 10]}
    settings["valid_metric"] = "GAUC" if "GAUC" in metrics else "NDCG@10"
    config, loaders, model, trainer = build(model, "tiny", settings)
    assert isinstance(loaders[0], TrainUserDataLoader)
    for ours, theirs in zip(loaders[1:], recboles_loaders(config, loaders)):
        assert isinstance(ours, FullSortHistoryDataLoader)
        assert contents(ours) == contents(theirs)
        np.testing.assert_array_equal(ours.uid_list, theirs.uid_list)
        found, expected = (trainer.evaluate(each, load_best_model=False) for each in (ours, theirs))
        assert found == expected
        users = ours.uid_list[:5].numpy()
        top, expected = (full_sort_topk(users, model, each, 7) for each in (ours, theirs))
        torch.testing.assert_close(top, expected)


def test_training_yields_each_training_user_once_and_nobody_else(tiny, tmp_path):
    # A user whose every interaction is in the test part has nothing to train on.
    eval_args = {**UNGROUPED, "split": {"RS": [0.3, 0.3, 0.4]}}
    with open(tmp_path / "data" / "tiny" / "tiny.inter", "a", encoding="utf-8") as file:
        file.writelines(f"lonely{n}\ti{n}\t1\n" for n in range(12))
    _, (train, _, _), _, _ = build("Vamp", "tiny", {**tiny, "eval_args": eval_args})
    assert isinstance(train, TrainUserDataLoader)
    yielded = torch.cat([batch["user_id"] for batch in train]).tolist()
    trained = set(train._dataset.inter_feat["user_id"].tolist())
    assert len(trained) < train._dataset.user_num - 1
    assert sorted(yielded) == sorted(trained)


def test_sampled_evaluation_keeps_recboles_loader(tiny):
    eval_args = {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "uni10"}
    _, loaders, _, trainer = build("Vamp", "tiny", {**tiny, "eval_args": eval_args})
    init_seed(1, True)
    assert not isinstance(loaders[1], FullSortEvalDataLoader)
    trainer.fit(loaders[0], loaders[1])
    assert 0 < trainer.evaluate(loaders[2])["hit@10"] <= 1


REPEATABLE = [("HVamp", LATEST), ("HVamp", RS), ("HVamp", SG), ("EASE", SG)]


@pytest.mark.parametrize(("model", "eval_args"), REPEATABLE)
def test_repeatable_ranks_what_users_have_seen_too(tiny, model, eval_args):
    metrics = {"metrics": ["Recall"], "valid_metric": "Recall@5", "topk": [5]}
    settings = {**metrics, "metric_decimal_place": 10, "repeatable": True, "eval_args": eval_args}
    _, loaders, network, trainer = build(model, "tiny", {**tiny, **settings})
    for loader in loaders[1:]:
        assert not contents(loader)[1]
        result = trainer.evaluate(loader, load_best_model=False)
        naive = naive_result(network, loader._dataset, set(), set(pairs_of(loader._dataset)))
        assert result["recall@5"] == pytest.approx(naive["recall@5"])


@pytest.mark.parametrize("model", ["FISM", "NAIS"])
def test_repeatable_samples_negatives_as_recbole_does(tiny, model):
    settings = {**tiny, "eval_args": SG, "repeatable": True}
    _, loaders, _, _ = build(model, "tiny", settings)
    assert isinstance(loaders[0]._sampler, RepeatableSampler)
