"""Search spaces as RecBole reads them; what is tried, and that interruptions change nothing."""

import itertools
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hyperopt import space_eval
from recbole.trainer import HyperTuning

from recbole_evcf.config.files import shipped_file, shipped_names
from recbole_evcf.model.models import BEST
from recbole_evcf.tuning.search import Parameter, Search, read_params_file


def read(text):
    Path("space.hyper").write_text(text, encoding="utf-8")
    return read_params_file("space.hyper")


def test_every_kind():
    expected = {
        "likelihood choice ['multinomial', 'bernoulli']": ("multinomial", "bernoulli"),
        "size choice ['[600]', '[600, 600]', [2**4, 8], (4,)]": ([600], [600, 600], [16, 8], [4]),
        "gated choice ['True', False, None]": (True, False, None),
        "anneal_cap uniform 0.1, 1": (0.1, 1.0),
        "latent quniform 50,300,50": (50.0, 300.0, 50.0),
        "dropout quniform 0.1,0.9,0.1": (0.1, 0.9, 0.1),
        "learning_rate\tloguniform   -8,-4": (-8.0, -4.0),
    }
    space = read("\n".join(["# a comment, and a blank line", "", *expected]))
    assert space == [Parameter(*line.split()[:2], found) for line, found in expected.items()]


def test_settings_have_pythons_types():
    assert repr(Parameter("a", "quniform", (50, 300, 50)).setting(100.0)) == "100"
    assert repr(Parameter("a", "quniform", (0, 1, 0.1)).setting(0.5)) == "0.5"
    assert Parameter("a", "choice", ("x", [1])).setting(1) == [1]
    assert Parameter("a", "loguniform", (-2, 0)).extremes() == (math.exp(-2), 1.0)
    # hyperopt rounds 1 / 20 to 0.
    assert Parameter("a", "quniform", (1, 50, 20)).extremes() == (0, 40)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("likelihood choice [open('made', 'w')]", "must be a list"),
        ("likelihood choice 5", "must be a list"),
        ("likelihood choice []", "must be a list"),
        ("likelihood choice ['a', 'a']", "must be a list of different"),
        ("likelihood choice [{1, 2}]", "must be a list of different numbers, strings"),
        ("likelihood choice [1e999]", "must be a list of different numbers, strings"),
        ("likelihood choice", "must be a list of different numbers, strings"),
        ("likelihood choise ['a']", "must be one of choice, uniform, quniform, loguniform"),
        ("likelihood", "must be one of choice, uniform, quniform, loguniform"),
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
    pattern = rf"^space.hyper, line 3: [^\n]*{re.escape(message)}[^\n]*$"
    with pytest.raises(ValueError, match=pattern):
        read(f"first uniform 0,1\n\n{line}\n")
    assert not os.path.exists("made")


def test_files_that_are_no_space():
    with pytest.raises(ValueError, match=r"no params file own\.hyper; the package ships .*Vamp"):
        read_params_file("own.hyper")
    with pytest.raises(ValueError, match=r"space\.hyper names no parameter"):
        read("# nothing\n")
    Path("own.hyper").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"own\.hyper cannot be read as UTF-8 text"):
        read_params_file("own.hyper")


def test_each_model_has_a_space_that_recbole_reads_alike():
    names = shipped_names(".hyper")
    assert sorted(name.split("/")[1] for name in names) == sorted(BEST)
    for name in names:
        ours = read_params_file(f"{name}.hyper")
        theirs = HyperTuning(None, params_file=str(shipped_file(name, ".hyper")))
        assert list(theirs.space) == [parameter.name for parameter in ours]
        for parameter in ours:
            for i, value in enumerate(parameter.range):
                text = space_eval(theirs.space[parameter.name], {parameter.name: i})
                assert str(text).replace(" ", "") == str(value).replace(" ", "")


MIXED = [
    Parameter("size", "choice", ([8], [8, 8])),
    Parameter("rate", "loguniform", (-8.0, 0.0)),
    Parameter("width", "quniform", (1.0, 9.0, 2.0)),
]
GRID = [
    Parameter("size", "choice", ([8], [8, 8], [4])),
    Parameter("width", "choice", tuple(range(7))),
    Parameter("likelihood", "choice", ("a", "b")),
]


def train(number, params):
    if number % 6 == 0:
        return {"status": "failed", "reason": "RuntimeError: no memory"}
    score = params["width"] / 10 - len(params["size"]) + 0.01 * params.get("rate", 0)
    return {"status": "finished", "score": score}


def begun(folder, algo, space=(), *limits, bigger=True, key=None):
    config = {"seed": 3, "valid_metric": "NDCG@10", "valid_metric_bigger": bigger}
    return Search(str(folder), key or {}, space, config, algo, *limits)


