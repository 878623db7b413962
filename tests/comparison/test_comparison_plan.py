"""Models with overrides, what is checked before anything runs, and when two runs are the same."""

import re
import shutil

import numpy as np
import pytest

from recbole_evcf.comparison.plan import parse_models
from recbole_evcf.model.models import BEST


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


def test_the_field_has_a_name():
    names = [spec.model for spec in parse_models("Pop,best,GatedHVamp[gated=False]")]
    assert names == ["Pop", *BEST, "GatedHVamp"]
    assert {"EASE", "ADMMSLIM", "RecVAE", "MultiVAE", "EDLAE", "WMF", "GatedHVampLinear"} < {*BEST}


VALUES = {"1e-3": 0.001, "5": 5, "2*3": 6, "True": True, "true": True, "None": None, "~": None}
VALUES |= {"{SG: [1, 2]}": {"SG": [1, 2]}}
VALUES |= {text: text for text in ("Adam W", "__import__('os').getcwd()")}


@pytest.mark.parametrize("text", VALUES)
def test_values_are_literals_or_yaml(text):
    ((_, _, settings),) = read(f"A[key={text}]")
    assert settings == {"key": VALUES[text]}
    assert type(settings["key"]) is type(VALUES[text])


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
    labels = ("Pop", "Vamp", "Vamp[anneal_cap=0.1]")
    made = plan(",".join(labels), seeds=(5, 6), anneal_cap="0.7")
    expected = [(label, seed) for label in labels for seed in (5, 6)]
    assert [(run.spec.label, run.seed) for run in made.runs] == expected
    assert {run.request["settings"]["split_seed"] for run in made.runs} == {5}
    assert [run.request["settings"]["seed"] for run in made.runs] == [5, 6] * 3
    # What is a model's own goes before what holds for all.
    assert [run.settings["anneal_cap"] for run in made.runs[2:]] == [0.7, 0.7, 0.1, 0.1]
    assert len(set(names(made))) == 6
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


@pytest.mark.parametrize(
    ("same", "models", "settings"),
    [
        (True, "Pop,Vamp", {"show_progress": "True", "state": "info", "checkpoint_dir": "other"}),
        # A default that is given is no change.
        (True, "Pop,Vamp[likelihood=multinomial]", {}),
        (False, "Pop,Vamp[anneal_cap=0.1]", {}),
        (False, "Pop,Vamp", {"learning_rate": "0.1"}),
        (False, "Pop,Vamp", {"topk": "[5]", "valid_metric": "MRR@5"}),
        (False, "Pop,Vamp", {"split_seed": "1"}),
    ],
)
def test_the_same_settings_are_the_same_run(plan, same, models, settings):
    assert (names(plan())[1] == names(plan(models, **settings))[1]) == same


def test_other_interactions_or_item_embeddings_are_another_run(plan, tmp_path):
    before = names(plan())
    path = tmp_path / "data" / "tiny" / "tiny.inter"
    path.write_text(path.read_text() + "u1\ti39\t7\n")
    assert not set(before) & set(names(plan()))
    without, path = names(plan("LDiffRec")), path.with_name("item_emb.npy")
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
