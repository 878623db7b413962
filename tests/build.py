"""Short ways to RecBole's objects for a test."""

import contextlib
import math
import subprocess
import sys

import pandas as pd
import pytest
import torch

import recbole_evcf  # noqa: F401  (in a new process, it repairs what RecBole's own imports need)

# isort: split
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model import general_recommender
from recbole.utils import get_model, get_trainer, init_seed

# For what came with it: AsymKNN, and the neighbours of users for ItemKNN.
since_recbole_1_2_1 = pytest.mark.skipif(
    not hasattr(general_recommender, "AsymKNN"), reason="RecBole 1.2.0 does not have it"
)
ASYM_KNN = pytest.param("AsymKNN", marks=since_recbole_1_2_1)
# The splits by interactions and by users.
RS = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
SG = {**RS, "split": {"SG": [0.6, 0.2, 0.2]}}
# Sizes that train in no time, of the models that can fold in.
SIZES = {
    "MultiVAE": {"mlp_hidden_size": [16], "latent_dimension": 8},
    "MultiDAE": {"mlp_hidden_size": [16], "latent_dimension": 8},
    "RecVAE": {"hidden_dimension": 16, "latent_dimension": 8},
    "MacridVAE": {"encoder_hidden_size": [16], "embedding_size": 8, "kfac": 2},
    "RaCT": {"mlp_hidden_size": [16], "latent_dimension": 8, "pretrain_epochs": 2, "save_step": 1},
    "CDAE": {"embedding_size": 8},
    "DiffRec": {"dims_dnn": [16]},
    "LDiffRec": {"dims_dnn": [16], "in_dims": [16]},
    "ADMMSLIM": {"k": 5, "lambda1": 0.1, "lambda2": 1.0, "rho": 20.0},
    "SLIMElastic": {"alpha": 0.01},
    "ItemKNN": {"k": 10},
    "AsymKNN": {"k": 10},
    "NCEPLRec": {"rank": 10},
    "EASE": {"reg_weight": 5.0},
}


@contextlib.contextmanager
def another_process(taking: str):
    """A process that runs code, which takes a lock, and then waits until it is killed."""
    code = f"{taking}\nimport sys\nprint('taken', flush=True)\nsys.stdin.read()"
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == b"taken\n"
        yield process
        process.kill()


def python(code: str, *words: str) -> str:
    """What a new interpreter prints that runs code, which must end well."""
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def build(model: str, dataset: str, settings: dict):
    """Config, (train, valid, test) dataloaders, model and trainer as ``run_recbole`` makes them."""
    config = Config(model=model, dataset=dataset, config_dict=dict(settings))
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    network = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    return config, loaders, network, trainer


def trained(model: str, settings: dict):
    """Dataloaders and trainer of a model that was trained on the data set ``tiny``."""
    _, loaders, _, trainer = build(model, "tiny", settings)
    trainer.fit(loaders[0], loaders[1])
    return loaders, trainer


def named(part, users, items) -> list[tuple[str, str]]:
    """Pairs of numbers as pairs of ids."""
    return list(zip(part.id2token("user_id", users), part.id2token("item_id", items)))


def pairs_of(part, histories=None) -> list[tuple[str, str]]:
    """The interactions of a part of a split, or histories, as pairs of ids."""
    if histories is None:
        return named(part, part.inter_feat["user_id"].numpy(), part.inter_feat["item_id"].numpy())
    users, columns = histories.matrix().nonzero()
    return named(part, users, columns + 1)


def naive_metrics(ranking: list, targets: set, k: int) -> dict[str, float]:
    """Each metric at K of one user, by its formula."""
    hits = [item in targets for item in ranking[:k]]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(targets)) + 1))
    precisions = [sum(hits[:rank]) / rank for rank in range(1, len(hits) + 1)]
    return {
        "ndcg": sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit) / ideal,
        "recall": sum(hits) / len(targets),
        "truncatedrecall": sum(hits) / min(k, len(targets)),
        "precision": sum(hits) / k,
        "hit": float(any(hits)),
        "mrr": 1 / (hits.index(True) + 1) if any(hits) else 0.0,
        "map": sum(p for p, hit in zip(precisions, hits) if hit) / min(k, len(targets)),
    }


def naive_result(network, part, seen: set, targets: set) -> dict[str, float]:
    """Each metric at 5 of pairs of ids, user by user and item by item."""
    users, items = (part.field2id_token[name].tolist() for name in ("user_id", "item_id"))
    found = []
    network.eval()
    for user in sorted({user for user, _ in targets}):
        # The first is RecBole's padding.
        ids = Interaction({"user_id": torch.tensor([users.index(user, 1)])})
        with torch.no_grad():
            scores = network.full_sort_predict(ids).flatten().tolist()
        order = sorted(range(1, len(items)), key=lambda item, s=scores: -s[item])
        ranking = [items[item] for item in order if (user, items[item]) not in seen]
        found.append(naive_metrics(ranking, {item for who, item in targets if who == user}, 5))
    return pd.DataFrame(found).mean().add_suffix("@5").to_dict()
