"""What is measured, each a function for worker.py: it builds a case and returns what to repeat.

A specification holds plain values: ``plugin`` (False: RecBole without it, see :func:`_import`),
``model``, ``dataset``, ``config_files``, ``settings`` (RecBole's config keys), and what the
function itself names.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "recbole_evcf"
# What RecBole ranks with in the order of its loaders; enough digits to compare.
EXACT = {"metric_decimal_place": 12}


def training_epoch(spec: dict) -> Callable[[], dict]:
    """One training epoch of a model, by its own trainer and dataloader."""
    parts = _Parts(spec)
    parts.build()
    return lambda: {"loss": parts.train(), "users": len(parts.train_data.user_list)}


def epoch_after_evaluation(spec: dict) -> Callable[[], dict]:
    """As :func:`training_epoch`, once the process has evaluated: what that leaves behind shows."""
    parts = _Parts(spec)
    parts.build()
    parts.evaluate()
    return lambda: {"loss": parts.train()}


def shared_epochs(spec: dict) -> Callable[[], dict]:
    """Training epochs by ``processes`` that divide the cores, new ones each time: the seconds of
    the fastest of some, and what is to be counted of a batch."""
    return lambda: in_processes(_shared_epochs, spec, spec["processes"])


def in_processes(function: Callable[[dict, dict], dict], spec: dict, count: int) -> dict:
    """What a function of a module gives in the first of ``count`` processes that divide the cores;
    it gets RecBole's keys of its process, none if it is alone, and the specification."""
    _import(True)
    from recbole_evcf import distributed

    if count == 1:
        return function({}, spec)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = distributed.layout(count, -1, 0, "127.0.0.1", port)
    return distributed.launch(function, (spec,), keys)


@contextlib.contextmanager
def joined(keys: dict, spec: dict) -> Iterator[_Parts]:
    """All parts of a case, in one of the processes that :func:`in_processes` has started."""
    import torch

    from recbole_evcf import distributed

    if keys:
        distributed.join(keys, torch.device("cpu"))
    parts = _Parts(spec)
    parts.build()
    yield parts
    distributed.leave()


def _shared_epochs(keys: dict, spec: dict) -> dict:
    seconds = []
    with joined(keys, spec) as parts:
        for epoch in range(1 + spec["epochs"]):
            start = time.perf_counter()
            losses = parts.trainer._train_epoch(parts.train_data, epoch)
            seconds.append(time.perf_counter() - start)
    users, batches = parts.train_users(), len(parts.train_data)
    return {
        "seconds": min(seconds[1:]),
        "loss": losses["reconstruction"],
        "items": parts.dataset.item_num - 1,
        "users": len(users) // batches,
        "entries": int(parts.model._histories.lengths[users].sum()) // batches,
        "weights": [w.numel() for w in parts.model.parameters()],
    }


def published_epoch(spec: dict) -> Callable[[], dict]:
    """One training epoch of the published formulation, on the training users of the same data."""
    import torch

    import published

    parts = _Parts(spec)
    parts.build()
    model, config = _published(parts), parts.config
    published.copy_weights(model, parts.model.network)
    users = parts.train_users()
    matrix = published.dense_histories(parts.model._histories, users)
    optimizer = published.make_adam(model, config["learning_rate"])
    parts.forget()
    torch.manual_seed(config["seed"])
    size, cap = config["train_batch_size"], config["anneal_cap"]
    return lambda: {"loss": published.train_epoch(model, optimizer, matrix, size, cap)}


def agreement(spec: dict) -> Callable[[], dict]:
    """How far the published formulation and the fast one are apart on a batch; see ``compare``."""
    import published

    parts = _Parts(spec)
    parts.build()
    parts.model.eval()
    users = next(iter(parts.train_data))[parts.config["USER_ID_FIELD"]]
    model, batch = _published(parts), parts.model._histories.rows(users)
    return lambda: published.compare(model, parts.model.network, batch)