def search(*args, bigger=True, train=train):
    """A search that is over; arguments as of ``begun``."""
    searching = begun(*args, bigger=bigger)
    while (proposal := searching.propose()) is not None:
        searching.settle(proposal[0], train(*proposal))
    assert searching.is_over
    return searching


@pytest.mark.parametrize(
    ("algo", "space", "total", "cut"),
    [("exhaustive", GRID, 42, 17), ("random", MIXED, 12, 5), ("bayes", MIXED, 32, 25)],
)
def test_an_interruption_changes_nothing(tmp_path, algo, space, total, cut):
    # hyperopt models the results (bayes) from the 21st trial on.
    whole = search(tmp_path / "whole", algo, space, total).trials

    parts = tmp_path / "parts"

    def interrupted(number, params):
        if number > cut:
            raise KeyboardInterrupt
        return train(number, params)

    with pytest.raises(KeyboardInterrupt):
        search(parts, algo, space, total, train=interrupted)
    assert len(begun(parts, algo, space, total).trials) == cut
    # Corrupt, the last counts as not done.
    (parts / "trials" / f"{cut:04d}.json").write_bytes(b"[1]]")
    assert search(parts, algo, space, total).trials == whole
    assert [trial["number"] for trial in whole] == list(range(1, total + 1))
    if algo == "bayes":
        # It learns from the trials before.
        drawn = search(tmp_path / "random", "random", space, total).trials
        assert whole[:20] == drawn[:20]
        late = [[trial.get("score", -2) for trial in trials[20:]] for trials in (whole, drawn)]
        assert np.mean(late[0]) > np.mean(late[1])


def test_exhaustive_tries_all_of_a_grid_once_in_no_order(tmp_path):
    done = search(tmp_path, "exhaustive", GRID).trials
    points = [str([*trial["params"].values()]) for trial in done]
    whole = [str([*point]) for point in itertools.product(*(each.range for each in GRID))]
    assert sorted(points) == sorted(whole)
    assert points != whole
    # It may be huge.
    huge = [Parameter(name, "choice", tuple(range(1000))) for name in ("width", "b", "c")]
    assert begun(tmp_path / "huge", "exhaustive", huge).total == 10**9
    assert begun(tmp_path / "huge", "exhaustive", huge, 3).propose()[0] == 1


@pytest.mark.parametrize("algo", ["exhaustive", "random"])
def test_trials_lost_in_parallel_come_first(tmp_path, algo):
    first = begun(tmp_path / "a", algo, GRID, 6)
    proposals = [first.propose() for _ in range(4)]
    assert [number for number, _ in proposals] == [1, 2, 3, 4]
    for place in (3, 0):
        first.settle(place + 1, train(*proposals[place]))
    assert search(tmp_path / "a", algo, GRID, 6).trials == search(tmp_path, algo, GRID, 6).trials


# The largest: the 2nd, the 5th, then two worse ones and the 8th; the smallest: the 1st.
@pytest.mark.parametrize(("bigger", "expected"), [(True, 8), (False, 4)])
def test_early_stop_counts_trials_without_a_better_one(tmp_path, bigger, expected):
    def scripted(number, params):
        return {"status": "finished", "score": [1, 3, 2, 3, 4, 0, 0, 5][number - 1]}

    # Then once more: it is over.
    for _ in range(2):
        found = search(tmp_path, "random", MIXED, 8, 3, bigger=bigger, train=scripted)
        assert len(found.trials) == expected


def test_the_store_keeps_the_model_of_the_best_trial_only(tmp_path):
    found = begun(tmp_path, "exhaustive", GRID, bigger=False)
    for score in (None, 0.5, 0.3, 0.3, 0.9, None):
        number, _ = found.propose()
        os.makedirs(os.path.dirname(found.model_file(number)))
        finished = {"status": "finished", "score": score}
        found.settle(number, finished if score else {"status": "failed", "reason": "no"})
    assert found.best["number"] == 3
    assert os.listdir(tmp_path / "models") == ["0003"]


KEY = {"epochs": 3, "algo": "random", "data": "abc", "versions": {"recbole": "1.2.1"}}


def test_trials_of_other_settings_data_or_versions_are_not_mixed_in(tmp_path):
    def again(**changed):
        return begun(tmp_path, "random", MIXED, 1, key={**KEY, **changed})

    # Without trials there is nothing to mix in.
    again(epochs=4)
    kept = again()
    kept.settle(kept.propose()[0], {"status": "finished", "score": 1.0})
    assert len(again().trials) == 1
    message = (
        r"in algo \(random, now bayes\), the files of the data set, epochs \(3, now 4\): "
        "repeat its settings to resume it, or give another output folder"
    )
    with pytest.raises(ValueError, match=message):
        again(epochs=4, algo="bayes", data="def")
    with pytest.raises(ValueError, match=r"in versions \(.*1\.2\.1.*, now .*1\.3\.0"):
        again(versions={"recbole": "1.3.0"})
