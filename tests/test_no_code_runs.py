"""Nothing that a user gives, and no file, is run as code."""

from __future__ import annotations

import ast
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model

from build import build
from recbole_evcf import Recommender, cli
from recbole_evcf.utils.literals import plain_value

CHECKOUT = Path(__file__).parents[1]
SOURCES = sorted(
    [
        *(CHECKOUT / "recbole_evcf").rglob("*.py"),
        *(CHECKOUT / "benchmarks").glob("*.py"),
        CHECKOUT / "run_recbole_evcf.py",
    ]
)

# Calls that run what they are given, or let a file do so, by their full names; tempfile.mktemp is
# a name that another process can take before it is used.
NAMES = """eval exec compile __import__ pickle.load pickle.loads pickle.Unpickler pickle.dump
pickle.dumps cPickle.load cloudpickle.load cloudpickle.loads dill.load dill.loads joblib.load
marshal.load marshal.loads shelve.open pandas.read_pickle numpy.fromregex yaml.load yaml.load_all
yaml.full_load yaml.unsafe_load yaml.UnsafeLoader yaml.FullLoader os.system os.popen
subprocess.getoutput subprocess.getstatusoutput runpy.run_path runpy.run_module code.interact
tempfile.mktemp shutil.unpack_archive tarfile.open"""
NEVER = set(NAMES.split())
NEVER_METHODS = {"extractall", "read_pickle", "to_pickle", "unsafe_load"}
# Modules are imported by names that the package makes: such a text begins so.
IMPORTED = ("recbole.", "recbole_evcf.", "ray.", "recbole")
# Loops over names that stand beside them; and the modules of a user's own, which the environment
# variable names in order to have them imported.
OWN_NAMES = {("register.py", "module_name"), ("worker.py", "module"), ("plugins.py", "name")}


def faults(source: str, file: str = "") -> list[str]:
    """Calls in a module that would run what they are given, as ``line: name``."""
    tree = ast.parse(source)
    aliases = dict(_aliases(tree))
    found = []
    for node in ast.walk(tree):
        name = _full_name(node, aliases)
        if name in NEVER and not isinstance(node, ast.Call):
            # Handed on, such as yaml.FullLoader, or eval under another name.
            found.append((node.lineno, name))
        if isinstance(node, ast.Call):
            called = _full_name(node.func, aliases)
            if _unsafe(node, called, file):
                found.append((node.lineno, called))
    return [f"{line}: {name}" for line, name in sorted(set(found))]


def _unsafe(call: ast.Call, name: str | None, file: str) -> bool:
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    if name is None:
        return isinstance(call.func, ast.Attribute) and call.func.attr in NEVER_METHODS
    if name.rpartition(".")[2] in NEVER_METHODS:
        return True
    if name == "torch.load":
        return not _is(options.get("weights_only"), True)
    if name == "numpy.load":
        return not _is(options.get("allow_pickle"), False)
    if name.startswith("subprocess."):
        return "shell" in options and not _is(options["shell"], False)
    if name.endswith("import_module"):
        return not _is_own(call.args[0], file)
    return False


def _is(node, value) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_own(node, file: str) -> bool:
    node = node.values[0] if isinstance(node, ast.JoinedStr) else node
    if isinstance(node, ast.Constant):
        return str(node.value).startswith(IMPORTED)
    return isinstance(node, ast.Name) and (file, node.id) in OWN_NAMES


