"""The files of an unfinished run: its best model, and beside it the state to resume from.

``X.pth`` is the model of the best epoch, as RecBole names and saves it. ``X.pth.DIGEST.resume`` is
a file of the same kind, of a later epoch; DIGEST is that of the run's settings, by which it is
looked up. Either holds all that training needs to resume from there, under the key ``training``.
The second is there, empty at first, from the start of the run to its end: it marks what is
unfinished.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recbole.config import Config

from recbole_evcf import results
from recbole_evcf.config.keys import Role, differences, effective_settings, with_role
from recbole_evcf.trainer.checkpoint import load_checkpoint, plain_config
from recbole_evcf.utils.files import remove_leftovers

__all__ = [
    "State",
    "discard",
    "find_states",
    "leave",
    "mark_unfinished",
    "model_file_of",
    "newest_state",
    "settings_of_run",
    "state_file",
    "state_of",
    "states_kept",
    "take",
]

SUFFIX = ".resume"
_kept: list[list[str]] = []


@dataclass(frozen=True)
class State:
    """A file from which a run can be resumed.

    Attributes:
        model_file: path of the run's best model, ``X.pth``.
        file: that, or the state beside it: the one of the later epoch.
        epoch: that epoch, counted from 0.
        best_epoch: the best until then, -1 for none.
        settings: of the run, see :func:`settings_of_run`.
        data: digest of what it was trained on.
        changed: when the file was written, in seconds since 1970.
    """

    model_file: str
    file: str
    epoch: int
    best_epoch: int
    settings: dict
    data: str
    changed: float

    def same_run(self, other: State) -> bool:
        """Whether both are of runs with the same data and, up to what may change, settings."""
        return self.data == other.data and fits(self.settings, other.settings)


def fits(settings: Mapping, others: Mapping) -> bool:
    """Whether a run of some settings may be resumed with others."""
    return set(differences(settings, others)) <= set(with_role(Role.CHANGEABLE_ON_RESUME))


def settings_of_run(config: Config) -> dict:
    """Return all settings that decide what training makes of the data.

    The number of epochs does not: a run may be resumed for longer.
    """
    return _settings(plain_config(config), config["device"].type)


def _settings(plain: Mapping, device: str) -> dict:
    settings = effective_settings(plain)
    # RecBole validates at least once.
    settings["eval_step"] = min(settings["eval_step"], settings.pop("epochs"))
    # Metrics come with it or without.
    return {**settings, "standard_error": plain.get("standard_error"), "device": device}


def state_file(model_file: str, settings: Mapping) -> str:
    """Return the path of the state beside a model file, for a run of these settings."""
    return f"{model_file}.{results.digest(dict(settings))[:12]}{SUFFIX}"


def model_file_of(path: str) -> str:
    """Return the path of a run's model file, given that or the path of its state."""
    # Earlier versions wrote no digest into the name.
    return re.sub(rf"(\.[0-9a-f]{{12}})?{re.escape(SUFFIX)}$", "", path)


def _states_beside(model_file: str) -> list[str]:
    paths = glob.glob(f"{glob.escape(model_file)}*{SUFFIX}")
    return [path for path in paths if model_file_of(path) == model_file]


def state_of(model_file: str, checked: bool = False) -> State | None:
    """Return from where the run of a model file can be resumed.

    Args:
        model_file: path of the run's best model.
        checked: compare all bytes with their checksums; otherwise weights are not read.

    Returns:
        None if its files are missing or corrupt.

    Raises:
        ValueError: the model file is not of the run of the state beside it.
    """
    best = _read(model_file, model_file, checked)
    lasts = (_read(model_file, path, checked) for path in _states_beside(model_file))
    last = next(filter(None, lasts), None)
    if last is None or (best and best.epoch > last.epoch and best.same_run(last)):
        return best
    if last.best_epoch >= 0 and not (
        best and best.epoch == last.best_epoch and best.same_run(last)
    ):
        raise ValueError(
            f"{last.file} belongs to the best model of its run, of epoch {last.best_epoch}, and "
            f"{model_file} is another file: start from scratch without resume."
        )
    return last


