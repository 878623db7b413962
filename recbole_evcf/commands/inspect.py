"""``recbole-evcf inspect``: look inside a trained model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from recbole.utils import get_model

from recbole_evcf.commands.options import parse
from recbole_evcf.config.checks import unknown_model
from recbole_evcf.inspection.inspection import Inspection, inspect_model
from recbole_evcf.inspection.output import check_folder, write
from recbole_evcf.model.models import MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.trainer.checkpoint import load_checkpoint

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Inspect a model; arguments and exit code as :func:`recbole_evcf.cli.main`."""
    options, _ = parse("inspect", arguments)
    check_folder(options.output)
    _check_model_file(options.model_file, options.dataset)
    with _quiet():
        inspection = inspect_model(*_loaded(options.model_file))
    files = write(inspection, options.output)
    print(_summary(inspection, options.output, files))
    return 0


def _check_model_file(path: str, dataset: str | None) -> None:
    """What can be told before the data are loaded."""
    settings = load_checkpoint(path, "cpu")["config"]
    if not isinstance(settings, dict) or not {"model", "dataset"} <= settings.keys():
        raise ValueError(f"{path} does not say which model it holds, or of which data set.")
    name, trained_on = str(settings["model"]), settings["dataset"]
    if dataset is not None and dataset != trained_on:
        raise ValueError(
            f"{path} was trained on {trained_on}, not on {dataset}: correct --dataset or leave it "
            "out."
        )
    if not issubclass(_model_class(name), VAERecommender):
        ours = ", ".join(model.__name__ for model in MODELS)
        raise ValueError(
            f"{path} holds the model {name}; inspect reads the latent variables of {ours} "
            "and their subclasses."
        )


def _model_class(name: str) -> type:
    try:
        return get_model(name)
    except Exception:
        raise unknown_model(name) from None


def _loaded(path: str) -> tuple:
    """Config, model and the three dataloaders."""
    config, model, _, *loaders = load_data_and_model(path)
    return (config, model, *loaders)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without RecBole's account of the settings and the data set."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _summary(inspection: Inspection, folder: str, files: list[str]) -> str:
    facts = {
        name: f"{value:.1f}" if isinstance(value, float) else str(value)
        for name, value in inspection.facts.items()
    }
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    report = os.path.join(folder, files[0])
    return "\n".join([*lines, "", f"{report} and {len(files) - 1} CSV files beside it"])
