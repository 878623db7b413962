"""One trial of a search: a model is trained and measured on validation users, never on test users.

RecBole's ``objective_function`` evaluates every trial on the test users too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer, init_logger, init_seed

from recbole_evcf.utils.packages import CONSOLE
from recbole_evcf.utils.text import one_line

__all__ = ["Task", "attempt_trial", "evaluate_on_test_users", "load_data"]

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """What all trials of a search share; it can be pickled.

    Args:
        model: name of the model.
        dataset: name of the data set.
        settings: keys of the config that the user gave.
    """

    model: str
    dataset: str
    settings: dict[str, Any]


class _TrialConfig(Config):
    """Return a ``Config`` of the settings, ignoring this process's command line."""

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}


def load_data(task: Task) -> None:
    """Read and split the data once, to find errors before any training.

    Raises:
        ValueError: the data are missing or malformed, or nothing is left for validation or testing.
    """
    config = _config(task, {}, task.settings.get("checkpoint_dir"))
    _, valid_data, test_data = _loaders(config)
    uses = ("validation, by which the best trial is chosen", "testing the best trial")
    for data, use in zip((valid_data, test_data), uses):
        if not data:
            split = config["eval_args"]["split"]
            raise ValueError(f"eval_args: {split} leaves nothing for {use}.")


def attempt_trial(
    task: Task,
    params: Params,
    model_file: str,
    on_validation: Callable[[dict[str, Any]], None] = lambda outcome: None,
) -> dict[str, Any]:
    """Train with a trial's parameters; the same ones give the same values.

    Args:
        task: what the trials share.
        params: the trial's own keys of the config.
        model_file: path for the model of the best epoch.
        on_validation: is called with the outcome so far after each validation.

    Returns:
        ``status``, ``finished`` or ``failed``, and then the ``reason``; otherwise ``score`` (best
        value of ``valid_metric``), ``valid`` (every metric of that epoch), ``best_epoch`` and
        ``epochs`` (how many were trained), counted from 1, ``history`` (pairs of epoch and value
        of ``valid_metric``) and ``seconds``.
    """
    try:
        return {"status": "finished", **_train(task, params, model_file, on_validation)}
    # A model may raise anything, including out of memory.
    except Exception as error:
        logging.getLogger().exception("The trial failed.")
        return {"status": "failed", "reason": f"{type(error).__name__}: {one_line(error)}"}


def _train(
    task: Task, params: Params, model_file: str, on_validation: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    start = time.perf_counter()
    os.makedirs(os.path.dirname(model_file), exist_ok=True)
    config = _config(task, params, os.path.dirname(model_file))
    (train_data, valid_data, _), trainer = _prepare(config, model_file)
    history: list[tuple[int, float]] = []

    def outcome() -> dict[str, Any]:
        score = (max if config["valid_metric_bigger"] else min)(value for _, value in history)
        return {
            "score": score,
            "valid": {name: float(value) for name, value in trainer.best_valid_result.items()},
            # As RecBole chooses: the last of the best.
            "best_epoch": max(epoch for epoch, value in history if value == score),
            "epochs": history[-1][0],
            "history": list(history),
            "seconds": round(time.perf_counter() - start, 3),
        }

    def after_validation(epoch: int, value: float) -> None:
        history.append((epoch + 1, float(value)))
        on_validation(outcome())

    try:
        trainer.fit(train_data, valid_data, show_progress=False, callback_fn=after_validation)
    finally:
        trainer.tensorboard.close()
    if not history:
        raise ValueError("no epoch was validated (see eval_step and epochs).")
    return outcome()


def evaluate_on_test_users(task: Task, params: Params, model_file: str) -> dict[str, float]:
    """Return a model's metrics on the test users; arguments as of :func:`attempt_trial`."""
    config = _config(task, params, os.path.dirname(model_file))
    (train_data, _, test_data), trainer = _prepare(config, model_file)
    try:
        # Some metrics count by it; fit() would set it.
        trainer.eval_collector.data_collect(train_data)
        result = trainer.evaluate(test_data, load_best_model=True, model_file=model_file)
    finally:
        trainer.tensorboard.close()
    return {name: float(value) for name, value in result.items()}


def _config(task: Task, params: Params, folder: str | None) -> Config:
    settings = {**task.settings, **params, **({"checkpoint_dir": folder} if folder else {})}
    config = _TrialConfig(task.model, task.dataset, config_dict=settings)
    # One log file per trial, as in RecBole's tuning; the terminal shows the search.
    init_logger(config)
    for handler in logging.getLogger().handlers:
        if handler.name == CONSOLE:
            handler.setLevel(logging.CRITICAL)
    return config


def _prepare(config: Config, model_file: str) -> tuple[tuple[Any, Any, Any], Trainer]:
    """Return the training, validation and test dataloaders, and a trainer for ``model_file``."""
    loaders = _loaders(config)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.saved_model_file = model_file
    return loaders, trainer


def _loaders(config: Config) -> tuple[Any, Any, Any]:
    init_seed(config["seed"], config["reproducibility"])
    return data_preparation(config, create_dataset(config))
