"""Values over seeds and users, paired tests by second formulas, and what is not trained again."""

import math
import platform
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from recbole_evcf.comparison.outcome import holm, paired_test, paired_tests
from recbole_evcf.comparison.report import caption, metric_table
from recbole_evcf.results import folder_held, read_sealed, write_sealed


def users_of(label):
    paths = sorted(Path("out/runs").glob(f"{label}-*.users.csv"))
    return [pd.read_csv(path, index_col="user_id") for path in paths]


def edit(label, change):
    """Change the kept results of a model."""
    for path in sorted(Path("out/runs").glob(f"{label}-*.json")):
        content = read_sealed(path)
        change(content)
        write_sealed(path, content)


def test_seeds_are_averaged_by_user(compared, sg):
    for seeds in ((1,), (1, 2, 3)):
        outcome = compared("Vamp", sg, seeds=seeds)
        frames = users_of("Vamp")
        assert len(frames) == len(seeds)
        for key in outcome.metrics:
            by_seed = [frame[key].mean() for frame in frames]
            by_user = [np.mean([frame.loc[u, key] for frame in frames]) for u in frames[0].index]
            names = [key, f"{key}_se", f"{key}_seed_sd"]
            value, error, deviation = outcome.values.loc["Vamp", names]
            assert value == pytest.approx(np.mean(by_seed))
            assert error == pytest.approx(np.std(by_user, ddof=1) / np.sqrt(len(by_user)))
            one = math.isnan(deviation)
            assert one if len(seeds) == 1 else deviation == pytest.approx(np.std(by_seed, ddof=1))
    assert "seeds" not in caption(compared("Vamp", sg, seeds=(1,)))


def test_without_values_of_users_the_errors_are_over_seeds(compared, sg):
    sg["metrics"] = ["NDCG", "ItemCoverage"]
    row = compared("Vamp,Random", sg, seeds=(1, 2)).values.loc["Vamp"]
    # It is no mean over users.
    assert row["itemcoverage@10_se"] == pytest.approx(row["itemcoverage@10_seed_sd"] / 2**0.5)
    edit("*", lambda run: run["value"].update(per_user=None, smaller_is_better=["ndcg"]))
    outcome = compared("Vamp,Random", sg, seeds=(1, 2))
    values = [run["test"]["ndcg@10"] for label, _, run in outcome.runs if label == "Vamp"]
    error = np.std(values, ddof=1) / np.sqrt(2)
    assert outcome.values.loc["Vamp", "ndcg@10_se"] == pytest.approx(error)
    assert outcome.best("ndcg@10") == {outcome.values["ndcg@10"].idxmin()}
    assert outcome.tests.empty
    assert "over the seeds: no values of users are known" in caption(outcome)
    assert np.isnan(compared("Vamp", sg, seeds=(1,)).values.loc["Vamp", "ndcg@10_se"])


def test_one_test_user_has_no_error(compared, sg):
    with Path(sg["data_path"], "tiny", "tiny.inter").open("a") as file:
        for user in range(60, 64):
            file.writelines(f"u{user}\ti{item}\t{item}\n" for item in range(5))
    sg["eval_args"]["split"] = {"SG": [62, 1, 1]}
    outcome = compared("Vamp,Pop", sg)
    assert outcome.n_users == 1
    assert outcome.values[[f"{key}_se" for key in outcome.metrics]].isna().all(axis=None)
    text = metric_table(outcome).text(200) + caption(outcome)
    assert "nan" not in text
    assert "±" not in text
    assert outcome.tests.empty


def test_costs_name_the_machine_of_each_row(compared, sg):
    """Runs are kept, and the command may be resumed elsewhere."""
    sg["torch_threads"] = 3
    here = compared("Vamp,Pop", sg, seeds=(1, 2)).values.loc["Vamp", "measured_on"]
    cpu = f"{platform.machine()} CPU, threads: 3"
    assert here == f"{platform.node()} ({cpu}), torch {torch.__version__}"
    edit("Vamp-1", lambda run: run["value"].update(measured_on="old GPU, torch 2.6"))
    outcome = compared("Vamp,Pop", sg, seeds=(1, 2))
    assert outcome.values["measured_on"].tolist() == [f"old GPU, torch 2.6; {here}", here]


def test_the_best_is_the_greatest_as_printed(compared, sg):
    # A copy of a model is as good.
    outcome = compared("Random,EASE,EASE[reg_weight=250.0001]", sg)
    assert outcome.best("ndcg@10") == {"EASE", "EASE[reg_weight=250.0001]"}


