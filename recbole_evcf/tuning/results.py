"""What a search found, as files: tables of the trials, and the best one's settings and model."""

from __future__ import annotations

import json
import os
from typing import Any

import pandas as pd
import yaml

from recbole_evcf.results import digest, write_sealed
from recbole_evcf.tuning.store import TrialStore, read_kept
from recbole_evcf.tuning.trial import Task, attempt_trial, evaluate_on_test_users
from recbole_evcf.utils.files import atomic_write, write_json

__all__ = ["conclude", "trial_table", "write_trials"]


def trial_table(trials: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per trial: number, status, parameters, metrics on validation users, epochs, time."""
    rows = []
    for trial in trials:
        params = {
            name: json.dumps(value) if isinstance(value, (list, dict)) else value
            for name, value in trial["params"].items()
        }
        rest = {key: trial.get(key) for key in ("best_epoch", "epochs", "seconds", "reason")}
        begin = {"trial": trial["number"], "status": trial["status"]}
        rows.append({**begin, **params, **trial.get("valid", {}), **rest})
    return pd.DataFrame(rows).astype({"best_epoch": "Int64", "epochs": "Int64"})


def write_trials(store: TrialStore) -> None:
    """Write ``trials.csv`` and ``trials.json``."""
    with atomic_write(os.path.join(store.folder, "trials.csv")) as temporary:
        trial_table(store.trials).to_csv(temporary, index=False)
    write_json(os.path.join(store.folder, "trials.json"), store.trials)


def conclude(store: TrialStore, task: Task) -> dict[str, Any]:
    """Evaluate the best trial on the test users, once, and write it down.

    Writes ``best.yaml`` (its settings, a config file), ``best.pth`` (its model) and ``best.json``.

    Returns:
        dict: the trial, with ``model``, ``dataset``, ``test`` (its metrics on test users) and
        ``identity`` (a digest of the trial and its search).

    Raises:
        ValueError: no trial succeeded.
    """
    best = store.best
    if best is None:
        reason = store.trials[0]["reason"]
        raise ValueError(f"All {len(store.trials)} trials failed, the first with: {reason}")
    path = os.path.join(store.folder, "best.json")
    known = read_kept(path) if os.path.exists(path) else {}
    # Another search in the same folder may have a best trial of the same number.
    identity = digest({"search": store.search, "trial": best})[:12]
    if known.get("identity") != identity:
        names = {"model": task.model, "dataset": task.dataset}
        known = {**names, **best, "test": _test(store, task, best), "identity": identity}
        write_sealed(path, known)
    model_file = store.model_file(best["number"])
    if os.path.exists(model_file):
        os.replace(model_file, os.path.join(store.folder, "best.pth"))
        os.rmdir(os.path.dirname(model_file))
    _write_settings(os.path.join(store.folder, "best.yaml"), task, best)
    return known


def _test(store: TrialStore, task: Task, best: dict[str, Any]) -> dict[str, float]:
    model_file = store.model_file(best["number"])
    if not os.path.exists(model_file):
        # It was trained on another machine, which has its own disk.
        outcome = attempt_trial(task, best["params"], model_file)
        if outcome["status"] == "failed":
            raise ValueError(f"The best trial could not be trained again: {outcome['reason']}")
    return evaluate_on_test_users(task, best["params"], model_file)


def _write_settings(path: str, task: Task, best: dict[str, Any]) -> None:
    settings = {"model": task.model, "dataset": task.dataset, **task.settings, **best["params"]}
    text = yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(f"# Trial {best['number']}, the best: recbole-evcf run --config_files={path}\n")
        file.write(text)


def _plain(value):
    """Tuples, which YAML does not have, as lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
