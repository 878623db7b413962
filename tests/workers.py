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
from recbole_evcf.model import vae


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
    dataloader.SCORE_BYTES = 4 * 41 * 7
    keys = {"local_rank": rank, **distributed.layout(count, count, 0, "127.0.0.1", port)}
    distributed.join(keys, torch.device("cpu"))
    results = {}
    for name, run in runs.items():
        # The others as between machines.
        distributed._group.on_one_machine = "levels" not in name
        results[name] = train(*run)
    distributed.leave()
    return results


class _StoppedError(Exception):
    """The end of a run in its midst."""


def train(model: str, settings: dict, dtype: str) -> dict:
    """Losses, weights, metrics, and which users were trained on and ranked for, in order.

    With ``stop_after`` among the settings, of a run that was stopped after that epoch and resumed;
    or none of these, if it is not to be: ``resume`` is False.
    """
    settings = dict(settings)
    stop_after = settings.pop("stop_after", None)
    if stop_after is not None:

        def stop(epoch, score):
            if epoch > stop_after:
                raise _StoppedError

        with contextlib.suppress(_StoppedError):
            _trained(model, {**settings, "resumable": True}, dtype, stop)
        if not settings.setdefault("resume", True):
            return {}
    return _trained(model, settings, dtype)


def _trained(model: str, settings: dict, dtype: str, callback=None) -> dict:
    with (
        _default_dtype(getattr(torch, dtype)),
        _fake_wandb() as logged,
        mock.patch.object(vae, "clamp_and_drop", wraps=vae.clamp_and_drop) as clamp_and_drop,
        _sent_bytes() as sent,
    ):
        config = Config(model, "tiny", config_dict=dict(settings))
        init_seed(config["seed"], config["reproducibility"])
        train_data, valid_data, test_data = data_preparation(config, create_dataset(config))
        init_seed(config["seed"], config["reproducibility"])
        network = get_model(model)(config, train_data._dataset)
        trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
        # As RecBole sets it on a GPU.
        trainer.enable_scaler = config["enable_scaler"]
        trained, ranked, before = _note(network, sent)
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
        # Of the first step; between epochs more is exchanged.
        "sent": before[1] - before[0],
        "encoded": {len(call.args[0]) for call in clamp_and_drop.call_args_list},
    }


@contextlib.contextmanager
def _sent_bytes():
    """What this process has sent, if the others are the only ones that it sends anything to, and of
    sums once a part to be added up and once the sum of a part; in a list of one number."""
    sent = [0.0]

    def counted(name, argument, share):
        original = getattr(dist, name)

        def call(*tensors):
            others = dist.get_world_size() - 1
            sent[0] += tensors[argument].nbytes * share(others)
            return original(*tensors)

        return mock.patch.object(dist, name, call)

    with (
        counted("all_reduce", 0, lambda others: 2 * others / (others + 1)),
        counted("all_to_all_single", 1, lambda others: others / (others + 1)),
        counted("all_gather", 1, lambda others: others),
    ):
        yield sent


def _note(network, sent) -> tuple[list, list, list]:
    trained, ranked, before = [], [], []
    terms, scores = network.loss_terms, network.full_sort_predict

    def loss_terms(interaction, part=None):
        before.append(sent[0])
        users = interaction["user_id"]
        trained.append((users if part is None else users[part.rows]).tolist())
        return terms(interaction) if part is None else terms(interaction, part)

    def full_sort_predict(interaction):
        ranked.extend(interaction["user_id"].tolist())
        return scores(interaction)

    network.loss_terms, network.full_sort_predict = loss_terms, full_sort_predict
    return trained, ranked, before


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
