"""Short ways to RecBole's objects for a test."""

from __future__ import annotations

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed


def build(model: str, dataset: str, settings: dict):
    """Config, (train, valid, test) dataloaders, model and trainer as ``run_recbole`` makes them."""
    config = Config(model=model, dataset=dataset, config_dict=dict(settings))
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    network = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    return config, loaders, network, trainer
