"""Who may know whom: the rules of the developer guide, read from the imports."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import recbole_evcf
from build import python

PACKAGE = Path(recbole_evcf.__file__).parent


def _name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix("__init__").removesuffix(".")


MODULES = {_name(path): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def _known_by(name: str) -> set[str]:
    """Modules of ours that a module imports, anywhere in it."""
    known = set()
    for node in ast.walk(ast.parse(MODULES[name])):
        if isinstance(node, ast.Import):
            known |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            # The version is there before the package imports anything.
            names = {alias.name for alias in node.names} - {"__version__"}
            of = {f"{node.module}.{name}" for name in names}
            known |= {each if _ours(each) in MODULES else node.module for each in of}
    return {_ours(each) for each in known if _ours(each) in MODULES}


def _ours(name: str) -> str | None:
    first, _, rest = name.partition(".")
    return rest if first == "recbole_evcf" else None


KNOWS = {name: _known_by(name) for name in MODULES}


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _modules_of(package: str) -> set[str]:
    return {name for name in MODULES if _within(name, package)}


def test_the_imports_are_read():
    assert "model.vae" in KNOWS["model.recommender"]
    assert {"hooks.fixes", "hooks.models"} <= KNOWS[""]
    assert "data.prepare.pro_sg" in KNOWS["data.prepare"]
    assert len(MODULES) > 60


def test_the_fixes_know_nobody():
    known = {"hooks.fixes_data", "hooks.wrapping", "utils.text", "utils.packages"}
    for name in ("hooks.fixes", *known):
        assert KNOWS[name] <= known, name


def test_models_know_keys_histories_and_each_other():
    models = _modules_of("model")
    for name in models:
        assert KNOWS[name] - models <= {"config.keys", "data.histories"}, name


@pytest.mark.parametrize("package", ["data", "evaluator", "trainer", "report"])
def test_who_knows_no_model(package):
    upper = ("model", "app", "comparison", "tuning", "inspection", "serving", "commands")
    forbidden = set.union(*map(_modules_of, upper))
    for name in _modules_of(package):
        assert not KNOWS[name] & forbidden, name


@pytest.mark.parametrize(
    ("known", "knowers"),
    [
        ("cli", {"__main__"}),
        ("hooks", {"", "hooks"}),
        ("commands", {"cli", "commands"}),
        ("quick_start", {"", "cli", "hooks", "commands", "inspection", "comparison", "tuning"}),
    ],
)
def test_who_is_known_by_whom(known, knowers):
    found = {name for name in MODULES if KNOWS[name] & _modules_of(known)}
    assert {name.partition(".")[0] for name in found} <= knowers


def test_recbole_is_changed_in_the_hooks_alone():
    for name in MODULES.keys() - _modules_of("hooks"):
        assert "hooks.wrapping" not in KNOWS[name], name
        assert "setattr(recbole" not in MODULES[name], name


def test_no_file_of_the_hooks_is_long():
    for name in _modules_of("hooks"):
        assert len(MODULES[name].splitlines()) <= 250, name


def test_how_much_of_recbole_an_import_replaces(monkeypatch):
    """Functions and methods are counted once; names that RecBole's modules read by module."""
    monkeypatch.delenv("RECBOLE_EVCF_SPEED_UP", raising=False)
    code = "import recbole_evcf.hooks.wrapping as w; print(len(w.REPLACED), len(w.EXCHANGED))"
    replaced, exchanged = map(int, python(code).split()[-2:])
    assert 0 < replaced <= 25
    assert 0 < exchanged <= 13


def test_there_is_no_circle():
    TopologicalSorter(KNOWS).prepare()


def test_every_module_says_what_it_is():
    packages = {name.rpartition(".")[0] for name in MODULES}
    for name in MODULES.keys() - packages - {"__main__"}:
        assert ast.get_docstring(ast.parse(MODULES[name])), name
