"""How a run writes down its state after epochs, and goes on from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import monotonic

from recbole_evcf import processes
from recbole_evcf.data.digest import digest_of_loaders
from recbole_evcf.trainer.checkpoint import from_plain, load_checkpoint, to_plain
from recbole_evcf.trainer.effective_settings import differences
from recbole_evcf.trainer.generators import generator_states, set_generator_states
from recbole_evcf.trainer.state_files import (
    CHANGEABLE,
    SUFFIX,
    Place,
    discard,
    newest_place,
    place_of,
    reserve,
    settings_of_run,
    unfinished_places,
)
from recbole_evcf.whole_file import remove_leftovers

__all__ = ["Resumption"]

# Training takes so many times as long as the writing of its state at least.
SHARE = 20


class Resumption:
    """Keeps the state of a :class:`~recbole_evcf.trainer.trainer.VAETrainer` on the disk.

    Args:
        trainer: before its training.
        loaders: of training and validation; the latter may be None.

    Attributes:
        seconds_before: how long the run had been training when it went on.
    """

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
        place = self._found() if processes.is_first() else None
        found = processes.from_first(place and [place.model_file, place.file, place.epoch])
        if found is None:
            reserved = reserve(trainer.saved_model_file) if processes.is_first() else None
            trainer.saved_model_file = processes.from_first(reserved)
            return False
        model_file, file, epoch = found
        with processes.file_of_first(file) as path:
            self._put_back(model_file, path)
        trainer.logger.info(f"Going on after epoch {epoch} from {file}")
        return True

    def _found(self) -> Place | None:
        wanted = self._trainer.config["resume"]
        place = self._wanted(wanted) if wanted else None
        if place is not None and place.data != self._data:
            raise ValueError(
                f"{place.file} was made with other data than those of "
                f"{self._trainer.config['dataset']} now: put those back, or start anew without "
                "resume."
            )
        return place

    def _wanted(self, wanted: bool | str) -> Place | None:
        if wanted is not True:
            return self._named(wanted)
        place = newest_place(self._trainer.config)
        if place is None:
            self._trainer.logger.warning(self._why_anew())
        return place

    def _named(self, path: str) -> Place:
        trainer, config = self._trainer, self._trainer.config
        if not os.path.isfile(path):
            raise ValueError(f"There is no file {path} to resume from.")
        place = place_of(path[: -len(SUFFIX)] if path.endswith(SUFFIX) else path)
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
        if place.epoch >= trainer.epochs:
            raise ValueError(
                f"{path} is of epoch {place.epoch}, counted from 0: epochs must be more than that, "
                f"not {trainer.epochs}."
            )
        if other:
            trainer.logger.warning(f"Going on with other settings: {_list(other, place, config)}.")
        return place

    def _why_anew(self) -> str:
        config = self._trainer.config
        text = f"No unfinished run of these settings in {config['checkpoint_dir']}: starting anew."
        for place in unfinished_places(config)[:1]:
            other = differences(place.settings, settings_of_run(config))
            if other:
                return (
                    f"{text} {place.model_file} has other settings: {_list(other, place, config)}."
                )
        return text

    def _put_back(self, model_file: str, path: str) -> None:
        trainer = self._trainer
        if processes.is_first():
            remove_leftovers(model_file)
            remove_leftovers(model_file + SUFFIX)
        try:
            trainer.resume_checkpoint(path)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} does not fit the model: it is damaged.") from error
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
        if trainer.best_epoch == epoch or monotonic() < self._due or not processes.is_first():
            return
        start = monotonic()
        path = trainer.saved_model_file + SUFFIX
        trainer._save_checkpoint(epoch, verbose=False, saved_model_file=path)
        end = monotonic()
        self._due = end + SHARE * (end - start)

    def end(self) -> None:
        """The run has ended: its state is of no use any more."""
        if processes.is_first():
            discard(self._trainer.saved_model_file)


def _list(keys: Sequence[str], before: Place, config) -> str:
    now = settings_of_run(config)
    return ", ".join(f"{key} {before.settings.get(key)!r} (now {now.get(key)!r})" for key in keys)
