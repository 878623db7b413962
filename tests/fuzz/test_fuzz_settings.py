"""Settings: of models in a comparison, on the command line, in config files and search spaces."""

import os
from dataclasses import fields
from functools import partial
from pathlib import Path

import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from recbole.config import Config
from recbole.utils import argument_list

from fuzzing import (
    ANY_BYTES,
    ANY_VALUES,
    cases,
    command_ends_well,
    damaged,
    empty,
    ends_well,
    file_ends_well,
)
from recbole_evcf.commands.options import read_settings
from recbole_evcf.comparison.plan import make_plan, parse_models
from recbole_evcf.config.files import read_config_file
from recbole_evcf.model.models import BEST
from recbole_evcf.model.vae import Settings
from recbole_evcf.tuning.search import KINDS, read_params_file
from recbole_evcf.tuning.tuning import check_parameters

OURS = (*(field.name for field in fields(Settings)), "learner", "learning_rate", "epochs")
LISTS = [keys for keys in vars(argument_list).values() if isinstance(keys, list)]
RECBOLES = {"model", "dataset", "split_seed", "standard_error", "no_such_key"}.union(*LISTS)
# One is a number of processes, the others are of services on the network.
RECBOLES -= {"worker", "log_wandb", "wandb_project"}
KEYS = st.sampled_from(sorted({*OURS, *RECBOLES}))
# Of the wrong kind; a size that a machine might grant, neither small nor far too large, would be.
VALUES = ANY_VALUES.filter(lambda n: not (isinstance(n, int) and 100 < abs(n) <= 2**63))

# Models of a comparison

PIECES = ["Pop", "EASE", "Vamp", "x", "anneal_cap", "mlp_hidden_size"]
PIECES += ["0.2", "None", "1e400", "2020-13-45", "0o9", "__import__('os').mkdir('made')"]
PIECES += ["&a", "*a", "!!python/object/apply:os.mkdir", ":", "\n", "\x1b", "\0", "é", "-", " "]
PIECES += [*"[](){},='\""] * 2
pieces = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@cases(300)
@given(text=pieces | st.text(max_size=12))
@example("best")
@example("A[x=" + "[" * 500 + "]" * 500 + "]")
@example("A[x=" + "-" * 10_000 + "1]")
@example("A[x=" + "9" * 10_000 + "]")
@example("A[x=&a [*a]]")
@example("A[x={[]: 1}]")
@example("A[x={? {} : 1}]")
def test_model_overrides(text):
    ending = ends_well("model overrides", lambda: parse_models(text), ["cannot read", "--models"])
    assert ending.result or ending.refusal
    for entry in ending.result or ():
        assert entry.model
        # A list of models has a name of its own.
        assert entry.model in text or ("best" in text and entry.model in BEST)
        assert all(key in text for key in entry.settings)
        assert all(key.isidentifier() for key in entry.settings)
    assert not os.path.exists("made")


@cases(60)
@given(
    key=st.sampled_from([*OURS, "metrics", "topk", "seed", "no_such_key"]),
    value=st.text(alphabet="0123456789.-[]e'aTN_{}: ", max_size=8) | VALUES.map(repr),
    model=st.sampled_from(["Vamp", "GatedHVamp", "EASE", "Pop", "DMF", "nope"]),
)
def test_plans_of_a_comparison(trained, key, value, model):
    def plan():
        entries = parse_models(f"{model}[{key}={value}],Pop")
        return make_plan(entries, "tiny", [trained.config_file], {}, [1])

    ending = ends_well("plans of a comparison", plan, [key, model, "cannot read", "--models", "of"])
    assert ending.refusal or len(ending.result.runs) == 2


# Words of the command line

words = st.text(alphabet="-=ab1[]'\" é\n", max_size=8)
words |= st.builds("--{}={}".format, st.text("ab", min_size=1), st.text(max_size=4))


@cases(150)
@given(words=st.lists(words, max_size=3))
def test_words_of_the_command_line(words):
    names = ["cannot read", "is given twice"]
    ending = ends_well("words of the command line", lambda: read_settings(words), names)
    if ending.refusal is None:
        found = [f"--{key}={value}" for key, value in ending.result.items()]
        assert sorted(set(words)) == sorted(found)


# Config files

YAML = b"""# settings
learning_rate: 0.01
mlp_hidden_size: [600, 600]
eval_args:
  split: {RS: [8, 1, 1]}
  order: RO
load_col: ~
sizes: &a [1, 2]
again: *a
"""
MISLEADING = ["!!python/name:os.mkdir", "!mine 3", "2020-01-01T99:00:00", "*b", "!!float x"]
MISLEADING += ["!!binary é", "!!timestamp x", "!!set [1]", "!!omap 3", "0x", "1\n---\nb: 2"]
MISLEADING += ["[" * 5000 + "]" * 5000, "9" * 5000]
texts = st.sampled_from(["<<: 3", "? [a]", "1:1:1:99: 3", *map("a: {}".format, MISLEADING)])


