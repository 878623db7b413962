"""The finished trials of a search in its folder, so that it can be resumed.

``trials/0001.json`` is a trial, ``models/0001/`` the model of the best trial so far.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from recbole_evcf.config.keys import differences
from recbole_evcf.results import Store, read_sealed
from recbole_evcf.utils.files import plain_json

__all__ = ["TrialStore"]


class TrialStore:
    """The finished trials of a search, in the order of their numbers.

    A trial is a dict with the keys ``number`` (from 1), ``status`` (``finished``, ``stopped``
    early, or ``failed``), ``params``, ``point`` (what was drawn for it), and either ``reason`` or
    what :func:`~recbole_evcf.tuning.trial.attempt_trial` returns. One whose file is corrupt
    counts as not done.

    Args:
        folder: path; made if it does not exist.
        key: all that decides the trials of this search: settings, data and versions.
        bigger: whether a larger score is better.

    Raises:
        ValueError: the folder holds trials of another search.
    """

    def __init__(self, folder: str, key: Mapping[str, Any], bigger: bool):
        self.folder, self.bigger = folder, bigger
        self.key = plain_json(dict(key))
        self._store = Store(os.path.join(folder, "trials"))
        self._trials: dict[int, dict[str, Any]] = {}
        for path in self._store.folder.glob("[0-9]*.json"):
            try:
                content = read_sealed(path)
            except (OSError, ValueError):
                continue
            if "key" in content:
                _check_same(folder, content["key"], self.key)
                self._trials[content["value"]["number"]] = content["value"]

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The finished trials."""
        return [self._trials[number] for number in sorted(self._trials)]

    @property
    def best(self) -> dict[str, Any] | None:
        """The trial with the best score, the first of several; None if there is none."""
        scored = [trial for trial in self.trials if trial["status"] != "failed"]
        better = max if self.bigger else min
        return better(scored, key=lambda trial: trial["score"], default=None)

    def add(self, trial: Mapping[str, Any]) -> None:
        """Keep a trial, and only the best trial's model."""
        number = trial["number"]
        self._store.put(f"{number:04d}", self.key, trial)
        # As it will be read back.
        self._trials[number] = plain_json(trial)
        kept = self.best and self.best["number"]
        for number in self._trials:
            if number != kept:
                shutil.rmtree(os.path.dirname(self.model_file(number)), ignore_errors=True)

    def model_file(self, number: int) -> str:
        """Return the path of a trial's model."""
        return os.path.join(os.path.abspath(self.folder), "models", f"{number:04d}", "model.pth")

    def test_result(self, trial: Mapping[str, Any]) -> dict[str, float] | None:
        """Return a trial's metrics on the test users, if known."""
        return self._store.get("best", {**self.key, "trial": trial})

    def add_test_result(self, trial: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Keep the metrics of the best trial on the test users."""
        self._store.put("best", {**self.key, "trial": trial}, metrics)


def _check_same(folder: str, kept: Mapping[str, Any], key: Mapping[str, Any]) -> None:
    changed = differences(kept, key)
    # The others cannot be repeated.
    settings = [name for name in changed if name not in ("data", "versions")]
    if settings:
        raise ValueError(
            f"{folder} holds a search with other settings ({', '.join(settings)}): repeat its "
            "settings to resume it, or give another output folder."
        )
    if changed:
        reasons = {
            "data": "the files of the data set have changed",
            "versions": f"they were made with {_listed(kept.get('versions', {}))}, and this is "
            f"{_listed(key.get('versions', {}))}",
        }
        raise ValueError(
            f"{folder} holds a search whose trials cannot be compared with new ones, since "
            f"{' and '.join(reasons[name] for name in changed)}: give another output folder."
        )


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
