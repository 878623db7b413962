"""Nothing that a user gives, and no file, is run as code."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.context_aware_recommender import kd_dagfm
from recbole.model.general_recommender import ldiffrec
from recbole.utils import get_model

from build import build
from conftest import config_files
from recbole_evcf import Recommender, cli

CHECKOUT = Path(__file__).parents[1]
SOURCES = [*(CHECKOUT / "recbole_evcf").rglob("*.py"), *(CHECKOUT / "benchmarks").glob("*.py")]
SOURCES += [CHECKOUT / "run_recbole_evcf.py"]
# The linter's rules against eval, pickle, marshal, shells, unsafe YAML and unpacked archives.
RULES = "S102,S202,S301,S302,S306,S307,S506,S602,S604,S605"
# What they do not cover: loading with code, and modules imported by a name that somebody gives.
LOADS = re.compile(r"torch\.load\((?!.*weights_only=True)|allow_pickle=True")
IMPORTED = re.compile(r"import_module\((?!f?\"(recbole(?:_evcf)?|ray)[.\"])")
# A loop over names beside it; modules that the environment variable names, and our own.
OWN_NAMES = {"worker.py", "packages.py"}


def faults(*paths: Path) -> list[str]:
    """Lines that could run what they are given."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", RULES]
    command += ["--output-format=concise", "-q", *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    for path in paths:
        source = path.read_text(encoding="utf-8")
        given = [] if path.name in OWN_NAMES else IMPORTED.finditer(source)
        found += [f"{path}: {match[0]}" for match in (*LOADS.finditer(source), *given)]
    return found


def test_no_source_of_ours_runs_what_it_is_given(tmp_path):
    assert len(SOURCES) > 60
    assert faults(*SOURCES) == []
    for bad in ("eval(x)", "import pickle\npickle.load(f)", "torch.load(path)", "import_module(x)"):
        (tmp_path / "bad.py").write_text(bad)
        assert len(faults(tmp_path / "bad.py")) == 1, bad


class Payload:
    def __reduce__(self):
        return os.mkdir, ("the-code-ran",)


@pytest.fixture(autouse=True)
def _no_code_ran():
    yield
    assert not os.path.exists("the-code-ran")


CODE = '__import__("os").mkdir("the-code-ran")'
TAG = "!!python/object/apply:os.mkdir [the-code-ran]"
TAGS = [TAG, TAG.replace("apply", "new"), "!!python/name:os.mkdir", "!!python/module:os"]
# What there is to write with code in it, and how.
STATE = {"config": {"model": "HVamp"}, "state_dict": {"w": Payload()}}
WRAPPED = {
    "pickle": lambda: Path("m.pth").write_bytes(pickle.dumps(Payload())),
    "torch": lambda: torch.save(Payload(), "m.pth", _use_new_zipfile_serialization=False),
    "zip": lambda: torch.save(Payload(), "m.pth"),
    "inside": lambda: torch.save(STATE, "m.pth"),
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_model_file_with_code(wrap, tiny, refused):
    Path("h.csv").write_text("user,item\nann,i1\n")
    WRAPPED[wrap]()
    recommend = ["recommend", "--output=out.csv"]
    others = ["inspect", "--output=out"], ["export", "--output=out.onnx"]
    for command in (recommend, [*recommend, "--histories=h.csv"], *others):
        error = refused(*command, "--model_file=m.pth")
        assert "not a model file that can be read without running code" in error
        assert not list(Path.cwd().glob("out*"))
    with pytest.raises(ValueError, match="without running code"):
        Recommender.load("m.pth")


def test_a_trainer_that_resumes_from_code(tiny):
    _, _, _, trainer = build("BPR", "tiny", tiny)
    torch.save({"config": {}, "state_dict": {}, "optimizer": Payload()}, "m.pth")
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        trainer.resume_checkpoint("m.pth")


TUNE = ["tune", "--dataset=ml-100k", "--model=Vamp", "--output=t"]
COMMANDS = [["run", "--dataset=ml-100k"], ["compare", "--dataset=ml-100k", "--models=Pop"]]
COMMANDS += [[*TUNE, "--params_file=hyper/Vamp.hyper"]]


@pytest.mark.parametrize("key", ["mlp_hidden_size", "dropout_prob", "eval_args", "learner", "x"])
def test_settings_on_the_command_line(key, tiny, refused):
    # A setting nobody reads stays a string; it would take a training to see that it does no harm.
    epochs = ["--epochs=x"] if key == "x" else []
    refused("run", f"--{key}={CODE.replace('=', '')}", *epochs)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("tag", TAGS)
def test_tags_in_a_config_file(command, tag, refused):
    Path("c.yaml").write_text(f"epochs: {tag}\n")
    error = refused(*command, "--config_files=c.yaml")
    assert "c.yaml: line 1: not valid YAML" in error


@pytest.mark.parametrize("value", [CODE, f"[{CODE}]", TAG, f"[1, {TAG}]", f"(lambda: {CODE})()"])
def test_overrides_of_a_comparison(value, refused):
    refused("compare", "--dataset=ml-100k", f"--models=Vamp[anneal_cap={value}]")


@pytest.mark.parametrize("text", [f"[{CODE}]", CODE, f"['{CODE}', {CODE}]"])
def test_a_params_file(text, refused):
    Path("p.hyper").write_text(f"anneal_cap choice {text}\n")
    error = refused(*TUNE, "--params_file=p.hyper")
    assert "p.hyper, line 1: the range of anneal_cap must be a list" in error


def test_results_of_a_comparison_are_data(tiny, compared, sg, in_process):
    compared("Pop", sg)
    file = next(Path("out/runs").glob("*.json"))
    with open(file, "wb") as opened:
        pickle.dump(Payload(), opened)
    outcome = compared("Pop", sg)
    assert in_process == ["Pop", "Pop"]
    assert not outcome.failures
    json.loads(file.read_text())


def test_trials_of_a_search_are_data(tiny):
    file = Path("t/trials/0001.json")
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(Payload()))
    files = config_files({**tiny, "dataset": "tiny", "epochs": 1})
    space = ["--params_file=hyper/Vamp.hyper", "--algo=random", "--max_evals=1", "--output=t"]
    # A trial that cannot be read is done again.
    assert cli.main(["tune", "--model=Vamp", files, *space]) == 0
    json.loads(file.read_text())


class TestRecBolesModels:
    def test_the_name_of_a_teacher(self, tiny):
        for text in (CODE, "os", "x", ""):
            with pytest.raises(ValueError, match="teacher must name a network"):
                kd_dagfm.eval(text)
        assert kd_dagfm.eval("CrossNet") is kd_dagfm.CrossNet
        settings = {**tiny, "phase": "teacher_training", "t_depth": 1, "t_attention_size": 4}
        # It learns from labels, or from negative samples.
        settings["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
        config = Config("KD_DAGFM", "tiny", config_dict={**settings, "teacher": CODE})
        with pytest.raises(ValueError, match="teacher must name"):
            get_model("KD_DAGFM")(config, create_dataset(config))

    def test_embeddings_of_a_data_set(self, tiny):
        file = Path(tiny["data_path"]) / "tiny" / "item_emb.npy"
        settings = {**tiny, "n_cate": 2, "dims_dnn": [16], "in_dims": [16], "out_dims": [16]}
        config = Config("LDiffRec", "tiny", config_dict=settings)
        dataset = data_preparation(config, create_dataset(config))[0]._dataset
        np.save("array.npy", np.array([Payload()], dtype=object), allow_pickle=True)
        for content in (Path("array.npy").read_bytes(), pickle.dumps(Payload())):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=r"item_emb\.npy holds no array of numbers"):
                get_model("LDiffRec")(config, dataset)
        numbers = np.arange(6.0).reshape(2, 3)
        np.save(file, numbers)
        assert (ldiffrec.np.load(file, allow_pickle=True) == numbers).all()

    def test_the_name_of_a_model_is_no_module(self, refused, monkeypatch):
        Path("evil.py").write_text("import os\nos.mkdir('the-code-ran')\n")
        monkeypatch.syspath_prepend(os.getcwd())
        for name in ("evil", "../evil", ".evil", "evil.evil", "...evil"):
            refused("run", f"--model={name}")
