"""Who may know whom: the rules of the developer guide, read from the imports."""

from __future__ import annotations

import ast
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
    assert {"hooks.fixes", "hooks.register"} <= KNOWS[""]
    assert "data.prepare.pro_sg" in KNOWS["data.prepare"]
    assert len(MODULES) > 100


def test_the_fixes_know_nobody():
    assert KNOWS["hooks.fixes"] == set()


def test_models_know_histories_and_each_other():
    for name in filter(lambda name: _within(name, "model"), MODULES):
        others = {each for each in KNOWS[name] if not _within(each, "model")}
        assert others <= {"data.histories", "data.part", "utils.text"}, name


@pytest.mark.parametrize("package", ["data", "evaluator", "trainer", "report"])
def test_who_knows_no_model(package):
    upper = ("model", "comparison", "tuning", "inspection", "serving", "commands")
    for name in filter(lambda name: _within(name, package), MODULES):
        assert not any(_within(each, of) for each in KNOWS[name] for of in upper), name


@pytest.mark.parametrize(
    ("known", "knowers"),
    [
        ("cli", {"__main__"}),
        ("hooks.register", {""}),
        ("commands", {"cli", "commands"}),
        ("quick_start", {"", "hooks", "commands", "inspection"}),
    ],
)
def test_who_is_known_by_whom(known, knowers):
    assert {name.partition(".")[0] for name in _knowers(known)} <= knowers


def test_recbole_is_changed_in_two_places():
    of_recbole = {"hooks.register", "hooks.fixes"}
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert ("wrap_once(" in text) == (name in of_recbole), name
        assert name in of_recbole or "setattr(recbole" not in text, name


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
        names = {
            t.id
            for n in tree.body
            if isinstance(n, ast.Assign)
            for t in n.targets
            if isinstance(t, ast.Name)
        }
        assert "__all__" in names, name
