"""The search by itself: what it tries, in which order, and that interruptions change nothing."""

import itertools
import json
import os

import numpy as np
import pytest

from recbole_evcf.results import write_sealed
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


def search(folder, algo, space, max_evals, early_stop=None, seed=3, bigger=True, train=train):
    store = TrialStore(str(folder), {}, bigger)
    return Search(train, space, store, algo, max_evals, early_stop, seed), store


def tried(store):
    return [(trial["number"], trial["params"]) for trial in store.trials]


@pytest.mark.parametrize(
    ("algo", "space", "total", "cut"),
    [("exhaustive", GRID, 42, 17), ("random", MIXED, 12, 5), ("bayes", MIXED, 32, 25)],
)
def test_an_interruption_changes_nothing(tmp_path, algo, space, total, cut):
    # hyperopt models the results (bayes) from the 21st trial on.
    whole, whole_store = search(tmp_path / "whole", algo, space, total)
    whole.run()

    def interrupted(number, params):
        if number > cut:
            raise KeyboardInterrupt
        return train(number, params)

    first, store = search(tmp_path / "parts", algo, space, total, train=interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert len(store.trials) == cut
    second, store = search(tmp_path / "parts", algo, space, total)
    second.run()
    assert store.trials == whole_store.trials
    assert [trial["number"] for trial in store.trials] == list(range(1, total + 1))
    assert second.is_over


def test_bayes_learns_from_the_trials_before(tmp_path):
    bayes, learned = search(tmp_path / "a", "bayes", MIXED, 32)
    bayes.run()
    random, drawn = search(tmp_path / "b", "random", MIXED, 32)
    random.run()
    assert tried(learned)[:20] == tried(drawn)[:20]
    late = [[trial.get("score", -2) for trial in store.trials[20:]] for store in (learned, drawn)]
    assert np.mean(late[0]) > np.mean(late[1])


def test_exhaustive_tries_all_of_a_large_grid_once(tmp_path):
    space = [Parameter(name, "choice", tuple(range(9))) for name in ("width", "b")]
    space.append(Parameter("size", "choice", ("", "-")))
    # RecBole gives up after 1000 draws in vain, which some of 162 points outlast now and then.
    grid, store = search(tmp_path, "exhaustive", space, None)
    grid.run()
    points = {tuple(trial["params"].values()) for trial in store.trials}
    assert points == set(itertools.product(range(9), range(9), ("", "-")))
    assert len(store.trials) == 162


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
def test_who_trains_elsewhere_gets_the_same_trials(tmp_path, algo):
    ours, store = search(tmp_path / "a", algo, GRID, 10)
    ours.run()
    theirs, proposed = search(tmp_path / "b", algo, GRID, 10)
    while (proposal := theirs.propose()) is not None:
        theirs.settle(proposal[0], train(*proposal))
    assert proposed.trials == store.trials


def test_trials_lost_in_parallel_come_first(tmp_path):
    first, _ = search(tmp_path / "a", "random", MIXED, 6)
    proposals = [first.propose() for _ in range(4)]
    assert [number for number, _ in proposals] == [1, 2, 3, 4]
    first.settle(4, train(*proposals[3]))
    first.settle(1, train(*proposals[0]))
    second, store = search(tmp_path / "a", "random", MIXED, 6)
    second.run()
    whole, expected = search(tmp_path / "b", "random", MIXED, 6)
    whole.run()
    assert tried(store) == tried(expected)


def test_early_stop_counts_trials_without_a_better_one(tmp_path):
    scores = [1, 3, 2, 3, 4, 0, 0, 5]

    def scripted(number, params):
        return {"status": "finished", "score": scores[number - 1], "valid": {}}

    # The largest: the 2nd, the 5th, then two worse ones and the 8th; the smallest: the 1st.
    for bigger, expected in ((True, 8), (False, 4)):
        stopped, store = search(tmp_path / str(bigger), "random", MIXED, 8, 3, 1, bigger, scripted)
        stopped.run()
        assert len(store.trials) == expected
    again, _ = search(tmp_path / "False", "random", MIXED, 8, 3, 1, False, scripted)
    assert again.is_over


def test_a_search_of_failures_ends(tmp_path):
    def failing(number, params):
        return {"status": "failed", "reason": "ValueError: no"}

    failed, store = search(tmp_path, "bayes", MIXED, 3, train=failing)
    failed.run()
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
    assert [trial["number"] for trial in TrialStore(str(tmp_path), {}, False).trials] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_another_search_is_not_mixed_in(tmp_path):
    search = {"algo": "random", "settings": {"epochs": 3, "show_progress": True}}
    TrialStore(str(tmp_path), {"algo": "bayes"}, True)
    # Nothing was tried yet.
    store = TrialStore(str(tmp_path), search, True)
    store.add({"number": 1, "status": "finished", "score": 1.0})
    same = {"algo": "random", "settings": {"epochs": 3, "show_progress": False}}
    assert len(TrialStore(str(tmp_path), same, True).trials) == 1
    other = {"algo": "bayes", "settings": {"epochs": 4}}
    with pytest.raises(ValueError, match=r"other settings \(algo, epochs\)"):
        TrialStore(str(tmp_path), other, True)
    with open(tmp_path / "trials" / "0001.json", "w", encoding="utf-8") as file:
        json.dump([1], file)
        file.write("]")
    with pytest.raises(ValueError, match=r"0001\.json is damaged"):
        TrialStore(str(tmp_path), same, True)


@pytest.mark.parametrize(("content", "fault"), [(None, "missing"), (b"{}", r"damaged \(")])
def test_trials_of_nobody_knows_what_are_not_taken(tmp_path, content, fault):
    TrialStore(str(tmp_path), {"algo": "bayes"}, True).add({"number": 1, "status": "failed"})
    path = tmp_path / "search.json"
    path.unlink()
    if content:
        path.write_bytes(content)
    said = rf"search\.json is {fault}.*: name another --output folder, or remove {tmp_path}\.$"
    with pytest.raises(ValueError, match=said):
        TrialStore(str(tmp_path), {"algo": "random"}, True)
    assert path.exists() == bool(content)
    # Without trials there is nothing to mix in.
    (tmp_path / "trials" / "0001.json").unlink()
    assert TrialStore(str(tmp_path), {"algo": "random"}, True).trials == []


def test_trials_on_other_data_or_of_other_versions_are_not_mixed_in(tmp_path):
    search = {"settings": {"epochs": 3}, "data": "abc", "versions": {"recbole": "1.2.1"}}

    def store(**changed):
        return TrialStore(str(tmp_path), {**search, **changed}, True)

    store().add({"number": 1, "status": "finished", "score": 1.0})
    assert len(store().trials) == 1
    with pytest.raises(ValueError, match="since the files of the data set have changed: give anot"):
        store(data="def")
    made = "they were made with recbole 1.2.1, and this is recbole 1.3.0: give another output"
    with pytest.raises(ValueError, match=made):
        store(versions={"recbole": "1.3.0"})
    # Settings are what a user can change.
    with pytest.raises(ValueError, match=r"other settings \(epochs\)"):
        store(settings={"epochs": 4}, data="def")
    write_sealed(str(tmp_path / "search.json"), {"settings": search["settings"]})
    with pytest.raises(ValueError, match=r"not say with which data .* not say with which versions"):
        store()
