"""The table of RecBole's models with the plugin and without."""

import pytest
import unchanged

ONE, OTHER, SLOW = {"ndcg@10": 0.5}, {"ndcg@10": 0.25}, {"error": "TimeoutError: it took too long"}
FAILED = {"error": "AttributeError: dok_matrix"}


@pytest.mark.parametrize(
    ("plain", "repaired", "plugin", "row"),
    [
        (ONE, None, ONE, ["ndcg@10 0.5000", "ndcg@10 0.5000", "yes", ""]),
        (ONE, None, OTHER, ["ndcg@10 0.5000", "ndcg@10 0.2500", "no", ""]),
        (ONE, None, FAILED, ["ndcg@10 0.5000", "AttributeError", "no", ""]),
        (
            FAILED,
            ONE,
            ONE,
            ["ndcg@10 0.5000", "ndcg@10 0.5000", "yes", f"without repairs: {FAILED['error']}"],
        ),
        (
            FAILED,
            FAILED,
            FAILED,
            ["AttributeError"] * 2 + ["same error", f"without repairs: {FAILED['error']}"],
        ),
        (
            SLOW,
            None,
            ONE,
            ["TimeoutError", "ndcg@10 0.5000", "too slow", ""],
        ),
    ],
)
def test_a_model_is_unchanged_if_every_digit_is(plain, repaired, plugin, row):
    results = {"plain": plain, "repaired": repaired, "plugin": plugin}
    results = {way: result for way, result in results.items() if result}
    assert unchanged._row("M", results) == ["M", *row]
