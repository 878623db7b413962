"""JSON that tells whether it is what was written."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from recbole_evcf.utils.sealed_json import read_sealed, write_sealed

CONTENT = {"b": [1, 2.5, None], "a": {"é": "x"}, "n": np.float32(0.5), "t": (1, 2)}
PLAIN = {"b": [1, 2.5, None], "a": {"é": "x"}, "n": 0.5, "t": [1, 2]}


def test_round_trip_in_order():
    write_sealed("x.json", CONTENT)
    assert read_sealed("x.json") == PLAIN
    assert list(read_sealed("x.json")) == ["b", "a", "n", "t"]


def test_the_seal_is_a_sha256_that_anyone_can_compute():
    write_sealed("x.json", CONTENT)
    text = json.dumps(PLAIN, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert json.loads(Path("x.json").read_text(encoding="utf-8"))["sha256"] == digest


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"a": 1}', "[" * 100_000, "\ud800"])
def test_what_was_not_written_so_is_refused(content):
    Path("x.json").write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ValueError, match=r".+"):
        read_sealed("x.json")


def test_a_number_that_an_editor_changed_is_refused():
    write_sealed("x.json", CONTENT)
    text = Path("x.json").read_text(encoding="utf-8")
    Path("x.json").write_text(text.replace("2.5", "2.6"), encoding="utf-8")
    with pytest.raises(ValueError, match="sha256 is not that of its content"):
        read_sealed("x.json")
