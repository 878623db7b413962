"""The names that ``recbole_evcf`` gives to Python: what they are, and their examples."""

import doctest
import re
import sys
from pathlib import Path

import pytest

import recbole_evcf
from build import python
from recbole_evcf.model.models import MODELS

NAMES = [name for name in recbole_evcf.__all__ if not name.startswith("_")]


def test_every_model_is_at_the_door():
    for model in MODELS:
        assert getattr(recbole_evcf, model.__name__) is model
    assert set(recbole_evcf.__all__) <= set(dir(recbole_evcf))
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        recbole_evcf.nope  # noqa: B018


def run_examples(name: str) -> None:
    value = getattr(recbole_evcf, name)
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(value, name, globs={"recbole_evcf": recbole_evcf})
    assert found.examples, f"{name} has no example"
    runner, said = doctest.DocTestRunner(), []
    runner.run(found, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


# They change RecBole for the rest of the process.
CHANGING = ("register_fold_in", "register_model", "speed_up_recbole")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CHANGING])
def test_examples(name):
    run_examples(name)


def test_examples_in_a_process_of_their_own():
    code = f"import test_front_door as t; [t.run_examples(name) for name in {CHANGING}]"
    python(f"import sys; sys.path[:] = {sys.path}; {code}")


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
        "assert 'recbole_evcf.hooks.models' in sys.modules; "
        "features = 'comparison tuning inspection serving.recommender commands report'.split(); "
        "print([each for each in features if f'recbole_evcf.{each}' in sys.modules])"
    )
    assert python(code) == "[]\n"
