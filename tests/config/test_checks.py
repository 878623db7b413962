"""Mistakes in models, files and settings end in a ValueError of one sentence."""

import re
import sys

import pytest
import recbole.model.general_recommender
import recbole.trainer
import torch
from recbole.config import Config
from recbole.trainer import Trainer

from recbole_evcf.commands.options import split_files
from recbole_evcf.config import model_names
from recbole_evcf.config.checks import check_processes
from recbole_evcf.config.files import resolve_config_files
from recbole_evcf.config.finished import finished_config, plain_settings
from recbole_evcf.config.model_names import unknown_model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_pseudo_inputs": -4}, "n_pseudo_inputs must be a whole number of at least 1, not -4"),
        ({"likelihood": "poisson"}, "likelihood must be multinomial or bernoulli, not 'poisson'"),
        ({"mlp_hidden_size": []}, "mlp_hidden_size must be a list of whole numbers"),
        ({"anneal_cap": -1}, "anneal_cap must be a number of at least 0, not -1"),
        ({"total_anneal_steps": 9, "warmup_epochs": 9}, "are both set"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"epochs": -1}, "epochs must be a whole number"),
        ({"train_batch_size": 0}, "train_batch_size must be a whole number of at least 1"),
        ({"learner": "sdg"}, "learner must be one of"),
        ({"valid_metric": "NDCG@100"}, "valid_metric is NDCG@100, which is not computed"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        Config("GatedHVamp", "ml-100k", config_dict=settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["BPR", "Vamp"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "clip_grad_norm must be such as {'max_norm': 0.5}, with a number above 0, not 0.5."),
        (
            {"maxnorm": 5},
            "clip_grad_norm must be such as {'max_norm': 5}, with a number above 0, not "
            "{'maxnorm': 5}.",
        ),
        (
            {"max_norm": -1},
            "clip_grad_norm must be such as {'max_norm': 5}, with a number above 0, not "
            "{'max_norm': -1}.",
        ),
    ],
)
def test_clip_grad_norm_names_what_it_takes(model, value, message):
    with pytest.raises(ValueError, match="clip_grad_norm") as caught:
        Config(model, "ml-100k", config_dict={"clip_grad_norm": value, "learner": "adam"})
    assert str(caught.value) == message


@pytest.mark.parametrize("settings", [{}, {"model": "BPR", "learner": "adam_norm_grad"}])
def test_clipping_without_effect_is_refused(settings):
    settings = {"model": "HVamp", "clip_grad_norm": {"max_norm": 5}, **settings}
    with pytest.raises(ValueError, match="clip_grad_norm") as caught:
        Config(dataset="ml-100k", config_dict=settings)
    assert str(caught.value) == (
        "clip_grad_norm has no effect with learner adam_norm_grad, which scales all gradients to "
        "unit norm: leave it out, or take another learner, such as adam."
    )
    clipped = Config(dataset="ml-100k", config_dict={**settings, "learner": "sgd"})
    assert clipped["clip_grad_norm"] == {"max_norm": 5}


def test_another_trainer_than_ours_knows_one_process_only(monkeypatch):
    monkeypatch.setattr(recbole.trainer, "VampTrainer", Trainer)
    config = Config("Vamp", "ml-100k")
    with pytest.raises(ValueError, match="nproc") as caught:
        check_processes(config, 2)
    assert str(caught.value) == (
        "Vamp is trained by Trainer, which knows one process only: leave out nproc and "
        "world_size, or train it by VAETrainer or a subclass."
    )


def test_built_in_models_are_not_checked():
    assert Config("BPR", "ml-100k", config_dict={"anneal_cap": -1})["anneal_cap"] == -1


@pytest.mark.parametrize("name", ["GatedHVam", "gatedhvamp", "GATEDHVAMP"])
def test_unknown_model_names_the_close_ones(name):
    with pytest.raises(ValueError, match=r"There is no model named .* Did you mean GatedHVamp"):
        Config(name, "ml-100k")


def test_unknown_model_may_be_close_to_recboles():
    assert "LightGCN" in str(unknown_model("LightGNC"))
    assert str(unknown_model("zzzzzz")).endswith("RecBole or recbole_evcf.")


def test_looking_for_names_leaves_torch_as_it_was():
    unknown_model("Nope")
    assert not torch.is_anomaly_enabled()


def test_missing_model_and_data_set():
    with pytest.raises(ValueError, match="model need to be specified"):
        Config(dataset="ml-100k")
    with pytest.raises(ValueError, match="dataset need to be specified"):
        Config(model="Vamp")