def _aliases(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                top = name.name.partition(".")[0]
                yield name.asname or top, name.name if name.asname else top
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                yield name.asname or name.name, f"{node.module}.{name.name}"


def _full_name(node, aliases) -> str | None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _full_name(node.value, aliases)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_source_of_ours_runs_what_it_is_given(path):
    assert faults(path.read_text(encoding="utf-8"), path.name) == []


FOUND = """eval(text)
e = eval
exec(text)
import pickle; pickle.load(f)
from pickle import load as read; read(f)
import pickle as p; p.Unpickler(f)
import torch; torch.load(path)
import torch; torch.load(path, weights_only=False)
import torch; torch.load(path, weights_only=flag)
import numpy as np; np.load(path)
import numpy as np; np.load(path, allow_pickle=True)
import pandas as pd; pd.read_pickle(path)
frame.to_pickle(path)
import yaml; yaml.load(text, Loader=yaml.FullLoader)
import yaml; yaml.unsafe_load(text)
import os; os.system(text)
import subprocess; subprocess.run(text, shell=True)
from subprocess import Popen; Popen(text, shell=flag)
import importlib; importlib.import_module(name)
from importlib import import_module; import_module(f'{name}.x')
import tempfile; tempfile.mktemp()
archive.extractall(folder)
import joblib; joblib.load(path)"""
ALLOWED = """model.eval()
import torch; torch.load(path, weights_only=True)
import numpy as np; np.load(path, allow_pickle=False)
import re; re.compile(text)
import yaml; yaml.safe_load(text)
import subprocess; subprocess.run(['a', text])
from importlib import import_module; import_module(f'recbole.model.{name}')"""


def test_what_the_search_finds_and_allows():
    assert [source for source in FOUND.splitlines() if not faults(source)] == []
    assert [source for source in ALLOWED.splitlines() if faults(source)] == []


class Payload:
    def __reduce__(self):
        return os.mkdir, ("the-code-ran",)


@pytest.fixture
def ran():
    """Whether a payload has run, which none must have at the end."""
    yield lambda: os.path.exists("the-code-ran")
    assert not os.path.exists("the-code-ran")


CODE = '__import__("os").mkdir("the-code-ran")'
TAG = "!!python/object/apply:os.mkdir [the-code-ran]"
COMMANDS = {
    "recommend": ["--output=out.csv"],
    "recommend ": ["--output=out.csv", "--histories=h.csv"],
    "inspect": ["--output=out"],
    "export": ["--output=out.onnx"],
}
WRAPPED = {
    "pickle": lambda: Path("m.pth").write_bytes(pickle.dumps(Payload())),
    "torch": lambda: torch.save(Payload(), "m.pth", _use_new_zipfile_serialization=False),
    "zip": lambda: torch.save(Payload(), "m.pth"),
    "inside": lambda: torch.save(
        {"config": {"model": "HVamp"}, "state_dict": {"w": Payload()}}, "m.pth"
    ),
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_model_file_with_code(wrap, tiny, capsys, ran):
    Path("h.csv").write_text("user,item\nann,i1\n")
    WRAPPED[wrap]()
    for command, more in COMMANDS.items():
        assert cli.main([command.strip(), "--model_file=m.pth", *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "not a model file that can be read without running code" in error
        assert not list(Path.cwd().glob("out*"))
    with pytest.raises(ValueError, match="without running code"):
        Recommender.load("m.pth")


def test_a_trainer_that_resumes_from_code(tiny, ran):
    _, _, _, trainer = build("BPR", "tiny", tiny)
    torch.save({"config": {}, "state_dict": {}, "optimizer": Payload()}, "m.pth")
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        trainer.resume_checkpoint("m.pth")


@pytest.mark.parametrize("key", ["mlp_hidden_size", "dropout_prob", "eval_args", "learner", "x"])
def test_settings_on_the_command_line(key, tiny, capsys, ran):
    # A setting nobody reads stays a text; it would take a training to see that it does no harm.
    epochs = ["--epochs=x"] if key == "x" else []
    assert cli.main(["run", f"--{key}={CODE.replace('=', '')}", *epochs]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "compare", "tune"])
@pytest.mark.parametrize(
    "tag", [TAG, TAG.replace("apply", "new"), "!!python/name:os.mkdir", "!!python/module:os"]
)
def test_tags_in_a_config_file(command, tag, capsys, ran):
    Path("c.yaml").write_text(f"epochs: {tag}\n")
    more = {
        "compare": ["--models=Pop"],
        "tune": ["--model=Pop", "--params_file=hyper/Vamp.hyper", "--output=t"],
    }
    arguments = [command, "--dataset=ml-100k", "--config_files=c.yaml", *more.get(command, [])]
    assert cli.main(arguments) == 2
    assert "c.yaml: line 1: not valid YAML" in capsys.readouterr().err


def test_a_config_of_recboles_runs_nothing(ran):
    """Python users hand files and dicts to RecBole's ``Config``."""
    Path("c.yaml").write_text(f"a: {TAG}\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        Config("BPR", "ml-100k", config_file_list=["c.yaml"])
    assert Config("BPR", "ml-100k", config_dict={"tail_ratio": CODE})["tail_ratio"] == CODE


@pytest.mark.parametrize("value", [CODE, f"[{CODE}]", TAG, f"[1, {TAG}]", f"(lambda: {CODE})()"])
def test_overrides_of_a_comparison(value, capsys, ran):
    models = f"Vamp[anneal_cap={value}]"
    assert cli.main(["compare", f"--models={models}", "--dataset=ml-100k"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", [f"[{CODE}]", CODE, f"['{CODE}', {CODE}]"])
def test_a_params_file(text, capsys, ran):
    Path("p.hyper").write_text(f"anneal_cap choice {text}\n")
    arguments = ["tune", "--model=Vamp", "--dataset=ml-100k", "--params_file=p.hyper"]
    assert cli.main([*arguments, "--output=t"]) == 2
    assert "p.hyper, line 1: the choices of anneal_cap must be a list" in capsys.readouterr().err


def test_results_of_a_comparison_are_data(tiny, compared, sg, in_process, ran):
    compared("Pop", sg)
    file = next(Path("out/runs").glob("*.json"))
    with open(file, "wb") as opened:
        pickle.dump(Payload(), opened)
    outcome = compared("Pop", sg)
    assert in_process == ["Pop", "Pop"]
    assert not outcome.failures
    json.loads(file.read_text())


def test_trials_of_a_search_are_data(tiny, ran):
    file = Path("t/trials/0001.json")
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(Payload()))
    Path("c.yaml").write_text(yaml.safe_dump(tiny))
    arguments = ["tune", "--model=Vamp", "--dataset=tiny", "--params_file=hyper/Vamp.hyper"]
    once = ["--algo=random", "--max_evals=1", "--epochs=1", "--output=t"]
    # A trial that cannot be read is done again.
    assert cli.main([*arguments, "--config_files=c.yaml", *once]) == 0
    json.loads(file.read_text())


class TestRecBolesModels:
    @pytest.mark.parametrize("text", [CODE, "os", "x", ""])
    def test_the_name_of_a_teacher(self, text, ran):
        from recbole.model.context_aware_recommender import kd_dagfm

        with pytest.raises(ValueError, match="teacher must name a network"):
            kd_dagfm.eval(text)
        assert kd_dagfm.eval("CrossNet") is kd_dagfm.CrossNet

    def test_the_model_with_a_teacher(self, tiny, ran):
        settings = {**tiny, "phase": "teacher_training", "t_depth": 1, "t_attention_size": 4}
        # It learns from labels, or from negative samples.
        settings["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
        config = Config("KD_DAGFM", "tiny", config_dict={**settings, "teacher": CODE})
        with pytest.raises(ValueError, match="teacher must name"):
            get_model("KD_DAGFM")(config, create_dataset(config))

    def test_embeddings_of_a_data_set(self, tiny, ran):
        file = Path(tiny["data_path"]) / "tiny" / "item_emb.npy"
        settings = {**tiny, "n_cate": 2, "dims_dnn": [16], "in_dims": [16], "out_dims": [16]}
        config = Config("LDiffRec", "tiny", config_dict=settings)
        dataset = data_preparation(config, create_dataset(config))[0]._dataset
        for write in (
            lambda: np.save(file, np.array([Payload()], dtype=object), allow_pickle=True),
            lambda: file.write_bytes(pickle.dumps(Payload())),
        ):
            write()
            with pytest.raises(ValueError, match=r"item_emb\.npy holds no array of numbers"):
                get_model("LDiffRec")(config, dataset)

    def test_embeddings_of_numbers_are_read(self):
        from recbole.model.general_recommender import ldiffrec

        np.save("a.npy", np.arange(6.0).reshape(2, 3))
        assert ldiffrec.np.load("a.npy", allow_pickle=True).tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_the_name_of_a_model_is_no_module(self, capsys, ran, monkeypatch):
        Path("evil.py").write_text("import os\nos.mkdir('the-code-ran')\n")
        monkeypatch.syspath_prepend(os.getcwd())
        for name in ("evil", "../evil", ".evil", "evil.evil", "...evil"):
            assert cli.main(["run", f"--model={name}"]) == 2
            assert capsys.readouterr().err.count("\n") == 1


def test_arithmetic_is_all_that_is_calculated(ran):
    assert plain_value("[2**3]") == [8]
    for text in (CODE, "().__class__", "[x for x in ()]", "f'{1}'"):
        with pytest.raises(SyntaxError):
            plain_value(text)
