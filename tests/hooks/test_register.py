"""RecBole knows the models by one import, and a user's own; for the rest it is as it was."""

import copy
import importlib
import json
import pickle

import pytest
import recbole.data.utils
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.transform import construct_transform
from recbole.model.general_recommender import BPR, EASE, LINE
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.trainer import TraditionalTrainer, Trainer
from recbole.utils import get_flops, get_model, get_trainer

import recbole_evcf
from build import SG, build, python, trained
from recbole_evcf import register_fold_in, register_model
from recbole_evcf.config.checks import unknown_model
from recbole_evcf.data.dataloader import FullSortHistoryDataLoader
from recbole_evcf.hooks import wrapping
from recbole_evcf.model import fold_in
from recbole_evcf.model.models import NETWORKS, Vamp
from recbole_evcf.model.wmf import WMF
from recbole_evcf.trainer.trainer import VAETrainer


@pytest.mark.parametrize("model", NETWORKS)
def test_recbole_finds_model_and_trainer(model):
    assert get_model(model.__name__) is model
    assert issubclass(get_trainer(model.type, model.__name__), VAETrainer)


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
    entries = int(model._histories.lengths[dataset.inter_feat["user_id"][1]])
    # Two products per gated layer; the output layer is read for one item only.
    assert flops == 2 * entries * 16 + 2 * 16 * 8 + 2 * 8 * 16


def test_registering_twice_changes_nothing():
    owners = [Config, Dataset, recbole.data.utils, dataset_module]
    before = [dict(vars(owner)) for owner in owners]
    extensions = {base: list(each) for base, each in wrapping._extensions.items()}
    importlib.reload(recbole_evcf)
    recbole_evcf.activate()
    assert [dict(vars(owner)) for owner in owners] == before
    assert wrapping._extensions == extensions


# What alone keeps RecBole from starting on today's numpy.
NUMPY = """
import json, sys
import numpy as np
np.bool8, np.float_, np.complex_, np.unicode_ = np.bool_, np.float64, np.complex128, np.str_
"""
COMPARE = """
if sys.argv.pop() == "with":
    import recbole_evcf
from recbole.quick_start import run_recbole
results = {}
for model, settings in json.loads(sys.argv.pop()).items():
    result = run_recbole(model, "tiny", config_dict=settings, saved=False)
    results[model] = {k: float(v) for k, v in result["test_result"].items()}
print("RESULT " + json.dumps(results))
"""


