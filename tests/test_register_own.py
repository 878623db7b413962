"""What a user registers: models of every kind, and adapters of RecBole's."""

import pytest
from recbole.model.general_recommender import BPR
from recbole.trainer import TraditionalTrainer, Trainer
from recbole.utils import get_trainer

from recbole_evcf import register
from recbole_evcf.configuration import unknown_model
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
    register.register_model(OwnVamp)
    register.register_model(OwnBPR)
    register.register_model(OwnToo, OwnTrainer)
    assert get_trainer(OwnVamp.type, "OwnVamp") is VAETrainer
    assert get_trainer(OwnBPR.type, "OwnBPR") is Trainer
    assert get_trainer(OwnToo.type, "OwnToo") is OwnTrainer
    assert get_trainer(WMF.type, "WMF") is TraditionalTrainer


def test_a_registered_model_is_suggested():
    register.register_model(OwnVamp)
    assert str(unknown_model("ownvampp")).endswith("Did you mean OwnVamp or Vamp or HVamp?")


@pytest.mark.parametrize("name", ["Nope", "bpr"])
def test_an_adapter_needs_a_general_recommender_of_recboles(name):
    with pytest.raises(ValueError, match=f"no general recommender named '{name}'"):
        register.register_fold_in(name, None, None)
