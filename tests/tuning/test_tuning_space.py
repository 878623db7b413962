"""Search spaces as RecBole reads them, and as data only."""

import math
import os

import pytest
from hyperopt import space_eval
from recbole.trainer import HyperTuning

from recbole_evcf.config.files import shipped_file, shipped_names
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.tuning.search import Parameter, read_params_file


def read(text):
    with open("space.hyper", "w", encoding="utf-8") as file:
        file.write(text)
    return read_params_file("space.hyper")


def test_every_kind():
    assert read(
        "# a comment, and a blank line\n\n"
        "likelihood choice ['multinomial', 'bernoulli']\n"
        "size choice ['[600]', '[600, 600]', [2**4, 8], (4,)]\n"
        "gated choice ['True', False, None]\n"
        "anneal_cap uniform 0.1, 1\n"
        "latent quniform 50,300,50\n"
        "dropout quniform 0.1,0.9,0.1\n"
        "learning_rate\tloguniform   -8,-4\n"
    ) == [
        Parameter("likelihood", "choice", ("multinomial", "bernoulli")),
        Parameter("size", "choice", ([600], [600, 600], [16, 8], [4])),
        Parameter("gated", "choice", (True, False, None)),
        Parameter("anneal_cap", "uniform", (0.1, 1.0)),
        Parameter("latent", "quniform", (50.0, 300.0, 50.0)),
        Parameter("dropout", "quniform", (0.1, 0.9, 0.1)),
        Parameter("learning_rate", "loguniform", (-8.0, -4.0)),
    ]


def test_settings_have_pythons_types():
    whole, part = Parameter("a", "quniform", (50, 300, 50)), Parameter("a", "quniform", (0, 1, 0.1))
    assert (whole.setting(100.0), type(whole.setting(100.0))) == (100, int)
    assert type(part.setting(0.5)) is float
    assert Parameter("a", "choice", ("x", [1])).setting(1) == [1]
    assert Parameter("a", "loguniform", (-2, 0)).extremes() == (math.exp(-2), 1.0)
    # hyperopt rounds 1 / 20 to 0.
    assert Parameter("a", "quniform", (1, 50, 20)).extremes() == (0, 40)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("likelihood choice [", "must be a list"),
        ("likelihood choice [open('made', 'w')]", "must be a list"),
        ("likelihood choice 5", "must be a list"),
        ("likelihood choice []", "must be a list"),
        ("likelihood choice ['a', 'a']", "must be a list of different"),
        ("likelihood choice [{1, 2}]", "must be a list of different numbers, strings"),
        ("likelihood choice [1e999]", "must be a list of different numbers, strings"),
        ("likelihood choise ['a']", "must be one of choice, uniform, quniform, loguniform"),
        ("likelihood choice", "`name kind range`"),
        ("rate uniform 0.1", "must be LOW,HIGH in numbers"),
        ("rate uniform 0.1,inf", "must be LOW,HIGH in numbers"),
        ("rate uniform 1,0.1", "LOW below HIGH, not '1,0.1'"),
        ("rate quniform 1,2", "must be LOW,HIGH,STEP in numbers"),
        ("rate quniform 1,2,0", "STEP above 0, not '1,2,0'"),
        ("rate loguniform 0,1000", "natural logarithms"),
        ("first uniform 0,1", "a second time"),
    ],
)
def test_a_mistake_names_its_line(line, message):
    with pytest.raises(ValueError, match=r"^space.hyper, line 3: ") as caught:
        read(f"first uniform 0,1\n\n{line}\n")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not os.path.exists("made")


def test_other_mistakes():
    with pytest.raises(ValueError, match="names no parameter"):
        read("# nothing\n")
    with pytest.raises(ValueError, match=r"no params file nope\.hyper; the package ships .*Vamp"):
        read_params_file("nope.hyper")
    with open("space.hyper", "wb") as file:
        file.write(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"space\.hyper cannot be read as UTF-8 text"):
        read_params_file("space.hyper")


def test_each_model_has_a_space():
    assert sorted(name.split("/")[1] for name in shipped_names(".hyper")) == sorted(
        model.__name__ for model in (*MODELS, *BASELINES)
    )


@pytest.mark.parametrize("name", shipped_names(".hyper"))
def test_recbole_reads_the_shipped_spaces_alike(name):
    ours = read_params_file(f"{name}.hyper")
    theirs = HyperTuning(None, params_file=str(shipped_file(name, ".hyper")))
    assert list(theirs.space) == [parameter.name for parameter in ours]
    for parameter in ours:
        for i, value in enumerate(parameter.range):
            text = space_eval(theirs.space[parameter.name], {parameter.name: i})
            assert str(text).replace(" ", "") == str(value).replace(" ", "")
