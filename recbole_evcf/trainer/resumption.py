"""How a run writes down its state after epochs, and goes on from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from time import monotonic

from recbole_evcf import distributed, results
from recbole_evcf.data.digest import digest_of_loaders
from recbole_evcf.trainer.checkpoint import from_plain, load_checkpoint, to_plain
from recbole_evcf.trainer.effective_settings import differences
from recbole_evcf.trainer.generators import generator_states, set_generator_states
from recbole_evcf.trainer.state_files import (
    CHANGEABLE,
    SUFFIX,
    Place,
    discard,
    fitting_places,
    leave,
    mark_unfinished,
    model_file_of,
    place_of,
    reserve,
    settings_of_run,
    take,
    unfinished_places,
)
from recbole_evcf.utils.files import remove_leftovers

__all__ = ["Resumption", "left_when_stopped"]

# Training takes so many times as long as the writing of its state at least.
SHARE = 20


class Resumption:
    """Keeps the state of a :class:`~recbole_evcf.trainer.trainer.VAETrainer` on the disk.

    Args:
        trainer: before its training.
        loaders: of training and validation; the latter may be None.

    Attributes:
        seconds_before: how long the run had been training when it went on.
        trained: whether training has ended.
    """

    trained = False

    def __init__(self, trainer, loaders: Sequence):
        self._trainer, self._loaders = trainer, loaders
        self._data = digest_of_loaders(loaders)
        self._start = monotonic()
        self.seconds_before = 0.0
        self._due = 0.0

    def start(self) -> bool:
        """Put the state of the run back that the key ``resume`` asks for, if there is one.

        Of several processes the first looks for it, and the others need not have its files.

        Returns:
            whether there was.

        Raises:
            ValueError: the state is of other data, or the named one is of other settings.
        """
        trainer = self._trainer
        place = self._found() if distributed.is_first() else None
        found = distributed.from_first(place and [place.model_file, place.file, place.epoch])
        if found is None:
            reserved = reserve(trainer.saved_model_file) if distributed.is_first() else None
            trainer.saved_model_file = distributed.from_first(reserved)
            return False
        model_file, file, epoch = found
        with distributed.file_of_first(file) as path:
            self._put_back(model_file, path)
        trainer.logger.info(f"Going on after epoch {epoch} from {file}")
        return True

    def _found(self) -> Place | None:
        wanted = self._trainer.config["resume"]
        if not wanted:
            return None
        return self._newest() if wanted is True else self._named(wanted)

    def _newest(self) -> Place | None:
        busy = of_other_data = None
        for place in fitting_places(self._trainer.config):
            if place.data != self._data:
                of_other_data = of_other_data or place
            elif taken := take(place):
                return taken
            else:
                busy = busy or place
        if of_other_data and not busy:
            self._check_data(of_other_data)
        self._trainer.logger.warning(self._why_anew(busy))
        return None

    def _check_data(self, place: Place) -> None:
        if place.data != self._data:
            raise ValueError(
                f"{place.file} was made with other data than those of "
                f"{self._trainer.config['dataset']} now: put those back, or start anew without "
                "resume."
            )

    def _named(self, path: str) -> Place:
        trainer, config = self._trainer, self._trainer.config
        if not os.path.isfile(path):
            raise ValueError(f"There is no file {path} to resume from.")
        place = place_of(model_file_of(path))
        if place is None:
            raise ValueError(
                f"{path} holds no state to go on from: name a file that a run with resumable: "
                "True has written."
            )
        other = differences(place.settings, settings_of_run(config))
        if set(other) - CHANGEABLE:
            raise ValueError(
                f"{path} is of a run with other settings: {_list(other, place, config)}."
            )
        self._check_data(place)
        if place.epoch >= trainer.epochs:
            raise ValueError(
                f"{path} is of epoch {place.epoch}, counted from 0: epochs must be more than that, "
                f"not {trainer.epochs}."
            )
        if not results.take(place.model_file):
            raise ValueError(f"{path} is of a run that is still going on: wait for it, or stop it.")
        if other:
            trainer.logger.warning(f"Going on with other settings: {_list(other, place, config)}.")
        return place

    def _why_anew(self, busy: Place | None) -> str:
        if busy:
            return f"{busy.model_file} is of a run that is still going on: starting anew beside it."
        config = self._trainer.config
        text = f"No unfinished run of these settings in {config['checkpoint_dir']}: starting anew."
        newest = next(unfinished_places(config), None)
        other = newest and differences(newest.settings, settings_of_run(config))
        if other:
            text += f" {newest.model_file} has other settings: {_list(other, newest, config)}."
        return text

    def _put_back(self, model_file: str, path: str) -> None:
        trainer = self._trainer
        if distributed.is_first():
            remove_leftovers(model_file)
            remove_leftovers(model_file + SUFFIX)
            mark_unfinished(model_file)
        try:
            trainer.resume_checkpoint(path)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} does not fit the model: it is damaged.") from error
        finally:
            # RecBole would go on in the file that it has read.
            trainer.saved_model_file = model_file
        for group in trainer.optimizer.param_groups:
            group["lr"], group["weight_decay"] = trainer.learning_rate, trainer.weight_decay
        training = load_checkpoint(path, "cpu", mapped=True)["training"]
        vars(trainer).update(from_plain(training["progress"]))
        self.seconds_before = training["seconds"]
        set_generator_states(training["generators"], self._loaders)

    def state(self) -> dict:
        """What a model file needs beside RecBole's keys, for a run to go on from it."""
        trainer = self._trainer
        return {
            "progress": to_plain({name: getattr(trainer, name) for name in trainer.PROGRESS}),
            "seconds": self.seconds_before + monotonic() - self._start,
            "generators": generator_states(self._loaders),
            "data": self._data,
            "device": trainer.device.type,
        }

    def after_epoch(self, epoch: int) -> None:
        """Write the state of an epoch down, unless that would take too much of the time.

        Where the model of the epoch was saved as the best, its file holds the state already.
        """
        trainer = self._trainer
        if trainer.best_epoch == epoch or monotonic() < self._due or not distributed.is_first():
            return
        start = monotonic()
        path = trainer.saved_model_file + SUFFIX
        trainer._save_checkpoint(epoch, verbose=False, saved_model_file=path)
        end = monotonic()
        self._due = end + SHARE * (end - start)

    def after_evaluation(self, eval_data) -> None:
        """Once it is trained and measured on other data than those of validation, the run has
        ended: its state is of no use any more.

        Args:
            eval_data: RecBole's dataloader; of an empty part of the split there is none.
        """
        phase = getattr(getattr(eval_data, "_sampler", None), "phase", None)
        validated = eval_data and eval_data is self._loaders[1] and phase != "test"
        if self.trained and not validated and distributed.is_first():
            discard(self._trainer.saved_model_file)

    def leave(self) -> None:
        """The run was stopped: another process may go on with it."""
        if distributed.is_first():
            leave(self._trainer.saved_model_file)


def left_when_stopped(fit: Callable) -> Callable:
    """Decorates a trainer's ``fit``: whatever stops it, the run is left to who goes on with it."""

    @wraps(fit)
    def wrapper(trainer, *args, **kwargs):
        try:
            return fit(trainer, *args, **kwargs)
        except BaseException:
            if trainer.resumption:
                trainer.resumption.leave()
            raise

    return wrapper


def _list(keys: Sequence[str], before: Place, config) -> str:
    now = settings_of_run(config)
    return ", ".join(f"{key} {before.settings.get(key)!r} (now {now.get(key)!r})" for key in keys)
