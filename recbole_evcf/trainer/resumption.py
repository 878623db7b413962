"""A run's state is written after epochs, and the run is resumed from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import monotonic
from typing import Any

from recbole.trainer import Trainer

from recbole_evcf import distributed, results
from recbole_evcf.config.keys import differences
from recbole_evcf.data.identity import digest_of_loaders
from recbole_evcf.trainer import state_files
from recbole_evcf.trainer.checkpoint import from_plain, load_checkpoint, to_plain
from recbole_evcf.trainer.generators import generator_states, set_generator_states
from recbole_evcf.trainer.state_files import State

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
    seconds_before = 0.0

    def __init__(self, trainer: Trainer, loaders: Sequence):
        self._trainer, self._loaders = trainer, loaders
        self._settings = state_files.settings_of_run(trainer.config)
        self._data = digest_of_loaders(loaders)
        self._start, self._due = monotonic(), 0.0

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
            wanted = trainer.config["resume"]
            state = self._newest() if wanted is True else self._named(wanted) if wanted else None
            if state:
                found = [state.model_file, state.file, state.epoch]
            else:
                results.take(trainer.saved_model_file)
                state_files.mark_unfinished(trainer.saved_model_file, self._settings)
        found = distributed.from_first(found)
        if found is None:
            return False
        model_file, file, epoch = found
        with distributed.file_of_first(file) as path:
            self._restore(model_file, path)
        trainer.logger.info(f"Resuming after epoch {epoch} from {file}")
        return True

    def _newest(self) -> State | None:
        """Look up an unfinished run of these settings and data; log why there is none."""
        config, busy, of_other_data = self._trainer.config, None, None
        for state in state_files.find_states(config):
            if state.data != self._data:
                of_other_data = of_other_data or state
            elif not results.take(state.model_file):
                busy = busy or state
            elif taken := state_files.take(state, self._settings):
                return taken
        if of_other_data and not busy:
            raise self._other_data(of_other_data.file)
        if busy:
            text = f"{busy.model_file} is of a run that is still being trained: starting from "
            text += "scratch beside it."
        else:
            text = f"No unfinished run of these settings in {config['checkpoint_dir']}: starting "
            text += "from scratch."
            newest = state_files.newest_state(config)
            other = newest and self._differences(newest)
            if newest and other:
                text += f" {newest.model_file} has other settings: {other}."
        self._trainer.logger.warning(text)
        return None

    def _named(self, path: str) -> State:
        """Check that the run of a file can be resumed, and take it."""
        trainer, taken = self._trainer, None
        if not os.path.isfile(path):
            raise ValueError(f"There is no file {path} to resume from.")
        state = state_files.state_of(state_files.model_file_of(path))
        if state:
            other = self._differences(state)
            if not state_files.fits(state.settings, self._settings):
                raise ValueError(f"{path} is of a run with other settings: {other}.")
            if state.data != self._data:
                raise self._other_data(path)
            if state.epoch >= trainer.epochs:
                raise ValueError(
                    f"{path} is of epoch {state.epoch}, counted from 0: epochs must be more than "
                    f"that, not {trainer.epochs}."
                )
            if not results.take(state.model_file):
                raise ValueError(
                    f"{path} is of a run that is still being trained: wait for it, or stop it."
                )
            taken = state_files.take(state, self._settings, ended_too=True)
            if taken and other:
                trainer.logger.warning(f"Resuming with other settings: {other}.")
        if taken is None:
            raise ValueError(
                f"{path} holds no state to resume from: name a file that a run with resumable: "
                "True has written."
            )
        return taken

    def _differences(self, state: State) -> str:
        old, now = state.settings, self._settings
        keys = differences(old, now)
        return ", ".join(f"{key} {old.get(key)!r} (now {now.get(key)!r})" for key in keys)

    def _other_data(self, path: str) -> ValueError:
        return ValueError(
            f"{path} was trained on other data than those of {self._trainer.config['dataset']} "
            "now: restore those, or start from scratch without resume."
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
        """Write the state of an epoch, unless that would take too much of the time.

        Where the model of the epoch was saved as the best, its file holds the state already.
        """
        trainer = self._trainer
        if trainer.best_epoch == epoch or monotonic() < self._due or not distributed.is_first():
            return
        start = monotonic()
        path = state_files.state_file(trainer.saved_model_file, self._settings)
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
            state_files.discard(self._trainer.saved_model_file)

    def leave(self) -> None:
        """Let another process resume the run, which was stopped."""
        if distributed.is_first():
            state_files.leave(self._trainer.saved_model_file)
