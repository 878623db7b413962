"""The state of an unfinished run is written after epochs, looked up, and resumed from.

``X.pth`` is the model of the best epoch, as RecBole names and saves it. ``X.pth.DIGEST.resume`` is
a file of the same kind, of a later epoch; DIGEST is that of the run's settings, by which it is
looked up. Either holds all that training needs to resume from there, under the key ``training``;
weights that no epoch changes are in the first alone, once it is there.
The second is there, empty at first, from the start of the run to its end: it marks what is
unfinished. The process that trains a run holds the lock ``X.pth.lock``.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from recbole.config import Config
from recbole.trainer import Trainer

from recbole_evcf import distributed, results
from recbole_evcf.config.keys import Role, differences, effective_settings, with_role
from recbole_evcf.data.identity import digest_of_loaders
from recbole_evcf.trainer.checkpoint import from_plain, load_checkpoint, plain_config, to_plain
from recbole_evcf.trainer.generators import generator_states, set_generator_states
from recbole_evcf.utils.files import remove_leftovers

# In glob's language.
SUFFIX = f".{'[0-9a-f]' * 12}.resume"
_kept: list[list[str]] = []


@dataclass(frozen=True)
class State:
    """A file from which a run can be resumed.

    Attributes:
        model_file: path of the run's best model, ``X.pth``.
        file: that, or the state beside it: the one of the later epoch.
        epoch: that epoch, counted from 0.
        best_epoch: the best until then, -1 for none.
        settings: all that decides what training makes, with a digest of the ``data``.
    """

    model_file: str
    file: str
    epoch: int
    best_epoch: int
    settings: dict[str, Any]

    def fits(self, settings: Mapping[str, Any]) -> bool:
        """Whether these settings differ in nothing but what may change when a run is resumed."""
        return set(differences(self.settings, settings)) <= {*with_role(Role.CHANGEABLE_ON_RESUME)}


def _settings(plain: Mapping[str, Any], device: str, data: str | None) -> dict[str, Any]:
    settings = effective_settings(plain)
    # A run may be resumed for longer. RecBole validates at least once.
    settings["eval_step"] = min(settings["eval_step"], settings.pop("epochs"))
    # Metrics come with it or without.
    errors = plain.get("standard_error")
    return {**settings, "standard_error": errors, "device": device, "data": data}


def _marker(model_file: str, settings: Mapping[str, Any]) -> str:
    """The path of the state beside a model file, whatever the data."""
    return f"{model_file}.{results.digest({**settings, 'data': None})[:12]}.resume"


def _markers(model_file: str) -> list[str]:
    return glob.glob(glob.escape(model_file) + SUFFIX)


def unfinished_runs(config: Config, since: float = 0.0, any_settings: bool = False) -> list[str]:
    """Look up the model files of unfinished runs in ``checkpoint_dir``, newest first.

    They have the config's model, and its settings unless ``any_settings`` is set, whatever their
    data. They were started, resumed or written ``since`` then, in seconds since 1970.
    """
    names = f"{config['model']}-*"
    settings = _settings(plain_config(config), config["device"].type, None)
    names = names + SUFFIX if any_settings else _marker(names, settings)
    paths = glob.glob(os.path.join(glob.escape(config["checkpoint_dir"]), names))
    changed = []
    for path in paths:
        # The run may end meanwhile.
        with contextlib.suppress(FileNotFoundError):
            changed.append((os.path.getmtime(path), path))
    return [_model_file(path) for time, path in sorted(changed, reverse=True) if time >= since]


def _model_file(path: str) -> str:
    return re.sub(r"\.[0-9a-f]{12}\.resume$", "", path)


def state_of(path: str) -> State | None:
    """Return where a run can be resumed, by its model file or the state beside it; None if they are
    missing, corrupt, or not of one run."""
    model_file = _model_file(path)
    best = _read(model_file, model_file)
    beside = (_read(model_file, each) for each in _markers(model_file))
    last = next(filter(None, beside), None)
    if last is None:
        return best
    best_epoch = best.epoch if best and best.fits(last.settings) else -1
    if best_epoch >= last.epoch:
        return best
    return last if last.best_epoch in (-1, best_epoch) else None


def _read(model_file: str, path: str) -> State | None:
    # The file is missing or corrupt, or has no state or another kind of one.
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OSError):
        content = load_checkpoint(path)
        training = content["training"]
        settings = _settings(content["config"], training["device"], training["data"][:12])
        epochs = content["epoch"], training["progress"]["best_epoch"]
        return State(model_file, path, *epochs, settings)
    return None


def discard(model_file: str) -> None:
    """Remove the state of a run that has ended; its best model stays."""
    if _kept:
        _kept[-1].append(model_file)
        return
    # Where the folder has gone there is nothing to lock, nor to remove.
    if _markers(model_file) and results.take(model_file):
        _unlink_markers(model_file)
    results.release(model_file)


def _unlink_markers(model_file: str) -> None:
    for path in _markers(model_file):
        os.unlink(path)


@contextlib.contextmanager
def states_kept(discarded_after: bool = True) -> Iterator[list[str]]:
    """Keep the states of runs that end within the block, whose model files are listed.

    Whoever shows or writes their metrics does so within it: should that fail, the run can still be
    resumed. If it succeeds, they are ``discarded_after`` it.
    """
    _kept.append([])
    try:
        yield _kept[-1]
    finally:
        ended = _kept.pop()
    for model_file in ended if discarded_after else []:
        discard(model_file)


class Resumption:
    """Keeps the state of a :class:`~recbole_evcf.trainer.trainer.VAETrainer`, which trains in a
    block of this context, on the disk.

    Args:
        trainer: before its training.
        loaders: of training and validation; the latter may be None.

    Attributes:
        seconds_before: how long the run had been training when it was resumed.
        trained: whether training has ended.
    """

    trained = False
    seconds_before = 0.0

    def __init__(self, trainer: Trainer, loaders: Sequence):
        self._trainer, self._loaders = trainer, loaders
        self._data = digest_of_loaders(loaders)[:12]
        config = trainer.config
        self._settings = _settings(plain_config(config), config["device"].type, self._data)
        self._start = monotonic()

    def start(self) -> bool:
        """Restore the state of the run that ``resume`` asks for; return whether there is one.

        Of several processes the first looks for it, and the others need not have its files.

        Raises:
            ValueError: the run that it names cannot be resumed with these settings and data.
        """
        trainer, found = self._trainer, None
        if distributed.is_first():
            wanted = trainer.config["resume"]
            state = self._found(wanted) if wanted else None
            model_file = state.model_file if state else trainer.saved_model_file
            path = _marker(model_file, self._settings)
            remove_leftovers(model_file)
            for marker in _markers(model_file):
                remove_leftovers(marker)
                os.replace(marker, path)
            if state:
                Path(path).touch()
                found = [model_file, model_file if state.file == model_file else path, state.epoch]
            else:
                results.take(model_file)
                Path(path).write_bytes(b"")
        found = distributed.from_first(found)
        if found is None:
            return False
        model_file, file, epoch = found
        with distributed.file_of_first(file) as path:
            self._restore(path, model_file)
        trainer.saved_model_file = model_file
        trainer.logger.info(f"Resuming after epoch {epoch} from {file}")
        return True

    def _found(self, wanted: bool | str) -> State | None:
        """Lock the named run, or the newest that fits: ``wanted`` is a path or True.

        Where there is none, raise ValueError if it was named, and log why otherwise.
        """
        config, logger = self._trainer.config, self._trainer.logger
        if isinstance(wanted, str):
            if not os.path.isfile(wanted):
                raise ValueError(f"There is no file {wanted} to resume from.")
            return self._locked(wanted, named=True)
        reason = f"There is no unfinished run of these settings in {config['checkpoint_dir']}."
        for path in unfinished_runs(config) or unfinished_runs(config, any_settings=True)[:1]:
            try:
                return self._locked(path, named=False)
            except ValueError as error:
                reason = str(error)
        logger.warning(f"{reason[:-1]}: starting from scratch.")
        return None

    def _locked(self, path: str, named: bool) -> State:
        """Lock a run; raise a ValueError, and leave it, if it cannot be resumed."""
        model_file = _model_file(path)
        held = results.holds(model_file)
        if not results.take(model_file):
            raise ValueError(f"{model_file} is of a run that is still being trained.")
        try:
            # One that was looked up may have ended before it was locked.
            state = state_of(path) if named or _markers(model_file) else None
            if state is None:
                raise ValueError(
                    f"{path} holds no state to resume from, as a run with resumable: True writes."
                )
            self._check(state, named)
        except ValueError:
            if not held:
                results.release(model_file)
            raise
        return state

    def _check(self, state: State, named: bool) -> None:
        trainer, path, old, now = self._trainer, state.model_file, state.settings, self._settings
        keys = differences(old, now)
        changed = ", ".join(f"{key} {old.get(key)!r} (now {now.get(key)!r})" for key in keys)
        # The name is decisive where a run was resumed with a changed setting.
        if not state.fits(now) or not (named or os.path.exists(_marker(path, now))):
            raise ValueError(f"{path} is of a run with other settings or data: {changed}.")
        if state.epoch >= trainer.epochs:
            raise ValueError(
                f"{path} is of epoch {state.epoch}, counted from 0: epochs must be more than that, "
                f"not {trainer.epochs}."
            )
        if changed:
            trainer.logger.warning(f"Resuming with other settings: {changed}.")

    def _restore(self, path: str, model_file: str) -> None:
        trainer = self._trainer
        try:
            state = load_checkpoint(path, trainer.device)
            weights = state["state_dict"]
            if fixed := trainer.model.state_dict().keys() - weights.keys():
                with distributed.file_of_first(model_file) as best:
                    others = load_checkpoint(best, trainer.device, {"optimizer"})["state_dict"]
                weights |= {name: others[name] for name in fixed}
            trainer.model.load_state_dict(weights)
            trainer.model.load_other_parameter(state.get("other_parameter"))
            trainer.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} does not fit the model: it is corrupt.") from error
        for group in trainer.optimizer.param_groups:
            group["lr"], group["weight_decay"] = trainer.learning_rate, trainer.weight_decay
        trainer.start_epoch = state["epoch"] + 1
        training = state["training"]
        for name in trainer.PROGRESS:
            setattr(trainer, name, from_plain(training["progress"][name]))
        self.seconds_before = training["seconds"]
        set_generator_states(training["generators"], self._loaders)

    def state(self) -> dict[str, Any]:
        """Return what a model file needs, beside RecBole's keys, for a run to resume from it."""
        trainer = self._trainer
        return {
            "progress": to_plain({name: getattr(trainer, name) for name in trainer.PROGRESS}),
            "seconds": self.seconds_before + monotonic() - self._start,
            "generators": generator_states(self._loaders),
            "data": self._data,
            "device": trainer.device.type,
        }

    def after_epoch(self, epoch: int) -> None:
        """Write the state of an epoch, unless the file of the best model holds it already."""
        trainer = self._trainer
        if trainer.best_epoch != epoch:
            path = _marker(trainer.saved_model_file, self._settings)
            trainer._save_checkpoint(epoch, verbose=False, saved_model_file=path)

    def after_evaluation(self, eval_data: Any) -> None:
        """Remove the state once the run is tested, on a dataloader or None: it has ended."""
        phase = getattr(getattr(eval_data, "_sampler", None), "phase", None)
        validated = eval_data and eval_data is self._loaders[1] and phase != "test"
        if self.trained and not validated and distributed.is_first():
            discard(self._trainer.saved_model_file)

    def __enter__(self) -> Resumption:
        return self

    def __exit__(self, stopped_by: type | None, *_: object) -> None:
        self.trained = not stopped_by
        path = self._trainer.saved_model_file
        if stopped_by and distributed.is_first() and results.holds(path):
            # Others may resume it; if it wrote nothing, it leaves nothing.
            if not os.path.exists(path) and not any(map(os.path.getsize, _markers(path))):
                _unlink_markers(path)
            results.release(path)