def test_built_in_results_are_the_same_with_and_without_the_import(tiny):
    models = dict.fromkeys(("BPR", "EASE", "ItemKNN", "CDAE"), tiny)
    models["MultiVAE"] = {**tiny, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "RO"}}
    models["RecVAE"] = {**tiny, "eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "uni20"}}
    given = json.dumps(models)
    printed = [python(NUMPY + COMPARE, given, way) for way in ("with", "without")]
    ours, theirs = (json.loads(text.rpartition("RESULT ")[2]) for text in printed)
    assert ours == theirs
    assert [0 < result["ndcg@10"] < 1 for result in ours.values()] == [True] * 6


@pytest.mark.parametrize("name", ["EASE", "ItemKNN", "Pop", "LightGCN"])
def test_built_in_models_save_and_load_their_other_parameters(tiny, name):
    settings = {key: tiny[key] for key in ("data_path", "load_col", "state", "show_progress")}
    loaders, trainer = trained(name, {**settings, "epochs": 1})
    direct = trainer.evaluate(loaders[2], load_best_model=False)
    config, loaded, _, _, _, test = load_data_and_model(trainer.saved_model_file)
    assert config["model"] == name
    again = get_trainer(config["MODEL_TYPE"], name)(config, loaded)
    again.eval_collector.data_collect(loaders[0])
    assert again.evaluate(test, load_best_model=False) == direct


def test_a_started_process_knows_the_models():
    module = importlib.import_module("recbole.quick_start.quick_start")
    code = (
        f"import pickle; pickle.loads({pickle.dumps(module.run_recboles)!r});"
        "from recbole.utils import get_model; print(get_model('GatedHVamp').__name__)"
    )
    assert python(code).strip() == "GatedHVamp"


FIRST_RECBOLE = """
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
    split = {**ours, "eval_args": SG}
    runs = [("HVamp", ours), ("HVamp", split), ("EASE", {**split, "standard_error": True})]
    said = python(NUMPY + FIRST_RECBOLE, json.dumps(runs))
    lines = [json.loads(line) for line in said.splitlines()]
    history = ["TrainUserDataLoader", "FullSortHistoryDataLoader"]
    hvamp = [*history, "HVamp", "VAETrainer"]
    assert lines[::2] == [hvamp, hvamp, [*history, "EASE", "TraditionalTrainer"]]
    for (model, settings), found in zip(runs, lines[1::2]):
        assert found == run_recbole(model, "tiny", config_dict=dict(settings))["test_result"]


def test_a_split_seed_sets_the_split_apart_from_the_seed(tiny):
    def parts(**seeds):
        loaders = build("BPR", "tiny", {**tiny, **seeds})[1]
        return [loader._dataset.inter_feat["item_id"].tolist() for loader in loaders]

    plain = parts(seed=1)
    assert parts(seed=2) != plain
    assert parts(seed=2, split_seed=1) == plain
    assert parts(seed=1, split_seed=2) == parts(seed=2)


# A user's models, and a trainer.
OwnVamp, OwnTrainer = type("OwnVamp", (Vamp,), {}), type("OwnTrainer", (Trainer,), {})
OwnBPR, OwnToo = type("OwnBPR", (BPR,), {}), type("OwnToo", (BPR,), {})


def test_trainer_and_defaults_follow_from_the_model_unless_they_are_given(tiny):
    register_model(OwnVamp)
    register_model(OwnBPR)
    register_model(OwnToo, OwnTrainer)
    for model, trainer in ((OwnVamp, VAETrainer), (OwnBPR, Trainer), (OwnToo, OwnTrainer)):
        assert get_trainer(model.type, model.__name__) is trainer
    assert get_trainer(WMF.type, "WMF") is TraditionalTrainer
    assert str(unknown_model("ownvampp")).endswith("Did you mean OwnVamp or Vamp or HVamp?")
    config, loaders, _, _ = build("OwnVamp", "tiny", tiny)
    assert (config["gated"], config["learner"]) == (False, "adam_norm_grad")
    assert isinstance(loaders[1], FullSortHistoryDataLoader)


@pytest.mark.parametrize("name", ["Nope", "bpr"])
def test_an_adapter_needs_a_general_recommender_of_recboles(name):
    with pytest.raises(ValueError, match=f"no general recommender named '{name}'"):
        register_fold_in(name, None, None)


# The constructor of EASE has an adapter already, that of LINE has none.
HEIRS = [type("Heir", (EASE,), {}), type("PlainHeir", (LINE,), {})]


@pytest.mark.parametrize("model", HEIRS)
def test_the_adapter_of_a_class_that_inherits_its_constructor_is_called(model, tiny, monkeypatch):
    monkeypatch.setitem(fold_in.FOLD_IN_MODELS, model.__name__, None)
    called = []

    def adapter(construct, network, config, dataset):
        called.append(type(network).__name__)
        construct(network, config, dataset)

    register_model(model)
    register_fold_in(model.__name__, adapter, lambda network, histories: None)
    settings = {**tiny, "eval_args": SG, "reg_weight": 5.0, "embedding_size": 8}
    build(model.__name__, "tiny", settings)
    # Nor is it called for the class that it extends.
    build("EASE", "tiny", settings)
    assert called == [model.__name__]


class Base:
    def name(self):
        return "base"


class Own(Base):
    def name(self):
        return f"own {super().name()}"


def test_an_extended_class_has_the_methods_of_its_extensions():
    @wrapping.extends(Base)
    class Extension(Base):
        def name(self):
            return f"extended {super().name()}"

    @wrapping.extends(Base)
    class Second(Base):
        def name(self):
            return f"second {super().name()}"

    assert Base().name() == "second extended base"
    assert Own().name() == "own second extended base"
    assert (type(Own()).__name__, Base.name(Base())) == ("Own", "base")
    made = Own()
    made.value = [1]
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert (again.name(), again.value) == (made.name(), [1])
        assert type(again) is type(made)


def test_a_method_is_hooked_for_its_class_alone():
    class Owner:
        def name(self):
            return "n"

    class Child(Owner):
        pass

    wrapping.hook(Owner, "name")(lambda original, self: original(self) * 2)
    wrapping.hook(Child, "name")(lambda original, self: original(self) * 3)
    assert (Owner().name(), Child().name()) == ("nn", "nnnnnn")
