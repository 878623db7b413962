"""RecBole's general recommenders with the plugin and without it: the same metrics, to 12 digits.

    python benchmarks/unchanged.py --models=BPR,EASE --seconds=60

On ml-100k, by random splitting, with the defaults that RecBole ships but for one epoch. Without the
plugin RecBole has the names that NumPy dropped, without which it cannot be imported; what fails
then is run once more with the repairs of ``hooks/fixes.py`` alone, and the table says why.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOO_LONG = "TimeoutError: it took too long"
WAYS = ("plain", "repaired", "plugin")
# One epoch of each takes many minutes.
SLOW = "FISM,NAIS"
SETTINGS = {
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "full"},
    "epochs": 1,
    "metric_decimal_place": 12,
    "show_progress": False,
    "state": "error",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; the exit code is 1 if a model's metrics differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="all", help="names separated by commas (default all)")
    parser.add_argument("--skip", default=SLOW, help=f"names to leave out (default {SLOW})")
    parser.add_argument("--seconds", type=int, default=60, help="for each run (default 60)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    names = _names() if given.models == "all" else given.models.split(",")
    names = [name for name in names if name not in given.skip.split(",")]
    if given.way:
        return _run_here(given.way, names, given.seconds)
    # At the same time, since what is compared are no times.
    both = {way: _results(way, names, given.seconds) for way in ("plain", "plugin")}
    differing = 0
    _print(["model", "without", "with", "equal", "remark"])
    for name in names:
        results = {way: next(answers) for way, answers in both.items()}
        if results["plain"].get("error", TOO_LONG) != TOO_LONG:
            results["repaired"] = next(_results("repaired", [name], given.seconds))
        row = _row(name, results)
        _print(row)
        differing += row[3] == "no"
    return int(differing > 0)


def _print(row: list[str]) -> None:
    name, without, plugin, equal, remark = row
    print(f"{name:<12} {without:<52} {plugin:<52} {equal:<11} {remark}".rstrip(), flush=True)


def _names() -> list[str]:
    """RecBole's general recommenders, by the classes that their modules define."""
    _import_recbole("plain")
    package = importlib.import_module("recbole.model.general_recommender")
    classes = {name.lower(): name for name in vars(package) if name[0].isupper()}
    return [classes[info.name] for info in pkgutil.iter_modules(package.__path__)]


def _results(way: str, names: Sequence[str], seconds: int) -> Iterator[dict]:
    """What a process of its own, which starts at once, finds for each model."""
    command = [sys.executable, __file__, f"--way={way}", f"--models={','.join(names)}"]
    process = subprocess.Popen(
        [*command, f"--seconds={seconds}", "--skip="], stdout=subprocess.PIPE, text=True
    )
    return map(json.loads, process.stdout)


def _run_here(way: str, names: Sequence[str], seconds: int) -> int:
    """A line of JSON for each model: its metrics or what was raised."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    _import_recbole(way)
    sys.argv = sys.argv[:1]
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory() as folder:
        # RecBole writes where it runs.
        os.chdir(folder)
        for name in names:
            signal.alarm(seconds)
            try:
                answer = _metrics(name)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
            signal.alarm(0)
            print(json.dumps(answer), file=answers, flush=True)
    return 0


def _too_long(*_) -> None:
    raise TimeoutError("it took too long")


def _metrics(name: str) -> dict[str, float]:
    from recbole.quick_start import run_recbole

    # Not saved: newer versions of torch refuse RecBole's own files.
    result = run_recbole(name, "ml-100k", config_dict=dict(SETTINGS), saved=False)
    return {key: float(value) for key, value in result["test_result"].items()}


def _import_recbole(way: str) -> None:
    if way == "plugin":
        sys.path.insert(0, str(ROOT))
        import recbole_evcf  # noqa: F401

        return
    # An empty package: the whole one would register the plugin.
    sys.modules["recbole_evcf"] = package = types.ModuleType("recbole_evcf")
    package.__path__ = [str(ROOT / "recbole_evcf")]
    from recbole_evcf.hooks import fixes

    fixes.repair() if way == "repaired" else fixes.repair_numpy_names()


def _row(name: str, results: dict[str, dict]) -> list[str]:
    reason = results["plain"].get("error")
    before = results.get("repaired", results["plain"])
    after = results["plugin"]
    remark = f"without repairs: {reason[:70]}" if "repaired" in results else ""
    if "error" in before or "error" in after:
        equal = "same error" if before == after else "no"
        if TOO_LONG in (before.get("error"), after.get("error")):
            equal = "too slow"
    else:
        equal = "yes" if before == after else "no"
    return [name, _text(before), _text(after), equal, remark]


def _text(result: dict) -> str:
    if "error" in result:
        return result["error"].partition(":")[0]
    return ", ".join(f"{key} {value:.4f}" for key, value in list(result.items())[:3])


if __name__ == "__main__":
    raise SystemExit(main())
