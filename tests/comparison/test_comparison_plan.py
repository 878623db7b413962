"""What is checked before anything runs, and what makes two runs the same."""

import shutil

import numpy as np
import pytest
import yaml

from recbole_evcf.comparison.plan import make_plan, parse_models


@pytest.fixture
def plan(tiny, tmp_path):
    def make(models="Pop,Vamp", seeds=(), **settings):
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
        return make_plan(
            parse_models(models), "tiny", [str(tmp_path / "tiny.yaml")], settings, seeds
        )

    return make


def digests(plan):
    return [run.name for run in plan.runs]


def test_the_runs_are_model_by_model_on_one_split(plan):
    made = plan("Pop,Vamp,Vamp[anneal_cap=0.1]", seeds=(5, 6), anneal_cap="0.7")
    assert [(run.spec.label, run.seed) for run in made.runs] == [
        (label, seed) for label in ("Pop", "Vamp", "Vamp[anneal_cap=0.1]") for seed in (5, 6)
    ]
    assert {run.request["settings"]["split_seed"] for run in made.runs} == {5}
    assert [run.request["settings"]["seed"] for run in made.runs] == [5, 6] * 3
    # What is a model's own goes before what holds for all.
    assert [run.settings["anneal_cap"] for run in made.runs[2:]] == [0.7, 0.7, 0.1, 0.1]
    assert len(set(digests(made))) == 6


def test_seeds_are_the_configs_by_default_and_the_split_may_have_its_own(plan):
    assert plan().seeds == (2020,)
    assert plan(seed="3").seeds == (3,)
    made = plan(seeds=(5, 6), split_seed="9")
    assert {run.request["settings"]["split_seed"] for run in made.runs} == {9}


def test_a_model_may_need_its_own_settings(plan):
    """RecBole refuses SASRec's defaults: its cross entropy takes no negative samples."""
    made = plan("Pop,SASRec[train_neg_sample_args=None,hidden_size=8]")
    assert made.runs[1].request["settings"]["hidden_size"] == 8
    with pytest.raises(ValueError, match=r"SASRec has no setting 'hidden_sizes'\. Did you"):
        plan("Pop,SASRec[train_neg_sample_args=None,hidden_sizes=8]")


def test_the_same_settings_are_the_same_run(plan):
    first = digests(plan())
    assert digests(plan()) == first
    assert digests(plan(show_progress="True", state="info", checkpoint_dir="elsewhere")) == first
    # A default that is given is no change.
    assert digests(plan("Pop,Vamp[likelihood=multinomial]")) == first


@pytest.mark.parametrize(
    ("models", "settings"),
    [
        ("Pop,Vamp[anneal_cap=0.1]", {}),
        ("Pop,Vamp", {"learning_rate": "0.1"}),
        ("Pop,Vamp", {"topk": "[5]", "valid_metric": "MRR@5"}),
        ("Pop,Vamp", {"split_seed": "1"}),
    ],
)
def test_other_settings_are_another_run(plan, models, settings):
    assert digests(plan())[1] != digests(plan(models, **settings))[1]


def test_other_data_are_another_run(plan, tmp_path):
    before = digests(plan())
    path = tmp_path / "data" / "tiny" / "tiny.inter"
    path.write_text(path.read_text() + "u1\ti39\t7\n")
    assert not set(before) & set(digests(plan()))


def test_other_item_embeddings_are_other_data(plan, tmp_path):
    without = digests(plan("LDiffRec"))
    path = tmp_path / "data" / "tiny" / "item_emb.npy"
    found = []
    for value in (0.0, 1.0):
        np.save(path, np.full((40, 8), value))
        found += digests(plan("LDiffRec"))
    assert len({*without, *found}) == 3
    path.unlink()
    assert digests(plan("LDiffRec")) == without


def test_data_are_downloaded_first(plan, tmp_path, monkeypatch):
    before = digests(plan())
    shutil.move(tmp_path / "data" / "tiny", tmp_path / "away")

    def download(dataset):
        shutil.move(tmp_path / "away", dataset.dataset_path)

    monkeypatch.setattr("recbole.data.dataset.Dataset._download", download)
    monkeypatch.setattr("recbole_evcf.hooks.fixes_data.RepairedDataset._download", download)
    assert digests(plan()) == before


def test_metrics_have_the_names_that_the_config_gives_them(plan):
    made = plan(metrics="['NDCG', 'Hit']", topk="[3, 5]", valid_metric="NDCG@3")
    names = {key: name for key, name in made.metrics.items() if "@" in key}
    assert names == {"ndcg@3": "NDCG@3", "ndcg@5": "NDCG@5", "hit@3": "Hit@3", "hit@5": "Hit@5"}
    assert made.valid_metric == "ndcg@3"