def test_config_files_by_name_and_path(tmp_path):
    (tmp_path / "own.yaml").write_text("latent_dimension: 17\n", encoding="utf-8")
    config = Config("GatedHVamp", "ml-100k", ["model/Vamp", str(tmp_path / "own.yaml")])
    assert config["gated"] is False
    assert config["latent_dimension"] == 17


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", r"bad\.yaml, line 3: not valid YAML"),
        ("- a\n- b\n", "must hold lines of `key: value`; it holds a list"),
        ("3\n", "it holds a int"),
        ("a: \x00", r"bad\.yaml: not valid YAML"),
    ],
)
def test_malformed_yaml(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Config("Vamp", "ml-100k", [str(path)])


@pytest.mark.parametrize("content", ["", "# latent_dimension: 3\n", "---\n"])
@pytest.mark.parametrize("model", ["Vamp", "BPR"])
def test_a_file_of_comments_sets_nothing(tmp_path, content, model):
    """RecBole without the plugin ends in a TypeError."""
    path, other = tmp_path / "comments.yaml", tmp_path / "other.yaml"
    path.write_text(content, encoding="utf-8")
    other.write_text("seed: 17\n", encoding="utf-8")
    with_it = Config(model, "ml-100k", [str(path), str(other), str(path)])
    assert with_it["seed"] == 17
    without = Config(model, "ml-100k", [str(other)])
    assert with_it.final_config_dict == without.final_config_dict
    assert resolve_config_files([str(path)]) == []


def test_missing_config_file_lists_the_shipped_ones():
    with pytest.raises(ValueError, match=r"no config file nope; the package ships .*model/Vamp"):
        resolve_config_files(["nope"])


def test_names_cannot_leave_the_shipped_folder():
    with pytest.raises(ValueError, match="no config file"):
        resolve_config_files(["../tests/../properties/../.ci/run"])


def test_aliases_that_multiply(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 10):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    (tmp_path / "ring.yaml").write_text("a: &a [*a]\n")
    for name in ("bomb", "ring"):
        with pytest.raises(ValueError, match="stand for too many values"):
            resolve_config_files([str(tmp_path / f"{name}.yaml")])
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 20_000)
    with pytest.raises(ValueError, match="not valid YAML"):
        resolve_config_files([str(tmp_path / "deep.yaml")])
    (tmp_path / "good.yaml").write_text("a: &a [8, 8]\nb: *a\nc: [*a, *a]\n")
    assert resolve_config_files([str(tmp_path / "good.yaml")])


@pytest.mark.parametrize(
    ("first", "second", "differ"),
    [
        ({"resumable": True}, {"resumable": False}, True),
        ({"resume": True}, {}, True),
        # Only the first process has files.
        ({"resume": True}, {"resumable": True}, False),
        ({"resumable": False}, {}, False),
    ],
)
def test_machines_have_in_common_whether_a_state_is_kept(first, second, differ, tiny):
    shared = [
        plain_settings(finished_config("Vamp", "tiny", [], {**tiny, **settings}))
        for settings in (first, second)
    ]
    names = {key for key in shared[0] if shared[0][key] != shared[1][key]}
    assert names == ({"resume or resumable"} if differ else set())


@pytest.mark.parametrize("model", ["BPR", "Vamp"])
def test_none_in_a_file_is_null(model):
    """YAML has null for it, and takes None for a string: a file of that name was written."""
    with open("own.yaml", "w", encoding="utf-8") as file:
        file.write("per_user_file: None\neval_args: {group_by: None}\n")
    from_file = Config(model, "ml-100k", ["own.yaml"])
    given = {"per_user_file": "None", "eval_args": {"group_by": "None"}}
    for config in (from_file, Config(model, "ml-100k", config_dict=given)):
        assert config["per_user_file"] is None
        assert config["eval_args"]["group_by"] is None


@pytest.mark.parametrize("files", ["own.yaml", 5])
def test_what_is_no_list_of_files(files):
    sentence = f"config_file_list must be a list of files, such as ['mine.yaml'], not {files!r}."
    for make in (Config, lambda *args: finished_config(*args)):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            make("BPR", "ml-100k", files)


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("a.yaml b.yaml", ["a.yaml", "b.yaml"]),
        ("'my own.yaml' b.yaml", ["my own.yaml", "b.yaml"]),
        ('"my own.yaml"', ["my own.yaml"]),
        ("my own.yaml", ["my", "own.yaml"]),
        ("one file.yaml", ["one file.yaml"]),
        (r"C:\a#b.yaml", [r"C:\a#b.yaml"]),
        ("", []),
    ],
)
def test_files_of_the_command_line(text, files, tmp_path):
    (tmp_path / "one file.yaml").touch()
    assert split_files(text) == files


@pytest.fixture
def beside_recboles_models(tmp_path, monkeypatch):
    """A folder whose modules are found as those of RecBole's models are."""
    monkeypatch.setattr(
        recbole.model.general_recommender,
        "__path__",
        [*recbole.model.general_recommender.__path__, str(tmp_path)],
    )
    return tmp_path


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import os\nimport nowhere",
            "ModuleNotFoundError: No module named 'nowhere', in {}, line 2",
        ),
        ("from os import nothing", "ImportError: cannot import name 'nothing' from 'os' "),
        ("import numpy\n\nnumpy.nothing", "AttributeError: module 'numpy' has no attribute "),
        ("class Broken(", "SyntaxError: '(' was never closed (broken.py, line 1)"),
    ],
)
def test_a_model_whose_module_cannot_be_imported_is_not_unknown(
    code, reason, beside_recboles_models
):
    path = beside_recboles_models / "broken.py"
    path.write_text(code, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^The module of Broken cannot be imp") as error:
        finished_config("Broken", "ml-100k", [])
    assert reason.format(path) in str(error.value)


def test_a_module_without_the_model_is_no_model(beside_recboles_models):
    (beside_recboles_models / "brokenno.py").write_text("import os", encoding="utf-8")
    with pytest.raises(ValueError, match="There is no model named 'BrokenNo'"):
        finished_config("BrokenNo", "ml-100k", [])


@pytest.mark.parametrize("name", ["LightGBM", "xgboost"])
def test_models_on_other_packages_name_those(name, monkeypatch):
    for package in ("lightgbm", "xgboost", "recbole.model.exlib_recommender"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"^The module of {name} cannot be imported "):
        finished_config(name, "ml-100k", [])


@pytest.mark.parametrize("name", ["AsymKNN", "sasreccpr"])
def test_a_model_of_a_later_recbole_is_named_as_such(name, monkeypatch):
    monkeypatch.setattr(recbole, "__version__", "1.2.0")
    monkeypatch.setattr(model_names, "import_fault", lambda name: None)
    error = unknown_model(name)
    assert str(error).lower() == (
        f"{name.lower()} came with recbole 1.2.1, and 1.2.0 is installed: python 3.11 is the "
        "newest for which pip can install 1.2.1."
    )
