"""The table of RecBole's models with the plugin and without."""

import pytest
import unchanged

ONE, OTHER, SLOW = {"ndcg@10": 0.5}, {"ndcg@10": 0.25}, {"error": "TimeoutError: it took too long"}
FAILED = {"error": "AttributeError: dok_matrix"}


SHOWN = "ndcg@10 0.5000"
UNREPAIRED = f"without repairs: {FAILED['error']}"


@pytest.mark.parametrize(
    ("plain", "repaired", "plugin", "row"),
    [
        (ONE, None, ONE, [SHOWN, SHOWN, "yes", ""]),
        (ONE, None, OTHER, [SHOWN, "ndcg@10 0.2500", "no", ""]),
        (ONE, None, FAILED, [SHOWN, "AttributeError", "no", ""]),
        (FAILED, ONE, ONE, [SHOWN, SHOWN, "yes", UNREPAIRED]),
        (FAILED, FAILED, FAILED, ["AttributeError"] * 2 + ["same error", UNREPAIRED]),
        (SLOW, None, ONE, ["TimeoutError", SHOWN, "too slow", ""]),
    ],
)
def test_a_model_is_unchanged_if_every_digit_is(plain, repaired, plugin, row):
    results = {"plain": plain, "repaired": repaired, "plugin": plugin}
    results = {way: result for way, result in results.items() if result}
    assert unchanged._row("M", results) == ["M", *row]
