"""Who may know whom: the rules of the developer guide, read from the imports."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recbole_evcf

PACKAGE = Path(recbole_evcf.__file__).parent


def _modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _known_by(name: str) -> set[str]:
    """Modules of ours that a module imports, anywhere in it."""
    known = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
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


def _knowers(of: str) -> set[str]:
    return {name for name, known in KNOWS.items() if any(_within(each, of) for each in known)}


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


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
    for name in filter(lambda name: _within(name, "model"), MODULES):
        others = {each for each in KNOWS[name] if not _within(each, "model")}
        assert others <= {"config.keys", "data.histories"}, name


@pytest.mark.parametrize("package", ["data", "evaluator", "trainer", "report"])
def test_who_knows_no_model(package):
    upper = ("model", "app", "comparison", "tuning", "inspection", "serving", "commands")
    for name in filter(lambda name: _within(name, package), MODULES):
        assert not any(_within(each, of) for each in KNOWS[name] for of in upper), name


@pytest.mark.parametrize(
    ("known", "knowers"),
    [
        ("cli", {"__main__"}),
        ("hooks", {"", "hooks"}),
        ("commands", {"cli", "commands"}),
        ("quick_start", {"", "cli", "hooks", "commands", "inspection"}),
    ],
)
def test_who_is_known_by_whom(known, knowers):
    assert {name.partition(".")[0] for name in _knowers(known)} <= knowers


def test_recbole_is_changed_in_the_hooks_alone():
    for name in MODULES.keys() - {name for name in MODULES if _within(name, "hooks")}:
        assert "hooks.wrapping" not in KNOWS[name], name
        assert "setattr(recbole" not in MODULES[name].read_text(encoding="utf-8"), name


def test_no_file_of_the_hooks_is_long():
    for name in filter(lambda name: _within(name, "hooks"), MODULES):
        assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 250, name


def test_how_much_of_recbole_an_import_replaces():
    """Functions and methods are counted once; names that RecBole's modules read by module."""
    code = "import recbole_evcf.hooks.wrapping as w; print(len(w.REPLACED), len(w.EXCHANGED))"
    plain = {name: value for name, value in os.environ.items() if name != "RECBOLE_EVCF_SPEED_UP"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    replaced, exchanged = map(int, done.stdout.split()[-2:])
    assert 0 < replaced <= 25
    assert 0 < exchanged <= 13


def test_there_is_no_circle():
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for each in KNOWS[name]:
                visit(each, (*way, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_every_module_says_what_it_is():
    for name, path in MODULES.items():
        if path.name == "__init__.py" or name == "__main__":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), name
        targets = [each.targets[0] for each in tree.body if isinstance(each, ast.Assign)]
        assert "__all__" in [getattr(target, "id", "") for target in targets], name