def item_count(spec: dict) -> Callable[[], dict]:
    """How many items RecBole counts in the data, its padding item included."""
    parts = _Parts(spec)
    parts.load()
    return lambda: {"items": int(parts.dataset.item_num)}


def evaluation(spec: dict) -> Callable[[], dict]:
    """Full ranking of the test users of an untrained model.

    With ``loader: recbole`` by RecBole's own dataloader, which groups the same interactions with
    Python sets, and its own gathering of hits; else by the plugin's.
    """
    parts = _Parts({**spec, "settings": {**spec["settings"], **EXACT}})
    parts.build()
    if spec.get("loader") == "recbole":
        parts.test_data = _recbole_loader(parts)
    users = len(parts.test_data.uid_list)
    steps = _recboles_steps if spec.get("loader") == "recbole" else contextlib.nullcontext

    def run() -> dict:
        with steps():
            return {"users": users, "metrics": parts.evaluate()}

    return run


def linear_weights(spec: dict) -> Callable[[], dict]:
    """A linear model's constructor, which trains it."""
    parts = _Parts(spec)
    parts.load()
    parts.split()
    parts.import_all()

    def run() -> dict:
        parts.make_model()
        return {"items": len(parts.model.item_weights)}

    return run


def cholesky_inverse(spec: dict) -> Callable[[], dict]:
    """LAPACK's inverse of a positive definite matrix of ``items`` rows, in place; once."""
    import numpy as np
    from scipy.linalg import lapack

    matrix = np.full((spec["items"], spec["items"]), 0.5, np.float32, order="F")
    np.fill_diagonal(matrix, spec["items"])

    def run() -> dict:
        _, failed = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
        _, failed_too = lapack.spotri(matrix, lower=1, overwrite_c=1)
        return {"failed": failed or failed_too}

    return run


def scaling(spec: dict) -> Callable[[], dict]:
    """Seconds of a training epoch and of an evaluation, and what their operations depend on.

    One of each is done before, and not counted.
    """
    parts = _Parts(spec)
    parts.build()
    parts.train()
    parts.evaluate()
    histories = parts.model._histories
    users, ranked = parts.train_users(), parts.test_data
    counts = {
        "items": parts.dataset.item_num - 1,
        "users": len(users),
        "entries": int(histories.lengths[users].sum()),
        "ranked_users": len(ranked.uid_list),
        "ranked_entries": int(histories.lengths[ranked.uid_list].sum()),
        "train_batches": len(parts.train_data),
        "eval_batches": len(ranked),
    }

    def run() -> dict:
        start = time.perf_counter()
        parts.train()
        trained = time.perf_counter()
        parts.evaluate()
        seconds = {"epoch": trained - start, "evaluation": time.perf_counter() - trained}
        return {"seconds": seconds, "counts": counts}

    return run


def matrix_rate(spec: dict) -> Callable[[], dict]:
    """Floating point operations a second of the fastest of a few fp32 matrix products.

    ``products``: lists of rows, inner and columns.
    """
    import torch

    products = [
        (torch.rand(rows, inner), torch.rand(inner, columns))
        for rows, inner, columns in spec["products"]
    ]

    def run() -> dict:
        best = 0.0
        for left, right in products:
            for _ in range(3):
                start = time.perf_counter()
                torch.mm(left, right)
                seconds = time.perf_counter() - start
                best = max(best, 2 * left.numel() * right.shape[1] / seconds)
        return {"rate": best}

    return run


def unsynchronised(spec: dict) -> Callable[[], dict]:
    """Training batches during which CUDA raises an error if anything waits for the device.

    As in training, the ids of a batch are on the host, where the histories are looked up.
    """
    import torch

    parts = _Parts(spec)
    parts.build()
    trainer, device = parts.trainer, parts.config["device"]
    parts.model.train()
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    checked = device.type == "cuda"

    def run() -> dict:
        batches = 0
        for interaction in itertools.islice(parts.train_data, spec["batches"]):
            # The first builds the optimizer's state and chooses kernels.
            if checked and batches:
                torch.cuda.set_sync_debug_mode("error")
            try:
                trainer._train_batch(interaction, parts.model.loss_terms, scaler)
            finally:
                if checked:
                    torch.cuda.set_sync_debug_mode("default")
            batches += 1
        return {"batches": batches, "checked": checked}

    return run


