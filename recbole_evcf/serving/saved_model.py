"""Build a trained model from its file alone, without a data set or code from the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import torch
from recbole.config import Config
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import get_model
from torch import Tensor, nn

from recbole_evcf.config.names import import_fault
from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.model.fold_in import FOLD_IN_MODELS
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.serving.allocation import bound_by_weights
from recbole_evcf.serving.scores import scores_of_histories
from recbole_evcf.trainer.checkpoint import load_checkpoint, restored_config
from recbole_evcf.utils.text import one_line, shortened

__all__ = ["load_model"]

# These learn in their constructors, which are not run again: the file has what they learned.
# When they score, they also read some keys of the config.
LEARNED_IN_CONSTRUCTOR = {
    "WMF": ("reg_weight", "alpha"),
    "EASE": (),
    "SLIMElastic": (),
    "ADMMSLIM": ("center_columns",),
    "ItemKNN": (),
    "AsymKNN": ("beta", "q"),
    "NCEPLRec": (),
}
FROM_ITS_DATA = "load it with recbole_evcf.quick_start.load_data_and_model"


def load_model(path: str, device: str | torch.device | None = None) -> nn.Module:
    """Build the model of a file, ready to score; its items are ``model.item_catalogue``.

    Args:
        path: a model file saved with recbole_evcf imported.
        device: where it computes; by default where its config says, a GPU if there is one.

    Raises:
        ValueError: the device does not exist; or the file is missing, corrupt or not of a model
            that can score a user from a history.
    """
    _check_device(device)
    checkpoint = load_checkpoint(path, "cpu")
    name = _checked_name(path, checkpoint["config"])
    if not {"item_catalogue", "n_users"} <= checkpoint.keys():
        raise ValueError(
            f"{path} holds no item tokens: an earlier version of recbole_evcf saved it; train the "
            "model again, or recommend to the users of its data set, which has the tokens."
        )
    try:
        # Initial values are replaced by the file's, so they must use up no random numbers.
        with torch.random.fork_rng(devices=[]):
            return _build(checkpoint, device)
    except _CannotServe as reason:
        raise ValueError(f"{path} holds a {name}, {reason}") from None
    # Corrupt files and those of another class raise exceptions of every kind.
    except Exception as error:
        of_a_user = not get_model(name).__module__.startswith("recbole")
        needs = ", or its constructor needs the interactions of its data set" * of_a_user
        cause = shortened(f"{type(error).__name__}: {one_line(error)}", 200)
        raise ValueError(
            f"{path} is corrupt, or its weights are of another model than the {name} that it names"
            f"{needs} ({cause})."
        ) from error


class _CannotServe(AttributeError):
    """Explain why the model cannot score an unseen user; an AttributeError for ``hasattr``."""


def _check_device(device: str | torch.device | None) -> None:
    try:
        torch.empty(1, device=device)
    # PyTorch raises the first for an unknown name, the second without CUDA.
    except (RuntimeError, AssertionError) as error:
        cause = shortened(one_line(error), 200)
        raise ValueError(f"the device {device} cannot be used here: {cause}") from None


def _checked_name(path: str, settings: Mapping[str, Any]) -> str:
    name = settings.get("model") if isinstance(settings, Mapping) else None
    if not isinstance(name, str):
        raise ValueError(f"{path} holds no model: its config names none.")
    try:
        model_class = get_model(name)
    except Exception:
        raise import_fault(name) or ValueError(
            f"{path} holds a model of the class {name}, which is not known here: if it is your "
            "own, import and register it first (for commands: RECBOLE_EVCF_PLUGINS)."
        ) from None
    if not getattr(model_class, "folds_in", False) and name not in FOLD_IN_MODELS:
        ours = ", ".join(model.__name__ for model in (*MODELS, *BASELINES))
        raise ValueError(
            f"{path} holds a {name}, which has no way to score a user from a history. "
            f"Models that can: {ours}, {', '.join(FOLD_IN_MODELS)}."
        )
    return name


def _build(checkpoint: dict, device: str | torch.device | None) -> nn.Module:
    config = restored_config(checkpoint["config"])
    if device is not None:
        config["device"] = torch.device(device)
    _check_config(config)
    catalogue = ItemCatalogue.from_plain(checkpoint["item_catalogue"])
    dataset = _Unseen(config, catalogue, int(checkpoint["n_users"]))
    state = checkpoint["state_dict"]
    model_class: Any = get_model(config["model"])
    if config["model"] in LEARNED_IN_CONSTRUCTOR:
        model = _without_constructor(model_class, config, dataset, state)
    else:
        with bound_by_weights(state):
            model = model_class(config, dataset)
    model.load_state_dict(state)
    model.load_other_parameter(checkpoint.get("other_parameter"))
    model.item_catalogue = catalogue
    model = model.to(config["device"]).eval()
    _check_scores(model, len(catalogue))
    return model


def _check_config(config: Config) -> None:
    if config["model"] == "LDiffRec" and config["n_cate"] > 1:
        raise _CannotServe(
            "with n_cate above 1, whose groups of items are computed from a file of its data set: "
            f"{FROM_ITS_DATA}."
        )
    if config["model"] in ("ItemKNN", "AsymKNN") and config["knn_method"] == "user":
        raise _CannotServe(
            "with knn_method: user, which compares users seen in training and cannot score an "
            "unseen one."
        )
    if issubclass(config.model_class, VAERecommender):
        # The file holds the trained values: none is drawn from histories.
        config["pseudo_inputs_init"] = "normal"


def _without_constructor(
    model_class: Any, config: Config, dataset: _Unseen, state: Mapping[str, Tensor]
) -> Any:
    model = model_class.__new__(model_class)
    GeneralRecommender.__init__(model, config, dataset)
    for name, value in state.items():
        model.register_parameter(name, nn.Parameter(value, requires_grad=False))
    for key in LEARNED_IN_CONSTRUCTOR[config["model"]]:
        setattr(model, key, config[key])
    return model


def _check_scores(model: nn.Module, n_items: int) -> None:
    """Score a user with one item, to check what RecBole's models keep besides their weights."""
    one = Histories.from_interactions(np.zeros(1, np.int64), np.ones(1, np.int64), 1, n_items + 1)
    if scores_of_histories(model, one).shape != (1, n_items):
        raise ValueError("its scores are not those of its items.")


class _Unseen:
    """A stand-in for a RecBole ``Dataset`` of the right size without interactions."""

    dataset_path = ""  # where LDiffRec would look for a file

    def __init__(self, config: Config, items: ItemCatalogue, n_users: int):
        user, item = self.uid_field, self.iid_field = (
            config["USER_ID_FIELD"],
            config["ITEM_ID_FIELD"],
        )
        self.user_num, self.item_num = n_users, len(items) + 1
        self.num = {user: n_users, item: len(items) + 1}.__getitem__
        self.inter_feat = dict.fromkeys((user, item), torch.zeros(0, dtype=torch.long))
        self.field2id_token = {item: ["[PAD]", *items.tokens]}
        # Future users are scored as user 0, so past users need no row each.
        self.input_histories = Histories(scipy.sparse.csr_matrix((1, len(items))))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _CannotServe(
            f"whose constructor reads {name} of its data set, which is not at hand: "
            f"{FROM_ITS_DATA}, or make the constructor do without."
        )
