"""Paired tests against naive formulas and SciPy's other test of the same hypothesis."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_evcf.comparison.significance import compare_paired, compare_with_baseline, holm


@pytest.fixture
def frames():
    rng = np.random.default_rng(3)
    users = [f"u{n}" for n in range(40)]
    base = pd.DataFrame(rng.random((40, 2)), index=users, columns=["a", "b"])
    noisy = base + rng.normal(0.05, 0.1, (40, 2))
    # The same users in another order.
    return {"base": base, "noisy": noisy.iloc[rng.permutation(40)], "same": base.copy()}


def test_a_pair_by_the_textbook(frames):
    difference, error, low, high, p = compare_paired(frames["noisy"]["a"], frames["base"]["a"])
    ordered = frames["noisy"]["a"][frames["base"].index]
    by_user = ordered - frames["base"]["a"]
    assert difference == pytest.approx(sum(by_user) / 40)
    squares = sum((value - difference) ** 2 for value in by_user)
    assert error == pytest.approx(math.sqrt(squares / 39 / 40))
    # 2.0227 is the 97.5% point of Student's t with 39 degrees of freedom.
    around = (difference - 2.0227 * error, difference + 2.0227 * error)
    assert (low, high) == pytest.approx(around, rel=1e-4)
    assert p == pytest.approx(stats.ttest_rel(ordered, frames["base"]["a"]).pvalue)
    assert compare_paired(frames["same"]["a"], frames["base"]["a"]) == (0, 0, 0, 0, 1)


def test_one_user_says_nothing_about_others_and_two_do(frames):
    one = frames["noisy"].loc[["u7"], "a"]
    difference, *rest = compare_paired(one, frames["base"]["a"])
    assert difference == one["u7"] - frames["base"].loc["u7", "a"]
    assert np.isnan(rest).tolist() == [True] * 4
    assert compare_with_baseline({k: v.loc[["u7"]] for k, v in frames.items()}, "base", ["a"]) == []
    two = {name: frame.loc[["u7", "u8"]] for name, frame in frames.items()}
    (test, _) = compare_with_baseline(two, "base", ["a"])
    assert test.p_value == pytest.approx(
        stats.ttest_rel(two["noisy"]["a"], two["base"]["a"]).pvalue
    )


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


def test_every_model_and_metric_is_corrected_together(frames):
    tests = compare_with_baseline(frames, "base", ["a", "b"])
    assert [(test.metric, test.label) for test in tests] == [
        ("a", "noisy"),
        ("a", "same"),
        ("b", "noisy"),
        ("b", "same"),
    ]
    corrected = holm(np.array([test.p_value for test in tests]))
    np.testing.assert_allclose([test.p_corrected for test in tests], corrected)
    assert {test.n_users for test in tests} == {40}


def test_models_of_other_users_are_left_out(frames):
    frames["fewer"] = frames["noisy"].iloc[:39]
    frames["others"] = frames["noisy"].rename(index=lambda user: f"{user}x")
    frames["none"] = pd.DataFrame()
    labels = {test.label for test in compare_with_baseline(frames, "base", ["a"])}
    assert labels == {"noisy", "same"}
    assert compare_with_baseline(frames, "none", ["a"]) == []