def both_devices(spec: dict) -> Callable[[], dict]:
    """The test metrics of one trained model on the configured device and on the CPU."""
    parts = _Parts({**spec, "settings": {**spec["settings"], **EXACT}})
    parts.build()
    parts.train()

    def run() -> dict:
        here = parts.evaluate()
        on_cpu = _Parts({**spec, "settings": {**spec["settings"], **EXACT, "use_gpu": False}})
        on_cpu.build()
        state = {name: value.cpu() for name, value in parts.model.state_dict().items()}
        on_cpu.model.load_state_dict(state)
        device = str(parts.config["device"])
        return {"device": device, "metrics": here, "cpu": on_cpu.evaluate()}

    return run


def whole(spec: dict) -> Callable[[], Iterator[dict]]:
    """Everything from the file to the test metrics, with the seconds of each phase.

    They are yielded phase by phase, for what is known when memory runs out.

    ``train_batches`` and ``eval_batches``, where given, bound the batches that are really done; the
    seconds are then those of the whole by proportion, and ``shares`` says what was done.
    """
    parts = _Parts(spec)
    parts.import_all()

    def run() -> Iterator[dict]:
        seconds = {}
        for phase, work in (
            ("load", parts.load),
            ("split", parts.split),
            ("histories", parts.make_model),
            ("epoch", lambda: parts.train(spec.get("train_batches"))),
            ("evaluation", lambda: parts.evaluate(spec.get("eval_batches"))),
        ):
            start = time.perf_counter()
            work()
            seconds[phase] = (time.perf_counter() - start) / parts.shares.get(phase, 1.0)
            yield {"phases": seconds, "shares": parts.shares}

    return run


class _Parts:
    """A data set, its dataloaders, model and trainer, made step by step as ``run_recbole`` does."""

    def __init__(self, spec: dict):
        _import(spec.get("plugin", True))
        from recbole.config import Config

        settings = {"show_progress": False, "state": "error", **spec["settings"]}
        self.config = Config(
            model=spec["model"],
            dataset=spec["dataset"],
            config_file_list=list(spec.get("config_files", [])),
            config_dict=settings,
        )
        self.shares: dict[str, float] = {}
        self._epoch = 0

    def import_all(self) -> None:
        """Import what is imported at first use, so that no phase pays for it."""
        import torch
        from recbole.data import create_dataset  # noqa: F401
        from recbole.utils import get_model, get_trainer

        # An optimizer's constructor imports torch's compiler.
        torch.optim.Adam([torch.zeros(1)])
        get_model(self.config["model"])
        get_trainer(self.config["MODEL_TYPE"], self.config["model"])

    def build(self) -> None:
        self.load()
        self.split()
        self.make_model()

    def load(self) -> None:
        from recbole.data import create_dataset
        from recbole.utils import init_seed

        init_seed(self.config["seed"], self.config["reproducibility"])
        self.dataset = create_dataset(self.config)

    def split(self) -> None:
        from recbole.data import data_preparation

        loaders = data_preparation(self.config, self.dataset)
        self.train_data, self.valid_data, self.test_data = loaders

    def make_model(self) -> None:
        from recbole.utils import get_model, get_trainer, init_seed

        config = self.config
        init_seed(config["seed"], config["reproducibility"])
        model = get_model(config["model"])(config, self.train_data._dataset)
        self.model = model.to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])
        self.trainer = trainer(config, self.model)

    def train_users(self):
        """The ids of the users who are trained on, (users,)."""
        return self.train_data.user_list[self.config["USER_ID_FIELD"]]

    def train(self, batches: int | None = None) -> float:
        """One more epoch by ``fit``, without validation and without a checkpoint; its loss."""
        if batches is not None:
            self.shares["epoch"] = _bound(self.train_data, batches)
        trainer, epoch = self.trainer, self._epoch
        trainer.start_epoch, trainer.epochs = epoch, epoch + 1
        trainer.fit(self.train_data, verbose=False, saved=False)
        self._epoch += 1
        return float(trainer.train_loss_dict[epoch])

    def evaluate(self, batches: int | None = None) -> dict[str, float]:
        """The test metrics of the model as it is."""
        if batches is not None:
            self.shares["evaluation"] = _bound(self.test_data, batches)
        metrics = self.trainer.evaluate(self.test_data, load_best_model=False)
        return {name: float(value) for name, value in metrics.items()}

    def forget(self) -> None:
        """Let go of everything but the config: another formulation goes on by itself."""
        config = self.config
        vars(self).clear()
        self.config = config


