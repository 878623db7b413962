"""The files of a run that is not finished: its best model, and beside it the state to go on from.

``X.pth`` is the model of the best epoch, as RecBole names and saves it. ``X.pth.resume`` is a file
of the same kind of a later epoch. Either holds all that training needs to go on from there, under
the key ``training``; and ``X.pth.resume`` is there from the start, empty at first, until the run
has ended, so that it marks what is unfinished.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recbole_evcf.trainer import run_lock
from recbole_evcf.trainer.checkpoint import load_checkpoint, plain_config
from recbole_evcf.trainer.effective_settings import differences, effective_settings

__all__ = [
    "CHANGEABLE",
    "SUFFIX",
    "Place",
    "discard",
    "fitting_places",
    "kept",
    "kept_until_given",
    "leave",
    "mark_unfinished",
    "model_file_of",
    "place_of",
    "reserve",
    "settings_of_run",
    "take",
    "unfinished_places",
]

SUFFIX = ".resume"
# What may be changed where a file to go on from is named: the same networks, trained otherwise.
CHANGEABLE = {"clip_grad_norm", "learning_rate", "stopping_step", "weight_decay"}
_kept: list[list[str]] = []


@dataclass(frozen=True)
class Place:
    """Where a run can go on.

    Attributes:
        model_file: path of the run's best model, ``X.pth``.
        file: the one of its files that holds the later epoch.
        epoch: that epoch, counted from 0.
        settings: of the run, see :func:`settings_of_run`.
        data: digest of what it was trained on.
        changed: when the file was written, in seconds since 1970.
    """

    model_file: str
    file: str
    epoch: int
    settings: dict
    data: str
    changed: float


def settings_of_run(config) -> dict:
    """All settings that decide what training makes of the data.

    The number of epochs does not: a run may go on for longer.
    """
    return _settings(plain_config(config), config["device"].type)


def _settings(plain: Mapping, device: str) -> dict:
    settings = effective_settings(plain)
    # RecBole validates at least once.
    settings["eval_step"] = min(settings["eval_step"], settings.pop("epochs"))
    # Metrics come with it or without.
    return {**settings, "standard_error": plain.get("standard_error"), "device": device}


def model_file_of(path: str) -> str:
    """The path of a run's model file, given that or the path of its state."""
    return path.removesuffix(SUFFIX)


def place_of(model_file: str) -> Place | None:
    """Where the run of a model file can go on; None if its files are missing or damaged.

    Raises:
        ValueError: the model file is not of the run of the state beside it.
    """
    best, _ = _read(model_file, model_file)
    last, best_then = _read(model_file, model_file + SUFFIX)
    if last is None or (best is not None and best.epoch > last.epoch and _same_run(best, last)):
        return best
    if best_then >= 0 and (best is None or best.epoch != best_then or not _same_run(best, last)):
        raise ValueError(
            f"{last.file} goes with the best model of its run, of epoch {best_then}, and "
            f"{model_file} is another file: start anew without resume."
        )
    return last


def _read(model_file: str, path: str) -> tuple[Place | None, int]:
    """The state in a file, if there is one, and the best epoch until then, -1 for none."""
    # What is not there, is damaged, or has no state or another kind of one.
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OSError):
        changed = os.path.getmtime(path)
        state = load_checkpoint(path)
        training = state["training"]
        settings = _settings(state["config"], training["device"])
        place = Place(model_file, path, state["epoch"], settings, training["data"], changed)
        return place, training["progress"]["best_epoch"]
    return None, -1


def _same_run(one: Place, other: Place) -> bool:
    changed = differences(one.settings, other.settings)
    return one.data == other.data and set(changed) <= CHANGEABLE


def reserve(model_file: str) -> str:
    """Take a run that has written nothing yet, and mark it as unfinished.

    Returns:
        the path for its model: the given one, or one with a number where another unfinished run
        has that.
    """
    stem, ending = os.path.splitext(model_file)
    for number in itertools.count(1):
        name = model_file if number == 1 else f"{stem}-{number}{ending}"
        if run_lock.holds(name) or not run_lock.take(name):
            continue
        if not os.path.exists(name + SUFFIX):
            mark_unfinished(name)
            return name
        run_lock.release(name)


def take(place: Place) -> Place | None:
    """Take a run that was stopped; where it goes on once no other process trains it any more.

    None if one does, or if the run has ended.
    """
    if not run_lock.take(place.model_file):
        return None
    if not os.path.exists(place.model_file + SUFFIX):
        run_lock.release(place.model_file)
        return None
    return place_of(place.model_file)


def mark_unfinished(model_file: str) -> None:
    """Put an empty file in the state's place, if there is none."""
    os.close(os.open(model_file + SUFFIX, os.O_CREAT | os.O_WRONLY, 0o666))


def unfinished_places(config) -> Iterator[Place]:
    """The runs of the config's model in ``checkpoint_dir`` that have not ended, newest first."""
    pattern = os.path.join(glob.escape(config["checkpoint_dir"]), f"{config['model']}-*{SUFFIX}")
    model_files = (model_file_of(path) for path in glob.glob(pattern))
    for model_file in sorted(model_files, key=_changed, reverse=True):
        place = None
        # A model that is not of the state beside it.
        with contextlib.suppress(ValueError):
            place = place_of(model_file)
        if place is not None:
            yield place


def _changed(model_file: str) -> float:
    """When the run last wrote, in seconds since 1970; it may end meanwhile."""
    times = [0.0]
    for path in (model_file, model_file + SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            times.append(os.path.getmtime(path))
    return max(times)


def fitting_places(config) -> Iterator[Place]:
    """Of the unfinished runs, newest first, those with the config's settings that are not beyond
    its ``epochs``."""
    settings = settings_of_run(config)
    for place in unfinished_places(config):
        if place.epoch < config["epochs"] and not differences(place.settings, settings):
            yield place


def discard(model_file: str) -> None:
    """Remove the state of a run that has ended; its best model stays."""
    if _kept:
        _kept[-1].append(model_file)
        return
    # Where the folder has gone there is nothing to lock, nor to remove.
    if os.path.exists(model_file + SUFFIX) and run_lock.take(model_file):
        os.unlink(model_file + SUFFIX)
    run_lock.release(model_file)


def leave(model_file: str) -> None:
    """Leave a run that was stopped to whoever goes on with it; one that wrote nothing is no run."""
    if not run_lock.holds(model_file):
        return
    marker = model_file + SUFFIX
    if not os.path.exists(model_file) and os.path.exists(marker) and not os.path.getsize(marker):
        os.unlink(marker)
    run_lock.release(model_file)


@contextlib.contextmanager
def kept() -> Iterator[list[str]]:
    """Within it, states stay after the end of their runs, whose model files are listed."""
    _kept.append([])
    try:
        yield _kept[-1]
    finally:
        _kept.pop()


@contextlib.contextmanager
def kept_until_given() -> Iterator[None]:
    """Within it, states stay after the end of their runs; they are removed once it ends well.

    For those who give the metrics of a run to a user or write them to a file: should that fail, the
    run can still go on from its state.
    """
    with kept() as model_files:
        yield
    for model_file in model_files:
        discard(model_file)
