"""The search by itself: what it tries, in which order, and that interruptions change nothing."""

import itertools
import os

import numpy as np
import pytest

from recbole_evcf.tuning.hyperopt_search import Search
from recbole_evcf.tuning.params_file import Parameter
from recbole_evcf.tuning.store import TrialStore

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
    return {"status": "finished", "score": score, "valid": {"ndcg@10": score}}


def search(folder, algo, space, max_evals, early_stop=None, bigger=True, train=train):
    """Search until it is over; the search and its trials."""
    store = TrialStore(str(folder), {}, bigger)
    searching = Search(space, store, algo, max_evals, early_stop, seed=3)
    while (proposal := searching.propose()) is not None:
        searching.settle(proposal[0], train(*proposal))
    assert searching.is_over
    return store


@pytest.mark.parametrize(
    ("algo", "space", "total", "cut"),
    [("exhaustive", GRID, 42, 17), ("random", MIXED, 12, 5), ("bayes", MIXED, 32, 25)],
)
def test_an_interruption_changes_nothing(tmp_path, algo, space, total, cut):
    # hyperopt models the results (bayes) from the 21st trial on.
    whole = search(tmp_path / "whole", algo, space, total)

    def interrupted(number, params):
        if number > cut:
            raise KeyboardInterrupt
        return train(number, params)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", algo, space, total, train=interrupted)
    assert len(TrialStore(str(tmp_path / "parts"), {}, True).trials) == cut
    # Corrupt, the last counts as not done.
    (tmp_path / "parts" / "trials" / f"{cut:04d}.json").write_bytes(b"[1]]")
    parts = search(tmp_path / "parts", algo, space, total)
    assert parts.trials == whole.trials
    assert [trial["number"] for trial in parts.trials] == list(range(1, total + 1))


def test_bayes_learns_from_the_trials_before(tmp_path):
    learned, drawn = (
        search(tmp_path / algo, algo, MIXED, 32).trials for algo in ("bayes", "random")
    )
    assert learned[:20] == drawn[:20]
    late = [[trial.get("score", -2) for trial in trials[20:]] for trials in (learned, drawn)]
    assert np.mean(late[0]) > np.mean(late[1])


def test_exhaustive_tries_all_of_a_grid_once_in_no_order(tmp_path):
    space = [Parameter(name, "choice", tuple(range(9))) for name in ("width", "b")]
    space.append(Parameter("size", "choice", ("", "-")))
    points = [
        tuple(t["params"].values()) for t in search(tmp_path, "exhaustive", space, None).trials
    ]
    whole = list(itertools.product(range(9), range(9), ("", "-")))
    assert sorted(points) == sorted(whole) != points


def test_a_grid_may_be_huge(tmp_path):
    space = [Parameter(name, "choice", tuple(range(1000))) for name in ("width", "b", "c")]
    space.append(Parameter("size", "choice", ("", "-")))
    assert len(search(tmp_path, "exhaustive", space, 3).trials) == 3


@pytest.mark.parametrize("algo", ["exhaustive", "random"])
def test_trials_lost_in_parallel_come_first(tmp_path, algo):
    first = Search(GRID, TrialStore(str(tmp_path / "a"), {}, True), algo, 6, None, 3)
    proposals = [first.propose() for _ in range(4)]
    assert [number for number, _ in proposals] == [1, 2, 3, 4]
    for place in (3, 0):
        first.settle(place + 1, train(*proposals[place]))
    assert search(tmp_path / "a", algo, GRID, 6).trials == search(tmp_path, algo, GRID, 6).trials


def test_early_stop_counts_trials_without_a_better_one(tmp_path):
    scores = [1, 3, 2, 3, 4, 0, 0, 5]

    def scripted(number, params):
        return {"status": "finished", "score": scores[number - 1], "valid": {}}

    # The largest: the 2nd, the 5th, then two worse ones and the 8th; the smallest: the 1st.
    for bigger, expected in ((True, 8), (False, 4)):
        # Then once more: it is over.
        for _ in range(2):
            found = search(tmp_path / str(bigger), "random", MIXED, 8, 3, bigger, scripted)
            assert len(found.trials) == expected


def test_a_search_of_failures_ends(tmp_path):
    failed = {"status": "failed", "reason": "ValueError: no"}
    store = search(tmp_path, "bayes", MIXED, 3, train=lambda *proposal: failed)
    assert [trial["status"] for trial in store.trials] == ["failed"] * 3
    assert store.best is None


def test_the_store_keeps_the_model_of_the_best_trial_only(tmp_path):
    store = TrialStore(str(tmp_path), {}, bigger=False)
    for number, score in ((1, 0.5), (2, 0.3), (3, 0.3), (4, 0.9)):
        os.makedirs(os.path.dirname(store.model_file(number)))
        store.add({"number": number, "status": "finished", "score": score})
    store.add({"number": 5, "status": "failed", "reason": "no"})
    assert store.best["number"] == 2
    assert os.listdir(tmp_path / "models") == ["0002"]
    again = TrialStore(str(tmp_path), {}, False)
    assert [trial["number"] for trial in again.trials] == [1, 2, 3, 4, 5]
    # The test users' metrics are those of this very trial of this very search.
    store.add_test_result(store.best, {"ndcg@10": 0.2})
    assert again.test_result(again.best) == {"ndcg@10": 0.2}
    assert again.test_result(again.trials[2]) is None
    assert TrialStore(str(tmp_path / "other"), {}, False).test_result(again.best) is None


KEY = {"epochs": 3, "algo": "random", "data": "abc", "versions": {"recbole": "1.2.1"}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 4, "algo": "bayes", "data": "def"}, r"other settings \(algo, epochs\): repeat"),
        ({"data": "def"}, "since the files of the data set have changed: give another output"),
        (
            {"versions": {"recbole": "1.3.0"}},
            "they were made with recbole 1.2.1, and this is recbole 1.3.0: give another output",
        ),
    ],
)
def test_trials_of_other_settings_data_or_versions_are_not_mixed_in(tmp_path, changed, message):
    # Without trials there is nothing to mix in.
    TrialStore(str(tmp_path), {**KEY, **changed}, True)
    TrialStore(str(tmp_path), KEY, True).add({"number": 1, "status": "finished", "score": 1.0})
    assert len(TrialStore(str(tmp_path), KEY, True).trials) == 1
    with pytest.raises(ValueError, match=message):
        TrialStore(str(tmp_path), {**KEY, **changed}, True)
