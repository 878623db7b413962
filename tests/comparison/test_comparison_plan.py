"""Models with overrides, what is checked before anything runs, and when two runs are the same."""

import re
import shutil

import numpy as np
import pytest

from recbole_evcf.comparison.plan import parse_models


def read(text):
    return [(spec.label, spec.model, spec.settings) for spec in parse_models(text)]


def test_commas_in_brackets_and_quotes_part_nothing():
    assert read(" Pop , EASE") == [("Pop", "Pop", {}), ("EASE", "EASE", {})]
    text = "A,A[mlp_hidden_size=[600,600], likelihood=bernoulli],A[x={'a': [1, (2, 3)]},y='],[']"
    bernoulli = {"mlp_hidden_size": [600, 600], "likelihood": "bernoulli"}
    assert read(text) == [
        ("A", "A", {}),
        ("A[mlp_hidden_size=[600,600], likelihood=bernoulli]", "A", bernoulli),
        ("A[x={'a': [1, (2, 3)]}, y='],[']", "A", {"x": {"a": [1, (2, 3)]}, "y": "],["}),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5", 5),
        ("True", True),
        ("true", True),
        ("None", None),
        ("~", None),
        ("{SG: [1, 2]}", {"SG": [1, 2]}),
        ("Adam W", "Adam W"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_values_are_literals_or_yaml(text, value):
    ((_, _, settings),) = read(f"A[key={text}]")
    assert settings == {"key": value}
    assert type(settings["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing before or after a comma"),
        ("A,,B", "nothing before or after a comma"),
        ("A[x=[1,2]", "[ has no counterpart"),
        ("A]x=1[", "] has no counterpart"),
        ("A[x=(1]]", "[ has no counterpart"),
        ("A[x='1]", "' has no counterpart"),
        ("A[x]", "write key=value"),
        ("A[1x=1]", "write key=value"),
        ("A[x=1,x=2]", "gives x twice"),
        ("A[x=1]B", "Name or Name"),
        ("A[x=1][y=2]", "] has no counterpart"),
        ("[x=1]", "Name or Name"),
        ("A,B,A", "names A twice"),
        ("A[x=1],A[x= 1]", "twice"),
        ("A[x='a b'],A[x='a  b']", "twice"),
        ("A[key=!!python/object/apply:os.getcwd {}]", "cannot read the value"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_models(text)


@pytest.fixture
def plan(tiny, planned):
    return lambda models="Pop,Vamp", seeds=(), **settings: planned(models, tiny, seeds, settings)


def names(plan):
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
    assert len(set(names(made))) == 6


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
    first = names(plan())
    assert names(plan()) == first
    assert names(plan(show_progress="True", state="info", checkpoint_dir="elsewhere")) == first
    # A default that is given is no change.
    assert names(plan("Pop,Vamp[likelihood=multinomial]")) == first


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
    assert names(plan())[1] != names(plan(models, **settings))[1]


def test_other_data_are_another_run(plan, tmp_path):
    before = names(plan())
    path = tmp_path / "data" / "tiny" / "tiny.inter"
    path.write_text(path.read_text() + "u1\ti39\t7\n")
    assert not set(before) & set(names(plan()))


def test_other_item_embeddings_are_other_data(plan, tmp_path):
    without = names(plan("LDiffRec"))
    path = tmp_path / "data" / "tiny" / "item_emb.npy"
    found = []
    for value in (0.0, 1.0):
        np.save(path, np.full((40, 8), value))
        found += names(plan("LDiffRec"))
    assert len({*without, *found}) == 3
    path.unlink()
    assert names(plan("LDiffRec")) == without


def test_data_are_downloaded_first(plan, tmp_path, monkeypatch):
    before = names(plan())
    shutil.move(tmp_path / "data" / "tiny", tmp_path / "away")

    def download(dataset):
        shutil.move(tmp_path / "away", dataset.dataset_path)

    monkeypatch.setattr("recbole.data.dataset.Dataset._download", download)
    monkeypatch.setattr("recbole_evcf.hooks.fixes_data.RepairedDataset._download", download)
    assert names(plan()) == before


def test_metrics_have_the_names_that_the_config_gives_them(plan):
    made = plan(metrics="['NDCG', 'Hit']", topk="[3, 5]", valid_metric="NDCG@3")
    found = {key: name for key, name in made.metrics.items() if "@" in key}
    assert found == {"ndcg@3": "NDCG@3", "ndcg@5": "NDCG@5", "hit@3": "Hit@3", "hit@5": "Hit@5"}
