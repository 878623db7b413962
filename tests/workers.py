"""What each of two processes does in the tests: train as RecBole does, and note what happens."""

import contextlib
import os
import socket
import sys
from unittest import mock

import torch
import torch.distributed as dist
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_evcf import distributed
from recbole_evcf.data import dataloader


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_all(rank: int, count: int, port: int, folder: str, runs: dict) -> dict:
    """Train each of ``runs``, name to (model, settings, dtype), as process ``rank``.

    In a folder of its own, as on a machine of its own; batches of ranking are small.
    """
    os.chdir(folder)
    sys.argv = sys.argv[:1]
    torch.set_num_threads(1)
    dataloader.SCORE_BYTES = 4 * 41 * 7
    keys = {"local_rank": rank, **distributed.layout(count, count, 0, "127.0.0.1", port)}
    distributed.join(keys, torch.device("cpu"))
    results = {name: train(*run) for name, run in runs.items()}
    distributed.leave()
    return results


class _StoppedError(Exception):
    """The end of a run in its midst."""


def train(model: str, settings: dict, dtype: str) -> dict:
    """Losses, weights, metrics, and which users were trained on and ranked for, in order.

    With ``stop_after`` among the settings, of a run that was stopped after that epoch and resumed.
    """
    settings = dict(settings)
    stop_after = settings.pop("stop_after", None)
    if stop_after is not None:

        def stop(epoch, score):
            if epoch > stop_after:
                raise _StoppedError

        with contextlib.suppress(_StoppedError):
            _trained(model, {**settings, "resumable": True}, dtype, stop)
        settings["resume"] = True
    return _trained(model, settings, dtype)


def _trained(model: str, settings: dict, dtype: str, callback=None) -> dict:
    with (
        _default_dtype(getattr(torch, dtype)),
        _fake_wandb() as logged,
        mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as all_reduce,
    ):
        config = Config(model, "tiny", config_dict=dict(settings))
        init_seed(config["seed"], config["reproducibility"])
        train_data, valid_data, test_data = data_preparation(config, create_dataset(config))
        init_seed(config["seed"], config["reproducibility"])
        network = get_model(model)(config, train_data._dataset)
        trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
        trained, ranked = _note(network)
        _, valid = trainer.fit(train_data, valid_data, callback_fn=callback)
        ranked.clear()
        test = trainer.evaluate(test_data)
    return {
        "losses": list(trainer.train_loss_dict.values()),
        "weights": {name: value.numpy() for name, value in network.state_dict().items()},
        "valid": dict(valid),
        "test": dict(test),
        "trained": trained,
        "ranked": list(ranked),
        "training users": train_data.user_list["user_id"].tolist(),
        "held-out users": torch.as_tensor(test_data.uid_list).tolist(),
        "logged to wandb": logged.call_count,
        "sums": all_reduce.call_count,
    }


def _note(network) -> tuple[list, list]:
    trained, ranked = [], []
    terms, scores = network.loss_terms, network.full_sort_predict

    def loss_terms(interaction, part=None):
        users = interaction["user_id"]
        trained.append((users if part is None else users[part.rows]).tolist())
        return terms(interaction) if part is None else terms(interaction, part)

    def full_sort_predict(interaction):
        ranked.extend(interaction["user_id"].tolist())
        return scores(interaction)

    network.loss_terms, network.full_sort_predict = loss_terms, full_sort_predict
    return trained, ranked


@contextlib.contextmanager
def _default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _fake_wandb():
    before, fake = sys.modules.get("wandb"), mock.Mock(spec=["define_metric", "init", "log", "run"])
    fake.run.summary = {}
    sys.modules["wandb"] = fake
    yield fake.log
    del sys.modules["wandb"]
    if before is not None:
        sys.modules["wandb"] = before
