"""What a user registers: models of every kind, and adapters of RecBole's."""

import copy
import pickle
import subprocess
import sys

import pytest
from recbole.model.general_recommender import BPR, EASE, LINE
from recbole.trainer import TraditionalTrainer, Trainer
from recbole.utils import get_trainer

from build import build
from recbole_evcf import register_fold_in, register_model
from recbole_evcf.config.names import unknown_model
from recbole_evcf.hooks import wrapping
from recbole_evcf.model import fold_in
from recbole_evcf.model.models import Vamp
from recbole_evcf.model.wmf import WMF
from recbole_evcf.trainer.trainer import VAETrainer


class OwnVamp(Vamp):
    """Ours, extended."""


class OwnBPR(BPR):
    """RecBole's, extended."""


class OwnTrainer(Trainer):
    """Somebody's own."""


class OwnToo(BPR):
    """With a trainer of its own."""


def test_the_trainer_follows_from_the_model_unless_it_is_given():
    register_model(OwnVamp)
    register_model(OwnBPR)
    register_model(OwnToo, OwnTrainer)
    assert get_trainer(OwnVamp.type, "OwnVamp") is VAETrainer
    assert get_trainer(OwnBPR.type, "OwnBPR") is Trainer
    assert get_trainer(OwnToo.type, "OwnToo") is OwnTrainer
    assert get_trainer(WMF.type, "WMF") is TraditionalTrainer


def test_a_registered_model_is_suggested():
    register_model(OwnVamp)
    assert str(unknown_model("ownvampp")).endswith("Did you mean OwnVamp or Vamp or HVamp?")


@pytest.mark.parametrize("name", ["Nope", "bpr"])
def test_an_adapter_needs_a_general_recommender_of_recboles(name):
    with pytest.raises(ValueError, match=f"no general recommender named '{name}'"):
        register_fold_in(name, None, None)


class Heir(EASE):
    """Its constructor is EASE's, which is wrapped already."""


class PlainHeir(LINE):
    """Its constructor is LINE's, which is not."""


@pytest.mark.parametrize("model", [Heir, PlainHeir])
def test_the_adapter_of_a_class_that_inherits_its_constructor_is_called(model, tiny, monkeypatch):
    monkeypatch.setitem(fold_in.FOLD_IN_MODELS, model.__name__, None)
    called = []

    def adapter(construct, network, config, dataset):
        called.append(type(network).__name__)
        construct(network, config, dataset)

    register_model(model)
    register_fold_in(model.__name__, adapter, lambda network, histories: None)
    split = {"split": {"SG": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
    settings = {**tiny, "eval_args": split, "reg_weight": 5.0, "embedding_size": 8}
    build(model.__name__, "tiny", settings)
    assert called == [model.__name__]
    # Nor is it called for the class that it extends.
    build("EASE", "tiny", settings)
    assert called == [model.__name__]


def test_a_method_is_hooked_for_its_class_alone():
    class Owner:
        def name(self):
            return "n"

    class Child(Owner):
        pass

    wrapping.hook(Owner, "name")(lambda original, self: original(self) * 2)
    wrapping.hook(Child, "name")(lambda original, self: original(self) * 3)
    assert (Owner().name(), Child().name()) == ("nn", "nnnnnn")


class Base:
    """RecBole's, say."""

    def name(self):
        return "base"


@wrapping.extends(Base)
class Extension(Base):
    def name(self):
        return f"extended {super().name()}"


@wrapping.extends(Base)
class Second(Base):
    def name(self):
        return f"second {super().name()}"


class Own(Base):
    def name(self):
        return f"own {super().name()}"


def test_an_extended_class_has_the_methods_of_its_extensions():
    assert Base().name() == "second extended base"
    assert Own().name() == "own second extended base"
    assert (type(Own()).__name__, Base.name(Base())) == ("Own", "base")
    made = Own()
    made.value = [1]
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert (again.name(), again.value) == (made.name(), [1])
        assert type(again) is type(made)


SPEED = """
import subprocess, sys
from collections import Counter
import recbole_evcf
from recbole.data.dataset import dataset
from recbole.data.interaction import Interaction
from recbole_evcf.hooks.speedups import HitCollector

def fast():
    rows, counter = Interaction.__getitem__, dataset.Counter
    return hasattr(rows, "__wrapped__"), counter is not Counter, HitCollector.fast_for_all

print(fast())
if len(sys.argv) == 1:
    for _ in range(2):
        recbole_evcf.speed_up_recbole()
    subprocess.run([sys.executable, __file__, "started"])
"""


def test_recboles_own_is_faster_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("RECBOLE_EVCF_SPEED_UP", raising=False)
    path = tmp_path / "speed.py"
    path.write_text(SPEED, encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == [str((fast,) * 3) for fast in (False, True)]
