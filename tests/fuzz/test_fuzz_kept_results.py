"""Results that a comparison or a search finds again when it goes on."""

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from hypothesis import example, given
from hypothesis import strategies as st

from fuzzing import ANY_BYTES, cases, damaged, ends_well
from recbole_evcf.comparison import compare
from recbole_evcf.comparison.compare import finish_plan
from recbole_evcf.comparison.outcome import COSTS
from recbole_evcf.comparison.plan import ModelSpec, Plan, Run
from recbole_evcf.comparison.report import write_tables
from recbole_evcf.evaluator.metrics import write_per_user
from recbole_evcf.results import Store, digest, read_sealed, write_sealed
from recbole_evcf.tuning import tuning
from recbole_evcf.tuning.search import Parameter, Search

SPECS = ModelSpec("Pop", "Pop"), ModelSpec("Vamp[anneal_cap=0.3]", "Vamp", {"anneal_cap": 0.3})
SETTINGS = {"dataset": "tiny", "eval_args": {"split": {"SG": [0.8, 0.1, 0.1]}}, "split_seed": 2020}
SETTINGS |= {"metrics": ["NDCG", "Recall"], "topk": [10], "valid_metric": "NDCG@10"}
PAIRS = [(spec, seed) for spec in SPECS for seed in (1, 2)]
RUNS = tuple(Run(spec, n, {**SETTINGS, "model": spec.model, "seed": n}, {}) for spec, n in PAIRS)
PLAN = Plan(SPECS, (1, 2), RUNS, "Pop")


def finish(run: Run, store: Store) -> None:
    """As a run that ends well."""
    rng = np.random.default_rng([run.seed, len(run.spec.label)])
    values = {key: rng.random(9) for key in ("ndcg@10", "recall@10")}
    path = store.path(run.name, ".users.csv")
    write_per_user(str(path), [f"u{n}" for n in range(9)], values)
    result = {
        "valid": dict.fromkeys(values, 0.5),
        "test": {key: float(value.mean()) for key, value in values.items()},
        "smaller_is_better": [],
        "per_user": digest(path),
        "curve": [{"epoch": 0, "seconds": 1.0, "valid_score": 0.5}],
        "n_train_users": 50,
        "n_test_users": 9,
        "test_split": "abc",
        "model_file": None,
        "measured_on": "this machine",
        "costs": {**dict.fromkeys(COSTS, 2.0), "peak_gpu_memory_mib": None},
    }
    store.put(run.name, run.settings, result)


def finished():
    return finish_plan(PLAN, "compared", lambda line: None)


@cases(60)
@given(data=st.data())
def test_a_comparison_goes_on_with_the_same_figures(data):
    """A run whose files are damaged is done again: never other figures, never a traceback."""
    shutil.rmtree("compared", ignore_errors=True)
    for run in RUNS:
        finish(run, Store("compared/runs"))
    expected = finished().values
    path = data.draw(st.sampled_from(sorted(Path("compared/runs").iterdir())))
    sound = path.read_bytes()
    path.unlink()
    content = data.draw(damaged(sound) | ANY_BYTES | st.none())
    if content is not None:
        path.write_bytes(content)
    with mock.patch.object(compare, "run_in_process", side_effect=finish) as again:
        ending = ends_well("kept runs", finished, ["compared"])
    pd.testing.assert_frame_equal(ending.result.values, expected, check_exact=True)
    # White space in a JSON file changes nothing of what it says: then nothing is done again.
    assert not again.called or path.read_bytes() == sound
    write_tables(ending.result, "compared", "comparison")


# A search

KEY = {"model": "Vamp", "dataset": "tiny", "seed": 1}
CONFIG = {"seed": 1, "valid_metric": "NDCG@10", "valid_metric_bigger": True}
SPACE = [Parameter("anneal_cap", "choice", (0.25, 0.5, 0.75))]


def concluded() -> tuple:
    search = Search("searched", KEY, SPACE, CONFIG, "exhaustive")
    # The trials have no models.
    with mock.patch.object(tuning, "evaluate_on_test_users", return_value={"ndcg@10": 0.3}):
        return search.trials, tuning._conclude(search, KEY)


@cases(60)
@given(data=st.data())
def test_a_search_is_resumed_without_its_corrupt_trials_alone(data):
    shutil.rmtree("searched", ignore_errors=True)
    search = Search("searched", KEY, SPACE, CONFIG, "exhaustive")
    for end in ({"score": 0.1}, {"score": 0.2}, {"status": "failed", "reason": "no"}):
        search.settle(search.propose()[0], {"status": "finished", **end})
    sound, _ = concluded()
    name = data.draw(st.sampled_from(["best", "trials/best", "trials/0002", "trials/0003"]))
    path = Path("searched", f"{name}.json")
    content = path.read_bytes()
    path.write_bytes(data.draw(damaged(content) | ANY_BYTES))
    trials, best = ends_well("kept trials", concluded, [""], "searched").result
    assert [trial for trial in sound if trial in trials] == trials
    assert [trial for trial in sound if trial not in trials] in ([], sound[1:2], sound[2:])
    assert best["number"] == (2 if sound[1] in trials else 1)
    assert best["test"] == {"ndcg@10": 0.3}


keys = st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
    max_leaves=6,
)


@cases(100)
@given(content=st.dictionaries(keys, values, max_size=4))
@example({"nan": float("nan"), "inf": -float("inf"), "\ud800": "é\u2028"})
def test_sealed_files_come_back_as_they_were(content):
    content.pop("sha256", None)
    write_sealed("sealed.json", content)
    ending = ends_well("sealed files", lambda: read_sealed("sealed.json"), [""])
    # What is no number is null in a JSON file.
    assert ending.result == json.loads(json.dumps(content), parse_constant=lambda name: None)
