"""The names that ``recbole_evcf`` gives to Python: what they are, and their examples."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import recbole_evcf
from recbole_evcf.model.models import BASELINES, MODELS

NAMES = [name for name in recbole_evcf.__all__ if not name.startswith("_")]

# Their examples are still to come.
NAMES = [name for name in NAMES if name not in ("register_fold_in", "register_model")]


def test_every_model_is_at_the_door():
    for model in (*MODELS, *BASELINES):
        assert getattr(recbole_evcf, model.__name__) is model
    assert set(recbole_evcf.__all__) <= set(dir(recbole_evcf))
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        recbole_evcf.nope  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_examples(name, capsys):
    value = getattr(recbole_evcf, name)
    examples = doctest.DocTestFinder(recurse=False).find(
        value, name, globs={"recbole_evcf": recbole_evcf}
    )
    assert any(each.examples for each in examples), f"{name} has no example"
    for each in examples:
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        said: list[str] = []
        runner.run(each, out=said.append)
        assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_type_checkers_see_every_name():
    known = Path(recbole_evcf.__file__).read_text(encoding="utf-8")
    for name in NAMES:
        module = recbole_evcf._LAZY.get(name)
        if module is None:
            assert f"\ndef {name}(" in known
        else:
            assert re.search(rf"from recbole_evcf.{module} import [^)\n]*\b{name}\b", known), name


def test_importing_the_package_registers_and_imports_no_feature():
    code = (
        "import sys, recbole_evcf; dir(recbole_evcf); "
        "assert 'recbole_evcf.hooks.register' in sys.modules; "
        "features = 'comparison tuning inspection serving.recommender commands report'.split(); "
        "print([each for each in features if f'recbole_evcf.{each}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr[-2000:]
