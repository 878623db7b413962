"""RecBole knows the models by one import, and is for the rest as it was."""

import importlib
import json
import pickle
import subprocess
import sys

import pytest
import recbole.data.utils
from recbole.config import Config
from recbole.data.dataloader import FullSortEvalDataLoader, TrainDataLoader, UserDataLoader
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.transform import construct_transform
from recbole.quick_start import run_recbole
from recbole.utils import get_flops, get_model, get_trainer

import recbole_evcf
from build import build
from recbole_evcf import register_model
from recbole_evcf.data.dataloader import FullSortHistoryDataLoader
from recbole_evcf.hooks import wrapping
from recbole_evcf.model.models import MODELS, GatedHVamp
from recbole_evcf.trainer.trainer import VAETrainer

NAMES = [model.__name__ for model in MODELS]


@pytest.mark.parametrize("model", MODELS)
def test_recbole_finds_model_and_trainer(model):
    assert get_model(model.__name__) is model
    assert get_trainer(model.type, model.__name__) is VAETrainer


def test_defaults_are_the_shipped_ones(tiny):
    config = Config("GatedHVamp", "tiny", config_dict={"data_path": tiny["data_path"]})
    keys = ("n_pseudo_inputs", "latent_dimension", "learner", "gated")
    assert [config[key] for key in keys] == [1000, 200, "adam_norm_grad", True]
    config = Config("HVamp", "ml-100k")
    assert [config[key] for key in keys] == [200, 200, "adam_norm_grad", False]
    assert Config("HVamp", "ml-100k", config_dict={"n_pseudo_inputs": 9})["n_pseudo_inputs"] == 9


def test_flops_of_scoring_one_user_are_counted(tiny):
    config, loaders, model, _ = build("GatedVamp", "tiny", tiny)
    dataset = loaders[0]._dataset
    flops = get_flops(model, dataset, config["device"], model.logger, construct_transform(config))
    user = dataset.inter_feat["user_id"][1]
    entries = int(model._histories.lengths[user])
    # Two products per gated layer; the output layer is read for one item only.
    assert flops == 2 * entries * 16 + 2 * 16 * 8 + 2 * 8 * 16


def test_a_subclass_starts_from_its_parents_defaults(tiny):
    class Mine(GatedHVamp):
        """Somebody's own model."""

    register_model(Mine)
    config, loaders, _model, trainer = build("Mine", "tiny", {**tiny, "epochs": 1})
    assert config["gated"] is True
    assert isinstance(loaders[1], FullSortHistoryDataLoader)
    assert isinstance(trainer, VAETrainer)


def test_registering_twice_changes_nothing():
    owners = [vars(Config), vars(Dataset), vars(recbole.data.utils), vars(dataset_module)]
    before = [dict(owner) for owner in owners]
    extensions = {base: list(each) for base, each in wrapping._extensions.items()}
    importlib.reload(recbole_evcf)
    assert [{**owner, "__new__": None} for owner in owners] == [
        {**old, "__new__": None} for old in before
    ]
    assert wrapping._extensions == extensions
    assert get_model("Vamp") is MODELS[0]


@pytest.mark.parametrize(
    ("name", "train_loader"), [("BPR", TrainDataLoader), ("MultiVAE", UserDataLoader)]
)
def test_built_in_models_keep_their_loaders(tiny, name, train_loader):
    settings = {key: tiny[key] for key in ("data_path", "load_col", "state")}
    _, loaders, _, trainer = build(name, "tiny", settings)
    assert type(loaders[0]) is train_loader
    assert type(loaders[1]) is FullSortEvalDataLoader
    assert not isinstance(trainer, VAETrainer)


COMPARE = """
import json, sys
import numpy as np
if sys.argv.pop() == "with":
    import recbole_evcf
else:
    # What alone keeps RecBole from starting on today's numpy.
    for name, kind in dict(
        bool8=np.bool_, float_=np.float64, complex_=np.complex128, unicode_=np.str_
    ).items():
        if name not in np.__dict__:
            setattr(np, name, kind)
from recbole.quick_start import run_recbole
results = {}
for model, extra in json.loads(sys.argv.pop()).items():
    settings = {"epochs": 2, "eval_batch_size": 500000, "show_progress": False, "state": "error"}
    # Some seventy users: sampled evaluation loops over them.
    settings["user_inter_num_interval"] = "[200,260]"
    result = run_recbole(model, "ml-100k", config_dict={**settings, **extra}, saved=False)
    results[model] = {k: float(v) for k, v in result["test_result"].items()}
print("RESULT " + json.dumps(results))
"""


