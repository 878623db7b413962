"""The table of keys: complete, and its checks, roles and the guide's tables are of one piece."""

import re
from pathlib import Path

import pytest
import recbole
import yaml
from recbole.config import Config
from recbole.utils import argument_list

from recbole_evcf.config.checks import keys_of_all_models
from recbole_evcf.config.keys import KEYS, Role, checked, with_role
from recbole_evcf.model.likelihood import LIKELIHOODS

SOURCE = Path(recbole.__file__).parent
READS = r"""config(?:_dict)?(?:\.get\(|\[)\s*["'](\w+)["']"""
# Kinds of parameters of a search, and a part of eval_args; and two names that are only warned of.
NO_KEYS = {"choice", "loguniform", "quniform", "uniform", "full", "queue"}
OLD = {"neg_sampling", "training_neg_sample_num"}
LISTS = [keys for keys in vars(argument_list).values() if isinstance(keys, list)]
OF_RECBOLE = keys_of_all_models().union(*LISTS)


def test_every_key_that_recboles_code_reads_is_known():
    read = set()
    for path in SOURCE.rglob("*.py"):
        read |= set(re.findall(READS, path.read_text(encoding="utf-8")))
    assert len(read) > 300
    assert read - OF_RECBOLE - {*with_role(Role.READ_BY_RECBOLE)} - NO_KEYS == OLD
    old = {*with_role(Role.OF_OLDER_RELEASES)}
    assert old >= OLD
    assert not old & OF_RECBOLE


def test_keys_of_files_are_those_that_yaml_reads():
    files = [path for path in SOURCE.rglob("*.yaml") if "url" not in path.name]
    contents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    expected = {key for content in contents for key in content or ()}
    assert expected <= keys_of_all_models()
    assert "n_pseudo_inputs" in keys_of_all_models()
    # The names of data sets in the files of addresses are no keys.
    assert "ml-1m" not in keys_of_all_models()


def test_rows_that_are_checked_say_what_they_take():
    for name in with_role(Role.CHECKED_ALWAYS | Role.CHECKED_FOR_OURS | Role.OF_WMF):
        assert KEYS[name].values.expected, name
    for name in with_role(Role.OF_PLUGIN | Role.OF_OUR_MODELS | Role.OF_WMF):
        assert KEYS[name].help, name
    assert KEYS["likelihood"].values.range == ", ".join(f"`{name}`" for name in LIKELIHOODS)


@pytest.mark.parametrize("model", ["Vamp", "BPR"])
@pytest.mark.parametrize("name", with_role(Role.CHECKED_ALWAYS))
@pytest.mark.parametrize("value", [5.5, ["x"]])
def test_a_value_of_another_kind_is_refused_for_every_model(model, name, value):
    expected = re.escape(KEYS[name].values.expected)
    with pytest.raises(ValueError, match=rf"^{name} must be {expected}, not "):
        Config(model, "ml-100k", config_dict={name: value})


def test_whole_numbers_that_a_tuner_draws_as_floats():
    config = Config("Vamp", "ml-100k", config_dict={"train_batch_size": 64.0})
    assert type(config["train_batch_size"]) is int


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("dropout_prob", 1, "a number of at least 0 and below 1, not 1."),
        ("pseudo_inputs_mean", float("nan"), "a number, not nan."),
        ("pseudo_inputs_std", -0.1, "a number of at least 0, not -0.1."),
        ("warmup_epochs", 1.5, "a whole number of at least 0, not 1.5."),
        ("n_pseudo_inputs", True, "a whole number of at least 1, not True."),
        ("latent_dimension", None, "a whole number of at least 1, not None."),
        ("learning_rate", 0, "a number above 0, not 0."),
        ("anneal_cap", 10**400, "a number of at least 0, not 1000"),
        (
            "linear_weight",
            1e39,
            "a number of at least 0 and at most 1000000000000 or auto, not 1e+39.",
        ),
        (
            "train_batch_size",
            10**30,
            "a whole number of at least 1 or auto, not 1000",
        ),
        ("reg_weight", float("inf"), "a number of at least 0 and at most 1000000000000, not inf."),
        ("split_seed", 2**32, "a whole number of at least 0 and at most 4294967295, not 429496729"),
        ("learner", "sdg", "one of adam_norm_grad, adam, adamw, sgd, adagrad, rmsprop, not 'sdg'."),
        ("gated", 1, "True or False, not 1."),
        *(
            ("mlp_hidden_size", value, "a list of whole numbers of at least 1, such as [600], not ")
            for value in ([600, 0], [], 600, ["a"])
        ),
        # Of WMF.
        ("embedding_size", True, "a whole number of at least 1, not True."),
        ("als_iterations", 1.5, "a whole number of at least 1, not 1.5."),
        ("reg_weight", -1, "a number of at least 0 and at most 1000000000000, not -1."),
    ],
)
def test_sentences(name, value, sentence):
    with pytest.raises(ValueError, match=f"^{name} must be {re.escape(sentence)}"):
        checked(name, value)
