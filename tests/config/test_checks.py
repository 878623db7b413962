"""Wrong settings end in a ValueError of one sentence, before anything is loaded."""

import re
from pathlib import Path

import pytest
import recbole.trainer
import yaml
from recbole.config import Config
from recbole.trainer import Trainer

from recbole_evcf.config.checks import check_processes, overridden, plain_settings

TAKES = "eval_args takes split, order, group_by, mode, fold_in_ratio, and not "
ONE_OF = (
    "eval_args: split must be one of RS, LS, TS, SG with its value, such as "
    "{'RS': [0.8, 0.1, 0.1]}, not "
)
COUNTS = (
    "eval_args: split: SG: {} are counts of users, {} in all, and the others would be left out: "
    "write shares, [0.8, 0.1, 0.1], or -1 for all the others."
)
CLIPPING = "clip_grad_norm must be such as {'max_norm': 5}, with a number above 0, not "


def config_of(model="EASE", files=(), **settings):
    return Config(model, "ml-100k", list(files), settings)


def split_by_users(**more):
    whole = {"split": {"SG": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
    return {**whole, **more}


def test_two_lengths_of_the_warm_up():
    with pytest.raises(ValueError, match=r"^total_anneal_steps and warmup_epochs are both set: "):
        config_of("GatedHVamp", total_anneal_steps=9, warmup_epochs=9)
    assert config_of("GatedHVamp", total_anneal_steps=9)["warmup_epochs"] is None


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("GatedHVampLinear", "linear_weight", -1),
        ("GatedHVampLinear", "linear_n_items", 0.5),
        ("GatedHVampLinear", "implicit_slim_reg_weight", 0),
        ("EDLAE", "max_diagonal", 2),
        ("WMF", "alpha", 0),
    ],
)
def test_a_models_own_keys(model, key, value):
    with pytest.raises(ValueError, match=f"^{key} must be .*, not {re.escape(str(value))}.$"):
        config_of(model, **{key: value})
    # Of another model they are not read.
    assert config_of("Vamp", **{key: value})[key] == value


def test_a_models_own_whole_numbers_that_a_tuner_draws_as_floats():
    assert type(config_of("GatedHVampLinear", linear_n_items=500.0)["linear_n_items"]) is int


@pytest.mark.parametrize("model", ["EASE", "MultiVAE"])
def test_auto_is_for_our_models(model):
    sentence = f"train_batch_size: auto is for models of recbole_evcf: give a number for {model}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        config_of(model, train_batch_size="auto")
    assert config_of("EDLAE", train_batch_size="auto")["train_batch_size"] == "auto"


@pytest.mark.parametrize("model", ["BPR", "Vamp"])
@pytest.mark.parametrize("value", [0.5, {"maxnorm": 5}, {"max_norm": -1}])
def test_clip_grad_norm_names_what_it_takes(model, value):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{CLIPPING}{value}.')}$"):
        config_of(model, clip_grad_norm=value, learner="adam")


@pytest.mark.parametrize("settings", [{}, {"model": "BPR", "learner": "adam_norm_grad"}])
def test_clipping_without_effect_is_refused(settings):
    settings = {"model": "HVamp", "clip_grad_norm": {"max_norm": 5}, **settings}
    with pytest.raises(ValueError, match="clip_grad_norm has no effect with learner adam_norm_gr"):
        config_of(**settings)
    clipped = config_of(**{**settings, "learner": "sgd"})
    assert clipped["clip_grad_norm"] == {"max_norm": 5}


def test_another_trainer_than_ours_knows_one_process_only(monkeypatch):
    monkeypatch.setattr(recbole.trainer, "VampTrainer", Trainer)
    with pytest.raises(ValueError, match=r"^Vamp is trained by Trainer, which knows one"):
        check_processes(config_of("Vamp"), 2)


def test_machines_have_in_common_whether_a_state_is_kept():
    def differing(first, second):
        one, two = (plain_settings(config_of("Vamp", **each)) for each in (first, second))
        return [key for key in one if one[key] != two[key]]

    assert differing({"resumable": True}, {"resumable": False}) == ["resume or resumable"]
    assert differing({"resume": True}, {}) == ["resume or resumable"]
    # Only the first process has files.
    assert differing({"resume": True}, {"resumable": True}) == []
    assert differing({"resumable": False}, {}) == []


