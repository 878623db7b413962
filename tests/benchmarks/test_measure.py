"""Cases in processes of their own: turns, medians, peaks, and every way to fail."""

import math

import pytest

from measure import Case, measure

CASES = """
import os, signal, sys, time

def noting(spec):
    def run():
        print("noise on stdout")
        with open(spec["log"], "a") as log:
            log.write(spec["name"])
        time.sleep(spec.get("sleep", 0))
        return {"pid": os.getpid()}
    return run

def failing_to_build(spec):
    raise ValueError("no such thing")

def failing(spec):
    def run():
        raise RuntimeError("broke down")
    return run

def exiting(spec):
    def run():
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    return run

def killed(spec):
    return lambda: os.kill(os.getpid(), signal.SIGKILL)

def growing(spec):
    def run():
        kept = []
        while True:
            kept.append(bytearray(os.urandom(1024)) * 20_000)
            time.sleep(0.02)
    return run

def yielding(spec):
    def run():
        yield {"a": 1}
        if spec["fails"]:
            raise MemoryError("all gone")
        yield {"a": 1, "b": 2}
    return run

def holding(spec):
    block = bytearray(os.urandom(1024)) * (spec["mib"] * 1024)
    return lambda: {"size": len(block)}
"""


@pytest.fixture(autouse=True)
def _module_of_cases(tmp_path, monkeypatch):
    (tmp_path / "trial_cases.py").write_text(CASES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def case(function, **spec):
    return Case(function, f"trial_cases:{function}", spec)


def noting(tmp_path, name, repetitions=None, **spec):
    spec = {"name": name, "log": str(tmp_path / "log"), **spec}
    return Case(name, "trial_cases:noting", spec, repetitions)


def test_cases_take_turns(tmp_path, monkeypatch):
    monkeypatch.setattr("measure.WARM_UP_SECONDS", 0)
    cases = [noting(tmp_path, "a", sleep=0.05), noting(tmp_path, "b", 2), noting(tmp_path, "c")]
    found = measure(cases, 3)
    assert (tmp_path / "log").read_text() == "abcabcac"
    assert [len(found[name].seconds) for name in "abc"] == [3, 2, 3]
    assert 0.05 <= found["a"].median < 1
    assert len({result["pid"] for result in found["a"].results}) == 1
    assert found["a"].results[0]["pid"] != found["b"].results[0]["pid"]
    assert not any(one.error for one in found.values())


def test_fresh_processes(tmp_path):
    found = measure([noting(tmp_path, "a")], 2, fresh=True)
    assert (tmp_path / "log").read_text() == "aa"
    assert len({result["pid"] for result in found["a"].results}) == 2


FAILURES = {
    "failing_to_build": "ValueError: no such thing",
    "failing": "RuntimeError: broke down",
    "exiting": "ended with exit code 3: last words",
    "killed": "killed by signal 9",
    "missing": "AttributeError: module 'trial_cases' has no attribute 'missing'",
}


def test_failures_are_reported_and_the_others_continue(tmp_path):
    found = measure([*map(case, FAILURES), noting(tmp_path, "a")], 2)
    assert len(found.pop("a").seconds) == 2
    assert {name: one.error for name, one in found.items()} == FAILURES
    assert not any(one.seconds for one in found.values())
    assert all(math.isnan(one.median) for one in found.values())


def test_what_was_done_before_a_failure_is_kept():
    found = measure([case("yielding", fails=True)], 1)["yielding"]
    assert (found.results, found.partial) == ([], {"a": 1})
    assert found.error == "out of memory: MemoryError: all gone"
    found = measure([case("yielding", fails=False)], 1)["yielding"]
    assert (found.results, found.partial, found.error) == ([{"a": 1, "b": 2}], {}, None)


def test_too_much_memory_ends_a_case():
    found = measure([case("growing")], 1, memory_limit=150 * 2**20)["growing"]
    assert found.error.startswith("out of memory: stopped at 0.")
    assert 150 * 2**20 < found.peak < 400 * 2**20


def test_peak_memory():
    small, large = (
        measure([case("holding", mib=mib)], 1)["holding"].peak / 2**20 for mib in (1, 201)
    )
    assert large - small == pytest.approx(200, abs=20)