def test_built_in_results_are_the_same_with_and_without_the_import(tmp_path):
    models = {
        "BPR": {},
        "EASE": {},
        "ItemKNN": {},
        "MultiVAE": {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "RO"}},
        "RecVAE": {"eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "uni20"}},
    }
    results = []
    for plugin in ("with", "without"):
        command = [sys.executable, "-c", COMPARE, json.dumps(models), plugin]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(json.loads(done.stdout.rpartition("RESULT ")[2]))
    assert results[0] == results[1]
    assert [0 < result["hit@10"] < 1 for result in results[0].values()] == [True] * 5


@pytest.mark.parametrize("name", ["EASE", "ItemKNN", "Pop", "LightGCN"])
def test_built_in_models_save_and_load_their_other_parameters(tiny, name):
    settings = {key: tiny[key] for key in ("data_path", "load_col", "state", "show_progress")}
    _, loaders, _model, trainer = build(name, "tiny", {**settings, "epochs": 1})
    trainer.fit(loaders[0], loaders[1])
    direct = trainer.evaluate(loaders[2], load_best_model=False)
    from recbole.quick_start import load_data_and_model

    config, loaded, _, _, _, test = load_data_and_model(trainer.saved_model_file)
    assert config["model"] == name
    again = get_trainer(config["MODEL_TYPE"], name)(config, loaded)
    again.eval_collector.data_collect(loaders[0])
    assert again.evaluate(test, load_best_model=False) == direct


def test_a_started_process_knows_the_models(tmp_path):
    module = importlib.import_module("recbole.quick_start.quick_start")
    (tmp_path / "work.pickle").write_bytes(pickle.dumps(module.run_recboles))
    script = (
        "import pickle; pickle.load(open('work.pickle', 'rb'));"
        "from recbole.utils import get_model; print(get_model('GatedHVamp').__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "GatedHVamp"


FIRST_RECBOLE = """
import json, sys
import numpy as np

# What RecBole itself reads, before the plugin can help.
np.bool8, np.float_, np.complex_, np.unicode_ = np.bool_, np.float64, np.complex128, np.str_

from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data import create_dataset, data_preparation, get_dataloader
from recbole.model.general_recommender import EASE
from recbole.quick_start import load_data_and_model, run, run_recbole
from recbole.trainer import HyperTuning, Trainer
from recbole.utils import get_model, get_trainer

import recbole_evcf
from recbole_evcf import quick_start

assert load_data_and_model is quick_start.load_data_and_model
assert run is quick_start.run
for model, settings in json.loads(sys.argv.pop()):
    config = Config(model, "tiny", config_dict=dict(settings))
    train, valid, test = data_preparation(config, create_dataset(config))
    trainer = get_trainer(config["MODEL_TYPE"], model)
    network = get_model(model)(config, train._dataset)
    print(json.dumps([*(type(each).__name__ for each in (train, test, network)), trainer.__name__]))
    result = run_recbole(model, "tiny", config_dict=settings)["test_result"]
    print(json.dumps({key: float(value) for key, value in result.items()}))
"""


def test_the_plugin_may_be_imported_after_recbole(tiny):
    ours = {**tiny, "metrics": ["NDCG", "TruncatedRecall"], "topk": [5], "valid_metric": "NDCG@5"}
    by_users = {"split": {"SG": [0.5, 0.2, 0.3]}, "group_by": "user", "order": "RO", "mode": "full"}
    runs = [("HVamp", ours), ("HVamp", {**ours, "eval_args": by_users})]
    runs.append(("EASE", {**runs[1][1], "standard_error": True}))
    command = [sys.executable, "-c", FIRST_RECBOLE, json.dumps(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kinds, results = done.stdout.splitlines()[::2], done.stdout.splitlines()[1::2]
    history = ["TrainUserDataLoader", "FullSortHistoryDataLoader"]
    assert [json.loads(line) for line in kinds] == [
        [*history, "HVamp", "VAETrainer"],
        [*history, "HVamp", "VAETrainer"],
        [*history, "EASE", "TraditionalTrainer"],
    ]
    for (model, settings), line in zip(runs, results):
        expected = run_recbole(model, "tiny", config_dict=dict(settings))["test_result"]
        assert json.loads(line) == {key: float(value) for key, value in expected.items()}


def test_a_split_seed_sets_the_split_apart_from_the_seed(tiny):
    def parts(**seeds):
        loaders = build("BPR", "tiny", {**tiny, **seeds})[1]
        return [loader._dataset.inter_feat["item_id"].tolist() for loader in loaders]

    plain = parts(seed=1)
    assert parts(seed=2) != plain
    assert parts(seed=2, split_seed=1) == plain
    assert parts(seed=1, split_seed=2) == parts(seed=2)