def test_a_model_that_failed_or_was_tested_on_other_interactions_is_not_compared(compared, sg):
    models = "Pop,EASE[reg_weight='x'],Random,EASE"
    compared(models, sg)
    edit("Random", lambda run: run["value"].update(test_split="another"))
    outcome = compared(models, sg)
    assert outcome.finished["model"].tolist() == ["Pop", "EASE"]
    (label, seed, reason), (other, _, why) = outcome.failures
    assert (label, seed, other) == ("EASE[reg_weight='x']", 2020, "Random")
    assert "other interactions" in why
    assert outcome.values["failure"].dropna().to_dict() == {label: reason, other: why}
    assert set(outcome.tests["label"]) == {"EASE"}


def test_finished_runs_are_kept_until_a_setting_changes(compared, sg, in_process):
    compared("Pop,EASE", sg)
    compared("Pop,EASE,Random", sg)
    assert in_process == ["Pop", "EASE", "Random"]
    compared("Pop,EASE", {**sg, "reg_weight": 3.0})
    # Pop has no such setting, but the file sets it for all.
    assert in_process[3:] == ["Pop", "EASE"]
    # A file that was damaged: fuzz/test_fuzz_kept_results.py.
    edit("Random", lambda run: run["key"].update(seed=5))
    compared("Random,EASE", sg)
    assert in_process[5:] == ["Random"]


def test_a_folder_that_another_comparison_writes_to_is_refused(compared, sg, in_process):
    refused = pytest.raises(ValueError, match="out is in use by another command")
    with folder_held("out"), refused:
        compared("Pop", sg)
    assert in_process == []
    assert not compared("Pop", sg).failures
    assert [path.name for path in Path("out").iterdir()] == ["runs"]


@pytest.fixture
def frames():
    rng = np.random.default_rng(3)
    users = [f"u{n}" for n in range(40)]
    base = pd.DataFrame(rng.random((40, 2)), index=users, columns=["a", "b"])
    noisy = base + rng.normal(0.05, 0.1, (40, 2))
    # The same users in another order.
    return {"base": base, "noisy": noisy.iloc[rng.permutation(40)], "same": base.copy()}


def test_a_pair_by_the_textbook(frames):
    noisy, base = frames["noisy"]["a"], frames["base"]["a"]
    difference, error, low, high, p = paired_test(noisy, base).values()
    ordered = noisy[base.index]
    by_user = ordered - base
    assert difference == pytest.approx(sum(by_user) / 40)
    squares = sum((value - difference) ** 2 for value in by_user)
    assert error == pytest.approx(math.sqrt(squares / 39 / 40))
    # 2.0227 is the 97.5% point of Student's t with 39 degrees of freedom.
    around = (difference - 2.0227 * error, difference + 2.0227 * error)
    assert (low, high) == pytest.approx(around, rel=1e-4)
    assert p == pytest.approx(stats.ttest_rel(ordered, base).pvalue)
    same = paired_test(frames["same"]["a"], base)
    assert list(same.values()) == [0, 0, 0, 0, 1]


def test_one_user_says_nothing_about_others_and_two_do(frames):
    one = frames["noisy"].loc[["u7"], "a"]
    difference, *rest = paired_test(one, frames["base"]["a"]).values()
    assert difference == one["u7"] - frames["base"].loc["u7", "a"]
    assert np.isnan(rest).tolist() == [True] * 4
    assert paired_tests({k: v.loc[["u7"]] for k, v in frames.items()}, "base", ["a"]).empty
    two = {name: frame.loc[["u7", "u8"]] for name, frame in frames.items()}
    expected = stats.ttest_rel(two["noisy"]["a"], two["base"]["a"]).pvalue
    assert paired_tests(two, "base", ["a"])["p_value"][0] == pytest.approx(expected)


def test_holm_by_the_definition():
    p = np.array([0.04, 0.01, 0.03, 0.005, 0.9])
    expected = {}
    so_far = 0.0
    for rank, value in enumerate(sorted(p)):
        so_far = max(so_far, (len(p) - rank) * value)
        expected[value] = min(1.0, so_far)
    np.testing.assert_allclose(holm(p), [expected[value] for value in p])
    assert holm(p)[3] == pytest.approx(0.025)
    assert holm(p)[0] == holm(p)[2] == pytest.approx(0.09)
    assert len(holm(np.array([]))) == 0


def test_every_model_of_the_same_users_and_metric_is_corrected_together(frames):
    frames["fewer"] = frames["noisy"].iloc[:39]
    frames["others"] = frames["noisy"].rename(index=lambda user: f"{user}x")
    frames["none"] = pd.DataFrame()
    tests = paired_tests(frames, "base", ["a", "b"])
    assert tests["metric"].tolist() == ["a", "a", "b", "b"]
    assert tests["label"].tolist() == ["noisy", "same"] * 2
    np.testing.assert_allclose(tests["p_corrected"], holm(tests["p_value"].to_numpy()))
    assert set(tests["n_users"]) == {40}
    assert paired_tests(frames, "none", ["a"]).empty
