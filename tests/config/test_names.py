"""A key that nobody reads is refused, wherever it stands; RecBole's models take their own."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
import recbole.model.general_recommender
import torch
import yaml
from recbole.config import Config
from recbole.model.general_recommender import BPR

from conftest import config_files
from recbole_evcf import cli, register_model
from recbole_evcf.config.checks import DECLARED, model_names, unknown_model
from recbole_evcf.config.keys import KEYS, Role, with_role
from recbole_evcf.model.models import Vamp

# A user's models: one says nothing of its keys, the others declare one.
Undeclared, Declared = type("Undeclared", (BPR,), {}), type("Declared", (BPR,), {})
DeclaredVamp = type("DeclaredVamp", (Vamp,), {})


def config_of(model, **settings):
    # Sequential models with a cross entropy take no other.
    return Config(model, "ml-100k", config_dict={"train_neg_sample_args": None, **settings})


def from_dict(model, settings):
    return Config(model, "ml-100k", config_dict=dict(settings))


def from_file(model, settings):
    Path("own.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Config(model, "ml-100k", ["own.yaml"])


def from_words(model, settings):
    sys.argv = ["script.py", *(f"--{key}={value}" for key, value in settings.items())]
    return Config(model, "ml-100k")


SOURCES = [from_dict, from_file, from_words]


def said_by(source, model, settings) -> str:
    """The sentence; on a command line, behind it that RecBole reads that of any program."""
    with pytest.raises(ValueError, match=r".+") as caught:
        source(model, settings)
    sentence, _, more = str(caught.value).partition(" (RecBole reads words --key=value from ")
    assert bool(more) == (source is from_words)
    if source is from_file:
        assert sentence.startswith("own.yaml: ")
    return sentence.removeprefix("own.yaml: ")


FILES = (
    "{} is no setting: name config files with --config_files=... on the command line, or with "
    "config_file_list=[...] in Python."
)
PART = "{0} has no effect by itself: it belongs in eval_args, such as eval_args={{'{0}': {1!r}}}."
OLD = "{} is a setting of older RecBole releases and has no effect: {}."
PARTS = {"fold_in_ratio": 0.5, "order": "TO", "mode": "uni100", "group_by": "user"}
PARTS["split"] = {"RS": [8, 1, 1]}
MISTAKES = [
    ("epoch", 3, "BPR has no setting 'epoch'. Did you mean epochs"),
    ("latent_dimensions", 3, " has no setting 'latent_dimensions'. Did you mean latent_dimension"),
    ("training_batch_size", 3, "Did you mean train_batch_size"),
    ("splitseed", 3, "Did you mean split_seed"),
    *((key, "x.yaml", FILES.format(key)) for key in ("config", "config_file", "config_file_list")),
    *((key, value, PART.format(key, value)) for key, value in PARTS.items()),
    *(
        (key, 3, OLD.format(key, f"use {KEYS[key].help}" if KEYS[key].help else "leave it out"))
        for key in with_role(Role.OF_OLDER_RELEASES)
    ),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("model", ["BPR", "Vamp"])
@pytest.mark.parametrize(("key", "value", "sentence"), MISTAKES)
def test_a_key_that_nobody_reads_of_any_source(source, model, key, value, sentence):
    assert sentence.replace("BPR", model) in said_by(source, model, {key: value})


@pytest.mark.parametrize("source", [from_dict, from_file])
def test_a_key_that_resembles_nothing(source):
    assert said_by(source, "BPR", {"qqqqq": 3}) == (
        "BPR has no setting 'qqqqq'. A model of your own declares its settings: "
        "register_model(MODEL, defaults={...})."
    )


def test_options_of_the_program_that_runs_are_no_settings(caplog):
    """RecBole reads --key=value from the command line of any program."""
    from_words("BPR", {"cov-report": "html", "config_files": "a.yaml", "epochs": 3})
    assert [text.split()[0] for text in caplog.messages] == ["cov-report"]


def test_settings_of_some_models():
    assert config_of("LINE", order=1)["order"] == 1
    assert config_of("KD_DAGFM", t_attention_size=3)["t_attention_size"] == 3
    with pytest.raises(ValueError, match=r"BPR has no setting 't_attention_size'\."):
        config_of("BPR", t_attention_size=3)


RUN, COMPARE = ["run", "--model=BPR"], ["compare", "--models=BPR,Vamp", "--output=out"]
REPRODUCE = ["reproduce", "table1", "--quick", "--output=out"]
TUNE = ["tune", "--model=Vamp", "--params_file=hyper/Vamp.hyper", "--output=out"]


@pytest.mark.parametrize(("command", "what"), [(COMPARE, "a comparison"), (TUNE, "a search")])
@pytest.mark.parametrize("word", ["--nproc=2", "--per_user_file=users.csv", "--world_size=2"])
def test_settings_of_one_run_are_refused_where_there_are_several(command, what, word, refused):
    key = word[2:].partition("=")[0]
    assert refused(*command, "--dataset=ml-100k", word) == (
        f"recbole-evcf: error: {key} is a setting of one run, and {what} makes several: leave it "
        "out, or train that model with `recbole-evcf run`.\n"
    )


@pytest.mark.parametrize(
    "command", [["run", "--model=FM"], ["compare", "--models=FM,Pop", "--output=out"]]
)
def test_a_model_that_learns_from_labels_names_what_is_missing(command, tiny, capsys):
    assert cli.main([*command, "--dataset=tiny", config_files({**tiny, "epochs": 1})]) > 0
    captured = capsys.readouterr()
    assert "FM learns from labels, and tiny has no column label: " in captured.err + captured.out


@pytest.mark.parametrize("command", [RUN, COMPARE, REPRODUCE, TUNE], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--latent_dimensions=5", "Did you mean latent_dimension"),
        ("--min_user_inter_num=5", "use user_inter_num_interval"),
        ("--qqqqq=5", "no setting 'qqqqq'"),
        ("--config=x.yaml", "--config_files"),
        ("--mode=full", "eval_args={'mode': 'full'}"),
    ],
)
def test_every_command_refuses_it_at_once(command, word, said, refused, monkeypatch):
    monkeypatch.setattr("recbole.data.utils.create_dataset", None)
    assert said in refused(*command, "--dataset=ml-100k", word)


def test_a_users_model_may_have_keys_that_it_does_not_declare(caplog):
    register_model(Undeclared)
    config = from_dict("Undeclared", {"my_own_margin": 3})
    assert config["my_own_margin"] == 3
    assert caplog.messages[0].startswith("my_own_margin is no setting of RecBole")
    for wrong in ("embeding_size", "lowest_val", "order", "config_file"):
        with pytest.raises(ValueError, match=wrong):
            from_dict("Undeclared", {wrong: 3})
    with pytest.raises(ValueError, match=r"Did you mean epochs\? A model of your own declares its"):
        from_dict("Undeclared", {"epoch": 3})


def test_a_users_model_may_declare_its_keys(caplog):
    for model in (Declared, DeclaredVamp):
        register_model(model, defaults={"my_own_weight": 1.5, "mode": "x"})
        name = model.__name__
        assert from_dict(name, {"my_own_weight": 3, "mode": "y"})["my_own_weight"] == 3
        with pytest.raises(ValueError, match=rf"{name} has no setting 'my_own_weights'\."):
            from_dict(name, {"my_own_weights": 3})
    # One command line may serve several models.
    assert from_dict("Pop", {"my_own_weight": 3})
    assert not caplog.records
    for model in (Declared, DeclaredVamp):
        del DECLARED[model]


def test_a_key_that_is_no_string():
    with pytest.raises(ValueError, match=r"^a key must be a string, not '5'\."):
        Config("BPR", "ml-100k", config_dict={5: 3})


def test_every_model_takes_every_key_that_its_code_reads():
    """All of RecBole's and ours, with the keys in their source, in their files and of others."""
    checked = 0
    for name in sorted(model_names()):
        try:
            config = config_of(name)
        except (ValueError, NotImplementedError, AttributeError):
            # Abstract classes, and those that want more than a data set.
            continue
        module = config.model_class.__module__
        if not module.startswith("recbole."):
            continue
        source = inspect.getsource(importlib.import_module(module))
        read = re.findall(r"""config\[\s*["'](\w+)["']\s*\]""", source)
        own = {key: config[key] for key in {*read, *config.internal_config_dict}}
        others = {"n_pseudo_inputs": 3, "embedding_size": 8, "reg_weight": 1, "LABEL_FIELD": "l"}
        derived = ("MODEL_TYPE", "MODEL_INPUT_TYPE", "device")
        given = {key: value for key, value in {**others, **own}.items() if key not in derived}
        given["train_neg_sample_args"] = None
        Config(name, "ml-100k", config_dict=given)
        checked += 1
    assert checked > 80