@st.composite
def nests_of_aliases(draw) -> str:
    """Mappings each of which holds or merges those before it."""
    lines = ["m0: &m0 {x0: 0}"]
    for n in range(1, draw(st.integers(2, 10))):
        parts = [f"x{draw(st.integers(0, n))}: {n}"]
        for key in draw(st.lists(st.sampled_from(["<<", "<<", "y", "z"]), max_size=3)):
            # The one just before again and again: that multiplies.
            before = draw(st.sampled_from([st.integers(0, n - 1), st.just(n - 1)]))
            names = [f"*m{m}" for m in draw(st.lists(before, min_size=1, max_size=9))]
            value = f"[{', '.join(names)}]" if len(names) > 1 else names[0]
            parts.insert(draw(st.integers(0, len(parts))), f"{key}: {value}")
        lines.append(f"m{n}: &m{n} {{{', '.join(parts)}}}")
    return "\n".join(lines) + "\n"


@cases(200)
@given(text=nests_of_aliases())
@example("a: &a {<<: [*a, *a]}")
def test_merges_in_config_files(text):
    ending = read_config(text.encode())
    assert ending.refusal or ending.result == yaml.safe_load(text)


@cases(240)
@given(content=damaged(YAML) | ANY_BYTES | (texts | pieces).map(str.encode))
def test_config_files_are_yaml(content):
    if read_config(content).refusal is None:
        # None: there are comments alone.
        assert isinstance(yaml.safe_load(content.decode()), (dict, type(None)))
    assert not os.path.exists("made")


def read_config(content: bytes):
    return file_ends_well("config files", "own.yaml", content, read_config_file)


@cases(150)
@given(key=KEYS, value=VALUES, model=st.sampled_from(["Vamp", "GatedHVamp", "MultiVAE", "BPR"]))
def test_values_of_config_files(trained, key, value, model):
    write_settings({key: value})
    files = [trained.config_file, "own.yaml"]
    # RecBole's own words need not name the key.
    ends_well("values in config files", lambda: Config(model, "tiny", files), [""])


@cases(6)
@given(key=KEYS, value=VALUES)
@example("eval_args", 5)
@example("topk", [0])
@example("metrics", 5)
@example("benchmark_filename", ["a", "b"])
@example("weight_decay", "x")
@example("clip_grad_norm", 3)
@example("load_col", {"inter": ["user_id"]})
@example("checkpoint_dir", "\0")
def test_runs_with_values_of_config_files(trained, key, value):
    write_settings({key: value})
    empty("out")
    run = ["run", "--model=Vamp", "--dataset=tiny", "--result_file=out/result.json"]
    run.append(f"--config_files={trained.config_file} own.yaml")
    # RecBole's own words need not name the key.
    command_ends_well("runs with values in config files", run, [""], "out", failing=[1, 2])
    assert not os.path.exists("made")


def write_settings(settings: dict) -> None:
    Path("own.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


# Search spaces

HYPER = b"""# a space
likelihood choice ['multinomial', 'bernoulli']
latent_dimension quniform 2,8,2
anneal_cap uniform 0.1,1.0
learning_rate loguniform -8,-4
"""
ODD_RANGES = ["['a', 'a']", "[" * 3000, "[1] * 10**9", "2**2**99", "[open('made','w')]"]
numbers = st.sampled_from(["0", "1", "-1", "0.5", "2", "inf", "nan", "1e999", "", "x", "9" * 400])
ranges = st.lists(numbers, max_size=4).map(",".join) | st.sampled_from(ODD_RANGES)
names, kinds = st.sampled_from([*OURS, "x", "", "é"]), st.sampled_from([*KINDS, "choise", ""])
ranges |= st.lists(VALUES, max_size=4).map(repr)
lines = st.lists(st.tuples(names, kinds, ranges).map(" ".join), min_size=1, max_size=3)


def read_space(content: bytes):
    return file_ends_well("params files", "own.hyper", content, read_params_file).result


def encoded(lines) -> bytes:
    return "\n".join(lines).encode(errors="replace")


@cases(350)
@given(content=lines.map(encoded) | ANY_BYTES | damaged(HYPER))
def test_search_spaces(content):
    for parameter in read_space(content) or ():
        assert parameter.kind in KINDS
        assert parameter.name.encode() in content
        assert parameter.kind == "choice" or parameter.range[0] < parameter.range[1]
        assert list(parameter.extremes())
    assert not os.path.exists("made")


@cases(50)
@given(
    name=st.sampled_from(OURS),
    kind=st.sampled_from(["choice", "choice", "uniform", "loguniform"]),
    values=st.sampled_from(["-9,-2", "0.1,0.5", "1,8"])
    | st.lists(VALUES, min_size=1, max_size=3).map(repr),
)
def test_search_spaces_checked_against_the_model(trained, name, kind, values):
    if space := read_space(encoded([f"{name} {kind} {values}"])):
        config = Config("Vamp", "tiny", [trained.config_file])
        check = partial(check_parameters, config, space, "own.hyper", {}, "bayes")
        ends_well("params files against the model", check, ["own.hyper"])
