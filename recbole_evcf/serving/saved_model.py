"""Build a trained model from its file alone, without a data set or code from the file."""

import math
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import scipy.sparse
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import get_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_evcf.config.checks import import_fault
from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.model.fold_in import FOLD_IN_MODELS, scoring
from recbole_evcf.model.models import BASELINES
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.trainer.checkpoint import load_checkpoint, restored_config
from recbole_evcf.trainer.generators import drawing_apart
from recbole_evcf.utils.text import one_line, shortened, shown

# These learn in their constructors, which are not run again: the file has what they learned.
LEARNED_IN_CONSTRUCTOR = (
    *(model.__name__ for model in BASELINES),
    *("EASE", "SLIMElastic", "ADMMSLIM", "ItemKNN", "AsymKNN", "NCEPLRec"),
)
# What they read of the config when they score.
READ_WHEN_SCORING = "reg_weight", "reg_exponent", "alpha", "center_columns", "beta", "q"
# Beside what fold-in requires: with several categories, it reads its items' vectors from a file.
NEEDED = {"LDiffRec": {"n_cate": 1}}
# What initial weights are drawn by.
DRAWS = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


def load_model(path: str, device: str | torch.device | None = None) -> nn.Module:
    """Build the model of a file, ready to score.

    Its items are ``model.item_catalogue``, the settings of its training ``model.config``.

    Args:
        path: a model file saved with recbole_evcf imported.
        device: where it computes; by default where its config says, a GPU if there is one.

    Raises:
        ValueError: the device does not exist; or the file is missing, corrupt or not of a model
            that can score a user from a history.
    """
    try:
        torch.empty(1, device=device)
    # PyTorch raises the first for an unknown name, the second without CUDA.
    except (RuntimeError, AssertionError) as error:
        cause = shortened(one_line(error), 200)
        raise ValueError(f"the device {device} cannot be used here: {cause}") from None
    checkpoint = load_checkpoint(path, "cpu", {"optimizer"})
    name = _checked_name(path, checkpoint["config"])
    try:
        # Initial values are replaced by the file's, so they must use up no random numbers.
        with torch.random.fork_rng(devices=[]):
            return _build(name, checkpoint, device)
    # Corrupt files and those of another class raise exceptions of every kind.
    except Exception as error:
        cause = shortened(f"{type(error).__name__}: {one_line(error)}", 200)
        raise ValueError(
            f"{path} is corrupt, or its weights are of another model than the {name} that it names,"
            f" or its constructor needs the interactions of its data set ({cause})."
        ) from error


class AllocationBound(TorchDispatchMode):
    """A context in which new tensors may hold little more than a model's weights, ``state``, and
    ``more`` numbers, whatever sizes its file names; what exceeds that is a ``ValueError``.

    With ``draws`` False, weights are not drawn: the file's follow.
    """

    # torch.device("meta") would not do: RecBole's autoencoders index NumPy arrays with tensors in
    # their constructors, and tensors on that device hold no numbers.

    def __init__(self, state: Mapping[str, Tensor], more: int = 0, draws: bool = True) -> None:
        super().__init__()
        self._draws = draws
        n_bytes = sum(value.untyped_storage().nbytes() for value in state.values())
        # A constructor creates little but its weights.
        self._left = 8 * n_bytes + 10**7 + more

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Functions that make a tensor take its size first; others take an existing tensor.
        if args and isinstance(args[0], (list, tuple)) and all(isinstance(n, int) for n in args[0]):
            self._left -= math.prod(args[0])
            if self._left < 0:
                raise ValueError("the sizes that it gives are larger than its weights.")
        if func in DRAWS and not self._draws:
            return args[0]
        return func(*args, **(kwargs or {}))


def _checked_name(path: str, settings: Any) -> str:
    """Return the name of a model that can be built and scores unseen users."""
    settings = settings if isinstance(settings, Mapping) else {}
    name = str(settings.get("model"))
    try:
        model_class = get_model(name)
    except Exception:
        raise import_fault(name) or ValueError(
            f"{path} holds a model of the class {name}, which is not known here: if it is your "
            "own, import and register it first (for commands: RECBOLE_EVCF_PLUGINS)."
        ) from None
    if not getattr(model_class, "folds_in", False) and name not in FOLD_IN_MODELS:
        raise ValueError(f"{path} holds a {name}, which has no way to score a user from a history.")
    required = FOLD_IN_MODELS[name].required if name in FOLD_IN_MODELS else {}
    for key, value in {**required, **NEEDED.get(name, {})}.items():
        if str(settings.get(key, value)) != str(value):
            raise ValueError(
                f"{path} holds a {name} that cannot score a user from a history: its {key} is "
                f"{shown(settings[key])}, and would have to be {value}."
            )
    return name


def _build(name: str, checkpoint: dict, device: str | torch.device | None) -> nn.Module:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    config = restored_config(checkpoint["config"])
    if device is not None:
        config["device"] = torch.device(device)
        # RecBole has hidden all GPUs but that of the file.
        del os.environ["CUDA_VISIBLE_DEVICES"]
        os.environ |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    if issubclass(config.model_class, VAERecommender):
        # The file holds the trained values: none is drawn from histories.
        config["pseudo_inputs_init"] = "normal"
    catalogue = ItemCatalogue.from_plain(checkpoint["item_catalogue"])
    sizes = {config["USER_ID_FIELD"]: int(checkpoint["n_users"])}
    sizes[config["ITEM_ID_FIELD"]] = len(catalogue) + 1
    (user, n_users), (item, n_items) = sizes.items()
    # Has of RecBole's Dataset what a constructor may read: sizes, and no interactions.
    dataset = SimpleNamespace(
        dataset_path="",
        uid_field=user,
        iid_field=item,
        user_num=n_users,
        item_num=n_items,
        num=sizes.__getitem__,
        inter_feat=dict.fromkeys(sizes, torch.zeros(0, dtype=torch.long)),
        field2id_token={item: ["[PAD]", *catalogue.tokens]},
        # Future users are scored as user 0, so past users need no row each.
        input_histories=Histories(scipy.sparse.csr_matrix((1, n_items - 1))),
    )
    state, model_class = checkpoint["state_dict"], get_model(name)
    if name in LEARNED_IN_CONSTRUCTOR:
        model = model_class.__new__(model_class)
        GeneralRecommender.__init__(model, config, dataset)
        for key, value in state.items():
            model.register_parameter(key, nn.Parameter(value, requires_grad=False))
        for key in READ_WHEN_SCORING:
            setattr(model, key, config[key])
    else:
        # All that our networks draw is in the file.
        with AllocationBound(state, draws=not issubclass(model_class, VAERecommender)):
            model = model_class(config, dataset)
    model.load_state_dict(state)
    model.load_other_parameter(checkpoint.get("other_parameter"))
    model.item_catalogue, model.config = catalogue, config
    model = model.to(config["device"]).eval()
    # Score a user with one item, to check what RecBole's models keep besides their weights.
    view: Any = scoring(model, Histories(scipy.sparse.eye(1, n_items - 1)))
    with torch.no_grad(), drawing_apart(0, model.device):
        user_0 = {user: torch.zeros(1, dtype=torch.long, device=model.device)}
        if view.full_sort_predict(user_0).numel() != n_items:
            raise ValueError("its scores are not those of its items.")
    return model