def _read(model_file: str, path: str, checked: bool) -> State | None:
    # The file is missing or corrupt, or has no state or another kind of one.
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OSError):
        changed = os.path.getmtime(path)
        content = load_checkpoint(path, mapped=not checked)
        training = content["training"]
        settings = _settings(content["config"], training["device"])
        epochs = content["epoch"], training["progress"]["best_epoch"]
        return State(model_file, path, *epochs, settings, training["data"], changed)
    return None


def find_states(config: Config) -> Iterator[State]:
    """Look up the unfinished runs of the config's settings in ``checkpoint_dir``, newest first.

    Those that are beyond its ``epochs`` are left out.
    """
    settings = settings_of_run(config)
    for state in _unfinished(config, state_file("-*", settings)):
        # The name is decisive where a run was resumed with a changed setting.
        if state.epoch < config["epochs"] and fits(state.settings, settings):
            yield state


def newest_state(config: Config) -> State | None:
    """Return the newest unfinished run of the config's model in ``checkpoint_dir``, if any."""
    return next(_unfinished(config, f"-*{SUFFIX}"), None)


def _unfinished(config: Config, name: str) -> Iterator[State]:
    folder = glob.escape(config["checkpoint_dir"])
    paths = glob.glob(os.path.join(folder, f"{config['model']}{name}"))
    for path in sorted(paths, key=_last_written, reverse=True):
        # A model that is not of the state beside it.
        with contextlib.suppress(ValueError):
            if state := state_of(model_file_of(path)):
                yield state


def _last_written(state_path: str) -> float:
    times = [0.0]
    for path in (state_path, model_file_of(state_path)):
        # The run may end meanwhile.
        with contextlib.suppress(FileNotFoundError):
            times.append(os.path.getmtime(path))
    return max(times)


def mark_unfinished(model_file: str, settings: Mapping) -> None:
    """Put an empty file in the place of a new run's state."""
    _unlink_states(model_file)
    with open(state_file(model_file, settings), "xb"):
        pass


def take(state: State, settings: Mapping, ended_too: bool = False) -> State | None:
    """Check the files of a run whose lock is held, and rename its state after present settings.

    Returns:
        None if the files are corrupt, or the run has ended and ``ended_too`` is not set; the lock
        is then released.
    """
    model_file, taken = state.model_file, None
    present, path = _states_beside(model_file), state_file(model_file, settings)
    if present or ended_too:
        for file in (model_file, *present):
            remove_leftovers(file)
        if not present:
            mark_unfinished(model_file, settings)
        elif present[0] != path:
            os.replace(present[0], path)
        taken = state_of(model_file, checked=True)
    if taken is None:
        results.release(model_file)
    return taken


def discard(model_file: str) -> None:
    """Remove the state of a run that has ended; its best model stays."""
    if _kept:
        _kept[-1].append(model_file)
        return
    # Where the folder has gone there is nothing to lock, nor to remove.
    if _states_beside(model_file) and results.take(model_file):
        _unlink_states(model_file)
    results.release(model_file)


def leave(model_file: str) -> None:
    """Let other processes resume a run that was stopped; one that wrote nothing leaves nothing."""
    if not results.holds(model_file):
        return
    if not os.path.exists(model_file) and not any(map(os.path.getsize, _states_beside(model_file))):
        _unlink_states(model_file)
    results.release(model_file)


def _unlink_states(model_file: str) -> None:
    for path in _states_beside(model_file):
        os.unlink(path)


@contextlib.contextmanager
def states_kept(discarded_after: bool = True) -> Iterator[list[str]]:
    """Keep the states of runs that end within the block, whose model files are listed.

    Those who show the metrics of a run to a user or write them to a file do so within the block:
    should that fail, the run can still be resumed.

    Args:
        discarded_after: whether states are removed when the block succeeds.
    """
    _kept.append([])
    try:
        yield _kept[-1]
    finally:
        ended = _kept.pop()
    if discarded_after:
        for model_file in ended:
            discard(model_file)