def test_a_later_part_of_eval_args_keeps_the_split(monkeypatch):
    """RecBole replaces eval_args as a whole: its own split came back without a word."""
    files, part = ["protocol/strong_generalization"], {"fold_in_ratio": 0.5}
    Path("own.yaml").write_text(yaml.safe_dump({"eval_args": part}), encoding="utf-8")
    expected = split_by_users(mode={"valid": "full", "test": "full"}, fold_in_ratio=0.5)
    assert config_of(files=[*files, "own.yaml"])["eval_args"] == expected
    assert config_of(files=files, eval_args=part)["eval_args"] == expected
    monkeypatch.setattr("sys.argv", ["script.py", f"--eval_args={part}"])
    assert config_of(files=files)["eval_args"] == expected


def test_another_split_leaves_nothing_of_the_split_by_users():
    before = split_by_users(fold_in_ratio=0.5, order="TO")

    def after(**later):
        return overridden({"eval_args": before}, {"eval_args": later})["eval_args"]

    del before["fold_in_ratio"]
    assert after(split={"RS": [8, 1, 1]}) == {**before, "split": {"RS": [8, 1, 1]}}
    before["fold_in_ratio"] = 0.5
    assert after(split={"SG": [-1, 5, 5]}) == {**before, "split": {"SG": [-1, 5, 5]}}
    # Whatever it is, RecBole refuses it later.
    assert overridden({"eval_args": before}, {"eval_args": 5})["eval_args"] == 5


@pytest.mark.parametrize("model", ["EASE", "Vamp"])
@pytest.mark.parametrize(
    ("eval_args", "sentence"),
    [
        ({"orders": "TO"}, f"{TAKES}'orders'. Did you mean order?"),
        ({"x": 1}, f"{TAKES}'x'."),
        *(
            ({"split": split}, f"{ONE_OF}{split!r}.")
            for split in ({"RS": [8, 1, 1], "SG": [0.8, 0.1, 0.1]}, {"XS": [8, 1, 1]}, "RS", None)
        ),
        ({"order": "XO"}, "eval_args: order must be RO or TO, not 'XO'."),
        ({"group_by": "users"}, "eval_args: group_by must be user or none, not 'users'."),
        (
            {"fold_in_ratio": 0.5},
            "eval_args: fold_in_ratio is a part of the split by users (SG), and split is "
            "{'RS': [0.8, 0.1, 0.1]}: leave it out.",
        ),
        *(
            (split_by_users(split={"SG": shares}), COUNTS.format(shares, sum(shares)))
            for shares in ([80, 10, 10], [8, 1, 1])
        ),
    ],
)
def test_unknown_words_and_values_of_eval_args(model, eval_args, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        config_of(model, eval_args=eval_args)


@pytest.mark.parametrize("model", ["BPR", "EASE", "Vamp"])
@pytest.mark.parametrize(
    "settings",
    [
        {"valid_metric": "MRR"},
        {"valid_metric": "MRR@5"},
        {"topk": [5, 20]},
        {"metrics": ["NDCG"]},
        {"metrics": ["GAUC"], "valid_metric": "GAUC@10"},
        {"metrics": ["Recall", "ItemCoverage"], "valid_metric": "ItemCoverage"},
    ],
)
def test_a_metric_that_is_not_computed(model, settings):
    """RecBole ends in a KeyError after the first epoch."""
    with pytest.raises(ValueError, match=r"^valid_metric is .*, which is not computed: metrics is"):
        config_of(model, **settings)


GOOD = [
    split_by_users(split={"SG": [-1, 10, 10]}),
    split_by_users(split={"SG": [800, 70, 73]}),
    {"group_by": "none"},
    {"group_by": None},
    {"order": "TO", "split": {"LS": "valid_only"}},
    {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO"},
    {"mode": {"valid": "uni10"}},
]


@pytest.mark.parametrize(
    "settings",
    [
        *({"eval_args": eval_args} for eval_args in GOOD),
        {"valid_metric": "ndcg@10"},
        {"metrics": ["GAUC"], "valid_metric": "gauc"},
        {"metrics": ["GiniIndex", "Hit"], "topk": 5, "valid_metric": "GiniIndex@5"},
        {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}},
        # No epoch is validated.
        {"topk": [5], "eval_step": 0},
    ],
)
def test_parts_of_eval_args_and_metrics_that_are_taken(settings):
    config_of("EASE" if "SG" in str(settings) else "BPR", **settings)
