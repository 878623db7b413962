"""Settings of evaluation fit together, and a later one does not silently undo an earlier one."""

import re

import pytest
import yaml
from recbole.config import Config
from recbole.data.dataset import Dataset

from recbole_evcf.config.evaluation import overridden

MODELS = ["BPR", "EASE", "Vamp"]
TAKES = "eval_args takes split, order, group_by, mode, fold_in_ratio, and not "
ONE_OF = (
    "eval_args: split must be one of RS, LS, TS, SG with its value, such as "
    "{'RS': [0.8, 0.1, 0.1]}, not "
)


def config_of(model="EASE", files=(), **settings):
    return Config(model, "ml-100k", list(files), settings)


def split_by_users(**more):
    return {
        "split": {"SG": [0.8, 0.1, 0.1]},
        "order": "RO",
        "group_by": "user",
        "mode": "full",
        **more,
    }


@pytest.mark.parametrize("later", ["file", "dict", "command line"])
def test_a_later_part_of_eval_args_keeps_the_split(later, monkeypatch):
    """RecBole replaces eval_args as a whole: its own split came back without a word."""
    files, settings, part = ["protocol/strong_generalization"], {}, {"fold_in_ratio": 0.5}
    if later == "file":
        with open("own.yaml", "w", encoding="utf-8") as file:
            yaml.safe_dump({"eval_args": part}, file)
        files.append("own.yaml")
    elif later == "dict":
        settings["eval_args"] = part
    else:
        monkeypatch.setattr("sys.argv", ["script.py", f"--eval_args={part}"])
    expected = split_by_users(mode={"valid": "full", "test": "full"}, fold_in_ratio=0.5)
    assert config_of(files=files, **settings)["eval_args"] == expected


def test_another_split_leaves_nothing_of_the_split_by_users():
    first = {"eval_args": split_by_users(fold_in_ratio=0.5, order="TO"), "epochs": 3}
    after = overridden(first, {"eval_args": {"split": {"RS": [8, 1, 1]}}})
    assert after["eval_args"] == {
        "split": {"RS": [8, 1, 1]},
        "order": "TO",
        "group_by": "user",
        "mode": "full",
    }
    assert after["epochs"] == 3
    again = overridden(first, {"eval_args": {"split": {"SG": [-1, 5, 5]}}})
    assert again["eval_args"] == split_by_users(
        split={"SG": [-1, 5, 5]}, order="TO", fold_in_ratio=0.5
    )
    # Whatever it is, RecBole refuses it later.
    assert overridden(first, {"eval_args": 5})["eval_args"] == 5


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("eval_args", "sentence"),
    [
        (
            {"orders": "TO"},
            TAKES + "'orders'. Did you mean order?",
        ),
        ({"x": 1}, TAKES + "'x'."),
        (
            {"split": {"RS": [8, 1, 1], "SG": [0.8, 0.1, 0.1]}},
            "eval_args: split names 'RS, SG': give one way to split.",
        ),
        (
            {"split": {"XS": [8, 1, 1]}},
            ONE_OF + "\"{'XS': [8, 1, 1]}\".",
        ),
        (
            {"split": "RS"},
            ONE_OF + "'RS'.",
        ),
        ({"order": "XO"}, "eval_args: order must be RO or TO, not 'XO'."),
        ({"group_by": "users"}, "eval_args: group_by must be user or none, not 'users'."),
        (
            {"fold_in_ratio": 0.5},
            "eval_args: fold_in_ratio is a part of the split by users (SG), and split is "
            "{'RS': [0.8, 0.1, 0.1]}: leave it out.",
        ),
    ],
)
def test_unknown_words_and_values_of_eval_args(model, eval_args, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        config_of(model, eval_args=eval_args)


@pytest.mark.parametrize("shares", [[80, 10, 10], [8, 1, 1]])
def test_percentages_of_users_are_not_counts(shares):
    sentence = (
        f"eval_args: split: SG: {shares} are counts of users, {sum(shares)} in all, and the others "
        "would be left out: write shares, [0.8, 0.1, 0.1], or -1 for all the others."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        config_of(eval_args=split_by_users(split={"SG": shares}))


@pytest.mark.parametrize("shares", [[-1, 10, 10], [0.8, 0.1, 0.1], [800, 70, 73]])
def test_other_shares_are_left_to_the_split(shares):
    config_of(eval_args=split_by_users(split={"SG": shares}))


def test_recboles_own_words_are_taken():
    for eval_args in (
        {"group_by": "none"},
        {"group_by": None},
        {"order": "TO", "split": {"LS": "valid_only"}},
        {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO"},
        {"mode": {"valid": "uni10"}},
    ):
        config_of("BPR", eval_args=eval_args)


@pytest.mark.parametrize("model", MODELS)
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
    with pytest.raises(
        ValueError, match=r"^valid_metric is .*, which is not computed: metrics is "
    ):
        config_of(model, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"valid_metric": "ndcg@10"},
        {"metrics": ["GAUC"], "valid_metric": "gauc"},
        {"metrics": ["GiniIndex", "Hit"], "topk": 5, "valid_metric": "GiniIndex@5"},
        {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": "labeled"}},
        # No epoch is validated.
        {"topk": [5], "eval_step": 0},
    ],
)
def test_metrics_that_are_computed(settings):
    config_of("BPR", **settings)


def test_a_split_of_a_later_recbole_is_named_as_such(monkeypatch):
    monkeypatch.delattr(Dataset, "time_based_split", raising=False)
    with pytest.raises(ValueError, match=r"^eval_args: split: TS came with RecBole 1\.2\.1, and "):
        config_of(eval_args={"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO"})
