"""What is measured: the same model under both dataloaders, both formulations, RecBole alone."""

import pytest

import cases
from measure import Case, measure

SG = ("protocol/strong_generalization",)


def spec(tiny, model="GatedHVamp", files=(), **settings):
    # The protocol's 100 places are more than there are items.
    settings = {**tiny, "topk": [10], "valid_metric": "NDCG@10", **settings}
    return {"model": model, "dataset": "tiny", "config_files": list(files), "settings": settings}


@pytest.mark.parametrize("files", [(), SG], ids=["RecBole's split", "by users"])
@pytest.mark.parametrize("model", ["GatedMultiVAE", "EASE"])
def test_both_dataloaders_give_the_same_metrics(tiny, model, files):
    ours = cases.evaluation(spec(tiny, model, files))()
    theirs = cases.evaluation({**spec(tiny, model, files), "loader": "recbole"})()
    assert ours == theirs
    assert ours["users"] > 3
    assert max(ours["metrics"].values()) > 0


def test_both_formulations_agree_and_train(tiny):
    # Without the KL term, whose one-sample estimate is too noisy to be compared between epochs.
    settings = spec(tiny, dropout_prob=0.0, anneal_cap=0.0)
    found = cases.agreement(settings)()
    assert found["loss"] < 1e-4
    assert found["gradient"] < 1e-3
    ours, theirs = cases.training_epoch(settings), cases.published_epoch(settings)
    for repeat in (ours, theirs):
        losses = [repeat()["loss"] for _ in range(10)]
        assert losses[-1] < losses[0]


def test_whole_by_proportion(tiny):
    bounded = {**spec(tiny), "train_batches": 1, "eval_batches": 10}
    *before, found = cases.whole(bounded)()
    assert len(before) == 4
    assert list(found["phases"]) == ["load", "split", "histories", "epoch", "evaluation"]
    assert min(found["phases"].values()) > 0
    # 60 users in batches of 16; all are ranked in one.
    assert found["shares"] == {"epoch": 0.25, "evaluation": 1.0}


def test_the_checks_of_a_gpu_run_on_a_processor(tiny):
    found = cases.unsynchronised({**spec(tiny), "batches": 3})()
    assert found == {"batches": 3, "checked": False}
    found = cases.both_devices(spec(tiny))()
    assert found["device"] == "cpu"
    assert found["metrics"] == found["cpu"]


def test_recbole_alone_is_without_the_plugin(tiny, tmp_path, monkeypatch):
    text = """
import sys

import cases

def alone(spec):
    run = cases.training_epoch(spec)
    def repeat():
        loaded = [name for name in sys.modules if name.startswith("recbole_evcf")]
        return {**run(), "plugin": loaded}
    return repeat
"""
    (tmp_path / "trial_alone.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    del tiny["load_col"]
    settings = {**spec(tiny, "MultiVAE", latent_dimension=16), "plugin": False}
    found = measure([Case("alone", "trial_alone:alone", settings)], 1)["alone"]
    assert found.error is None
    # The repairs and what they need, of an otherwise empty package.
    repairs = ("hooks.fixes", "hooks.wrapping", "utils.text", "utils.packages")
    allowed = tuple(f"recbole_evcf.{name}" for name in repairs)
    packages = ("recbole_evcf", "recbole_evcf.hooks", "recbole_evcf.utils")
    others = [name for name in found.results[0]["plugin"] if name not in packages]
    assert [name for name in others if not name.startswith(allowed)] == []
    assert found.results[0]["loss"] > 0
