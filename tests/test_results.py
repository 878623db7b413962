"""The store: digests, sealed JSON, results by key, and who may write."""

import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from build import another_process
from recbole_evcf import results
from recbole_evcf.results import Store, digest, read_sealed, write_sealed

CONTENT = {"b": [1, 2.5, None], "a": {"é": "x"}, "n": np.float32(0.5), "t": (1, 2)}
PLAIN = {"b": [1, 2.5, None], "a": {"é": "x"}, "n": 0.5, "t": [1, 2]}


def test_content_comes_back_in_order_under_a_sha256_that_anyone_can_compute():
    write_sealed("x.json", CONTENT)
    assert read_sealed("x.json") == PLAIN
    assert list(read_sealed("x.json")) == ["b", "a", "n", "t"]
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


HOLD = "from recbole_evcf import results\nheld = results.folder_held('out')\nheld.__enter__()"


def test_a_folder_is_one_commands_until_its_process_has_gone():
    refused = pytest.raises(ValueError, match="output folder out is in use by another command")
    with another_process(HOLD), refused, results.folder_held("out"):
        pytest.fail("it was another's")
    # Killed, it had no chance to remove its lock.
    assert os.listdir("out") == ["results.lock"]
    with results.folder_held("out"):
        assert results.holds("out/results")
    assert os.listdir("out") == []


def test_a_folder_is_one_commands_within_a_process_too():
    refused = pytest.raises(ValueError, match="in use by another command")
    with results.folder_held("out"), refused, results.folder_held(os.path.abspath("out")):
        pytest.fail("it was another's")


def test_a_folder_that_cannot_be_written_is_named():
    message = r"^The output folder /dev/null/out cannot be written \(Not a directory\)"
    with pytest.raises(ValueError, match=message), results.folder_held("/dev/null/out"):
        pytest.fail("there is no such folder")


def test_a_run_may_be_taken_again_by_its_process_and_released_by_any_thread():
    assert results.take("model.pth")
    assert results.take("model.pth")
    thread = threading.Thread(target=results.release, args=["model.pth"])
    thread.start()
    thread.join()
    assert not results.holds("model.pth")
    assert os.listdir() == []


def test_the_digest_of_a_file_is_its_sha256():
    Path("x").write_bytes(b"\0" * 3_000_000)
    assert digest(Path("x")) == hashlib.sha256(b"\0" * 3_000_000).hexdigest()


def test_equal_contents_have_equal_digests_whatever_holds_them():
    numbers = np.arange(12).reshape(3, 4)
    assert digest(numbers) == digest(torch.from_numpy(numbers)) == digest(numbers.copy(order="F"))
    assert digest({"a": 1, "b": [2]}) == digest({"b": (2,), "a": 1}) != digest({"a": 1, "b": [3]})
    assert digest("ab", "c") != digest("a", "bc")


def test_a_result_is_found_by_its_key_alone():
    store = Store("kept")
    store.put("one", {"seed": 1, "topk": (5, 10)}, {"ndcg": 0.25})
    assert Store("kept").get("one", {"topk": [5, 10], "seed": 1}) == {"ndcg": 0.25}
    assert store.get("one", {"seed": 2, "topk": [5, 10]}) is None
    assert store.get("two", {"seed": 1}) is None
    store.path("one").write_text(store.path("one").read_text().replace("0.25", "0.35"))
    assert store.get("one", {"seed": 1, "topk": [5, 10]}) is None
