"""A run's state is written after epochs, and the run is resumed from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import monotonic
from typing import Any

from recbole.trainer import Trainer

from recbole_evcf import distributed, results
from recbole_evcf.data.digest import digest_of_loaders
from recbole_evcf.trainer.checkpoint import from_plain, load_checkpoint, to_plain
from recbole_evcf.trainer.effective_settings import differences
from recbole_evcf.trainer.generators import generator_states, set_generator_states
from recbole_evcf.trainer.state_files import (
    CHANGEABLE,
    State,
    discard,
    find_states,
    leave,
    mark_unfinished,
    model_file_of,
    newest_state,
    settings_of_run,
    state_file,
    state_of,
    take,
)

__all__ = ["Resumption"]

# Training takes at least so many times as long as writing its state.
SHARE = 20


class Resumption:
    """Keeps the state of a :class:`~recbole_evcf.trainer.trainer.VAETrainer` on the disk.

    Args:
        trainer: before its training.
        loaders: of training and validation; the latter may be None.

    Attributes:
        seconds_before: how long the run had been training when it was resumed.
        trained: whether training has ended.
    """

    trained = False

    def __init__(self, trainer: Trainer, loaders: Sequence):
        self._trainer, self._loaders = trainer, loaders
        self._settings = settings_of_run(trainer.config)
        self._data = digest_of_loaders(loaders)
        self._start = monotonic()
        self.seconds_before = 0.0
        self._due = 0.0

    def start(self) -> bool:
        """Restore the state of the run that the key ``resume`` asks for, if there is one.

        Of several processes the first looks for it, and the others need not have its files.

        Returns:
            whether there was.

        Raises:
            ValueError: the state is of other data, or the named one is of other settings.
        """
        trainer, found = self._trainer, None
        if distributed.is_first():
            state = self._found()
            if state:
                found = [state.model_file, state.file, state.epoch]
            else:
                results.take(trainer.saved_model_file)
                mark_unfinished(trainer.saved_model_file, self._settings)
        found = distributed.from_first(found)
        if found is None:
            return False
        model_file, file, epoch = found
        with distributed.file_of_first(file) as path:
            self._restore(model_file, path)
        trainer.logger.info(f"Resuming after epoch {epoch} from {file}")
        return True

    def _found(self) -> State | None:
        wanted = self._trainer.config["resume"]
        if not wanted:
            return None
        return self._newest() if wanted is True else self._named(wanted)

    def _newest(self) -> State | None:
        busy = of_other_data = None
        for state in find_states(self._trainer.config):
            if state.data != self._data:
                of_other_data = of_other_data or state
            elif not results.take(state.model_file):
                busy = busy or state
            elif taken := take(state, self._settings):
                return taken
        if of_other_data and not busy:
            self._check_data(of_other_data)
        self._trainer.logger.warning(self._why_from_scratch(busy))
        return None

    def _check_data(self, state: State) -> None:
        if state.data != self._data:
            raise ValueError(
                f"{state.file} was trained on other data than those of "
                f"{self._trainer.config['dataset']} now: restore those, or start from scratch "
                "without resume."
            )

    def _named(self, path: str) -> State:
        trainer, found = self._trainer, None
        if not os.path.isfile(path):
            raise ValueError(f"There is no file {path} to resume from.")
        state = state_of(model_file_of(path))
        if state:
            other = differences(state.settings, self._settings)
            if set(other) - CHANGEABLE:
                raise ValueError(
                    f"{path} is of a run with other settings: {self._list(other, state)}."
                )
            self._check_data(state)
            if state.epoch >= trainer.epochs:
                raise ValueError(
                    f"{path} is of epoch {state.epoch}, counted from 0: epochs must be more than "
                    f"that, not {trainer.epochs}."
                )
            if not results.take(state.model_file):
                raise ValueError(
                    f"{path} is of a run that is still being trained: wait for it, or stop it."
                )
            found = take(state, self._settings, ended_too=True)
            if found and other:
                trainer.logger.warning(f"Resuming with other settings: {self._list(other, state)}.")
        if found is None:
            raise ValueError(
                f"{path} holds no state to resume from: name a file that a run with resumable: "
                "True has written."
            )
        return found

    def _why_from_scratch(self, busy: State | None) -> str:
        if busy:
            return (
                f"{busy.model_file} is of a run that is still being trained: starting from scratch "
                "beside it."
            )
        config = self._trainer.config
        text = f"No unfinished run of these settings in {config['checkpoint_dir']}: starting from "
        text += "scratch."
        newest = newest_state(config)
        if newest and (other := differences(newest.settings, self._settings)):
            text += f" {newest.model_file} has other settings: {self._list(other, newest)}."
        return text

    def _list(self, keys: Sequence[str], before: State) -> str:
        now = self._settings
        return ", ".join(
            f"{key} {before.settings.get(key)!r} (now {now.get(key)!r})" for key in keys
        )

    def _restore(self, model_file: str, path: str) -> None:
        trainer = self._trainer
        try:
            trainer.resume_checkpoint(path)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{path} does not fit the model: it is corrupt.") from error
        finally:
            # RecBole would write to the file that it has read.
            trainer.saved_model_file = model_file
        for group in trainer.optimizer.param_groups:
            group["lr"], group["weight_decay"] = trainer.learning_rate, trainer.weight_decay
        training = load_checkpoint(path, mapped=True)["training"]
        for name, value in from_plain(training["progress"]).items():
            setattr(trainer, name, value)
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
        """Write the state of an epoch, unless that would take too much of the time.

        Where the model of the epoch was saved as the best, its file holds the state already.
        """
        trainer = self._trainer
        if trainer.best_epoch == epoch or monotonic() < self._due or not distributed.is_first():
            return
        start = monotonic()
        path = state_file(trainer.saved_model_file, self._settings)
        trainer._save_checkpoint(epoch, verbose=False, saved_model_file=path)
        end = monotonic()
        self._due = end + SHARE * (end - start)

    def after_evaluation(self, eval_data: Any) -> None:
        """Remove the state once the run is trained and tested: it has ended.

        Args:
            eval_data: RecBole's dataloader; None for an empty part of the split.
        """
        phase = getattr(getattr(eval_data, "_sampler", None), "phase", None)
        validated = eval_data and eval_data is self._loaders[1] and phase != "test"
        if self.trained and not validated and distributed.is_first():
            discard(self._trainer.saved_model_file)

    def leave(self) -> None:
        """Let another process resume the run, which was stopped."""
        if distributed.is_first():
            leave(self._trainer.saved_model_file)