def _import(plugin: bool) -> None:
    """RecBole with the plugin; or without it, with nothing but the repairs that it needs to run.

    Importing ``recbole_evcf`` registers the plugin's dataloaders and models: in its place there is
    an empty package, of which the repairs are imported.
    """
    if plugin:
        # As the commands do.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        import recbole_evcf

        recbole_evcf.speed_up_recbole()
        return
    package = types.ModuleType("recbole_evcf")
    package.__path__ = [str(PACKAGE)]
    sys.modules["recbole_evcf"] = package
    from recbole_evcf.hooks import fixes

    fixes.repair()


def _published(parts: _Parts):
    import published

    config, network = parts.config, parts.model.network
    return published.PublishedVAE(
        parts.dataset.item_num - 1,
        config["mlp_hidden_size"],
        config["latent_dimension"],
        gated=config["gated"],
        levels=2 if hasattr(network, "encoder_z2") else 1,
        n_pseudo_inputs=config["n_pseudo_inputs"] if parts.model.vamp_prior else 0,
        dropout_prob=config["dropout_prob"],
    )


def _recbole_loader(parts: _Parts):
    from recbole.data.dataloader import FullSortEvalDataLoader

    # With the split by users, too: what is not ranked is then the fold-in set.
    loader = parts.test_data
    used = loader.uid2history_item, loader.uid2positive_item
    return FullSortEvalDataLoader(parts.config, loader._dataset, _UsedItems(*used))


@contextlib.contextmanager
def _recboles_steps() -> Iterator[None]:
    """Within it, RecBole's steps of evaluation are its own again."""
    from recbole.data.interaction import Interaction
    from recbole.evaluator import Collector
    from recbole.trainer import Trainer

    from recbole_evcf.hooks.speedups import HitCollector, RankingTrainer
    from recbole_evcf.hooks.training import PluginTrainer

    steps = [
        (RankingTrainer, "_full_sort_batch_eval", Trainer._full_sort_batch_eval),
        (HitCollector, "eval_batch_collect", Collector.eval_batch_collect),
        (Interaction, "__getitem__", Interaction.__getitem__.__wrapped__),
        (PluginTrainer, "evaluate", Trainer.evaluate),
    ]
    ours = [getattr(owner, name) for owner, name, _ in steps]
    for owner, name, recboles in steps:
        setattr(owner, name, recboles)
    try:
        yield
    finally:
        for (owner, name, _), function in zip(steps, ours):
            setattr(owner, name, function)


class _UsedItems:
    """What RecBole's dataloader asks a sampler for: the ids that a user has in any phase so far."""

    def __init__(self, *histories):
        self._histories = histories

    @property
    def used_ids(self) -> _UsedItems:
        return self

    def __getitem__(self, user) -> set[int]:
        if user is None:
            return set()
        return {int(item) for items in self._histories for item in items[int(user)]}


def _bound(loader, batches: int) -> float:
    """Let a dataloader end after some batches; the share of all that it still gives."""
    original = type(loader)

    class Bounded(original):
        def __iter__(self):
            return itertools.islice(super().__iter__(), batches)

    loader.__class__ = Bounded
    return min(batches / len(loader), 1.0)
