"""The folder of a search: its settings and each trial that is done, so that it can go on later.

Each file is JSON with a digest of itself, and whole or absent::

    search.json          what the search is
    trials/0001.json     a trial
    models/0001/         the model of the best trial so far
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from recbole_evcf.results import read_sealed, write_sealed
from recbole_evcf.trainer.effective_settings import differences

__all__ = ["TrialStore", "read_kept"]

# Settings that leave the result of a trial as it is.
WITHOUT_EFFECT = (
    "checkpoint_dir",
    "gpu_id",
    "log_wandb",
    "show_progress",
    "state",
    "use_gpu",
    "wandb_project",
)
# What no setting says, and yet decides the result of a trial.
OF_THE_TIME = ("data", "versions")


class TrialStore:
    """The trials of a search that are done, in the order of their numbers.

    A trial is a dict with the keys ``number`` (from 1), ``status`` (``finished``, ``stopped``
    early, or ``failed``), ``params``, ``point`` (what hyperopt drew), and either ``reason`` or
    what :func:`~recbole_evcf.tuning.trial.train_trial` returns.

    Args:
        folder: path; made if it does not exist.
        search: what makes the search this one and no other, as JSON's types; kept as the attribute
            ``search``, without settings that have no effect.
        bigger: whether a larger score is better.

    Raises:
        ValueError: the folder holds another search, or trials of which nothing says what they
            are of.
    """

    def __init__(self, folder: str, search: dict[str, Any], bigger: bool):
        self.folder = folder
        self.bigger = bigger
        self.search = json.loads(json.dumps(_without_effectless(search)))
        self._trials: dict[int, dict] = {}
        os.makedirs(os.path.join(folder, "trials"), exist_ok=True)
        for name in sorted(os.listdir(os.path.join(folder, "trials"))):
            if name.endswith(".json"):
                trial = read_kept(os.path.join(folder, "trials", name))
                self._trials[trial["number"]] = trial
        self._claim()

    def _claim(self) -> None:
        path = os.path.join(self.folder, "search.json")
        if self._trials:
            _check_same(self.folder, _read_search(path, self.folder), self.search)
        write_sealed(path, self.search)

    @property
    def trials(self) -> list[dict]:
        """The trials that are done."""
        return [self._trials[number] for number in sorted(self._trials)]

    @property
    def best(self) -> dict | None:
        """The trial with the best score, the first of several; None if there is none."""
        scored = [trial for trial in self.trials if trial["status"] != "failed"]
        better = max if self.bigger else min
        return better(scored, key=lambda trial: trial["score"], default=None)

    def add(self, trial: dict) -> None:
        """Keep a trial; of the models, only that of the best trial stays."""
        # As it will be read again.
        trial = json.loads(json.dumps(trial))
        write_sealed(self._path("trials", trial["number"]) + ".json", trial)
        self._trials[trial["number"]] = trial
        kept = self.best and self.best["number"]
        for number in self._trials:
            if number != kept:
                shutil.rmtree(self._path("models", number), ignore_errors=True)

    def model_file(self, number: int) -> str:
        """Where the model of a trial belongs."""
        return os.path.join(os.path.abspath(self._path("models", number)), "model.pth")

    def _path(self, kind: str, number: int) -> str:
        return os.path.join(self.folder, kind, f"{number:04d}")


def read_kept(path: str) -> dict:
    """Read such a file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return read_sealed(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and the search does without it."
        ) from None


def _read_search(path: str, folder: str) -> dict:
    """What the trials in a folder are of. Without it, any search could take them for its own."""
    try:
        return read_sealed(path)
    except FileNotFoundError:
        fault = "missing"
    except ValueError as error:
        fault = f"damaged ({error})"
    raise ValueError(
        f"{path} is {fault}, and nothing else says what the trials beside it are of: name another "
        f"--output folder, or remove {folder}."
    )


def _without_effectless(search: dict) -> dict:
    settings = search.get("settings", {})
    kept = {key: value for key, value in settings.items() if key not in WITHOUT_EFFECT}
    return {**search, "settings": kept}


def _check_same(folder: str, stored: dict, search: dict) -> None:
    changed = differences(_settings(stored), _settings(search))
    if changed:
        raise ValueError(
            f"{folder} holds a search with other settings ({', '.join(changed)}): repeat its "
            "settings to go on with it, or give another output folder."
        )
    changed = [key for key in OF_THE_TIME if stored.get(key) != search.get(key)]
    if changed:
        what = " and ".join(_difference(key, stored.get(key), search[key]) for key in changed)
        raise ValueError(
            f"{folder} holds a search whose trials cannot be compared with new ones, since {what}: "
            "give another output folder."
        )


def _settings(search: dict) -> dict:
    apart = (*OF_THE_TIME, "settings")
    return {
        **{key: value for key, value in search.items() if key not in apart},
        **search.get("settings", {}),
    }


def _difference(key: str, then, now) -> str:
    """What differs between a search and the one before in a key of :data:`OF_THE_TIME`."""
    if then is None:
        return f"it does not say with which {key} they were made"
    if key == "data":
        return "the files of the data set have changed"
    return f"they were made with {_listed(then)}, and this is {_listed(now)}"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