@pytest.mark.parametrize("name", ["GatedHVam", "gatedhvamp", "GATEDHVAMP"])
def test_unknown_model_names_the_close_ones(name):
    with pytest.raises(ValueError, match=r"There is no model named .* Did you mean GatedHVamp"):
        Config(name, "ml-100k")
    assert "LightGCN" in str(unknown_model("LightGNC"))
    assert str(unknown_model("zzzzzz")).endswith("RecBole or recbole_evcf.")
    assert not torch.is_anomaly_enabled()


FAULT = "The module of Broken cannot be imported ("
BROKEN = {
    "import nowhere": f"{FAULT}ModuleNotFoundError: No module named 'nowhere', in ",
    "class Broken(": f"{FAULT}SyntaxError: '(' was never closed (broken.py, line 1)).",
    "import os": "There is no model named 'Broken' in RecBole or recbole_evcf.",
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_model_whose_module_cannot_be_imported_is_not_unknown(code, tmp_path, monkeypatch):
    package = recbole.model.general_recommender
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    sys.modules.pop("recbole.model.general_recommender.broken", None)
    (tmp_path / "broken.py").write_text(code, encoding="utf-8")
    with pytest.raises(ValueError, match=r"Broken") as error:
        Config("Broken", "ml-100k")
    assert str(error.value).startswith(BROKEN[code])


@pytest.mark.parametrize("name", ["LightGBM", "xgboost"])
def test_models_on_other_packages_name_those(name, monkeypatch):
    for package in ("lightgbm", "xgboost", "recbole.model.exlib_recommender"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"^The module of {name} cannot be imported "):
        Config(name, "ml-100k")
