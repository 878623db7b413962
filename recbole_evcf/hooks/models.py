"""Our models registered with RecBole, and adapters that let its own score new users."""

import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import Any

import recbole.trainer
import torch
from recbole.data.dataset import Dataset
from recbole.model.abstract_recommender import AbstractRecommender, GeneralRecommender
from recbole.trainer.trainer import Trainer
from thop.profile import register_hooks
from torch import nn

from recbole_evcf.config.checks import DECLARED
from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue, Vocabulary
from recbole_evcf.hooks.wrapping import make_by
from recbole_evcf.model.fold_in import FOLD_IN_MODELS, FoldIn, remembering_projection
from recbole_evcf.model.layers import HistoryLinear, Linear, OutputLayer
from recbole_evcf.model.linear_path import GatedHVampLinear
from recbole_evcf.model.models import MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.trainer.linear_path import LinearPathTrainer
from recbole_evcf.trainer.trainer import VAETrainer


def register_model(
    model: type[nn.Module],
    trainer: type[Trainer] | None = None,
    defaults: Mapping[str, object] | None = None,
) -> None:
    """Make a recommender known to ``get_model`` and ``get_trainer`` by its class name.

    Args:
        model: a RecBole recommender class.
        trainer: its trainer class; by default ours for our models and their subclasses, for others
            what RecBole takes for the model's ``type``.
        defaults: config keys that differ from those of the classes it extends.

    >>> import recbole_evcf
    >>> class WideVamp(recbole_evcf.Vamp):
    ...     "Vamp with other defaults."
    >>> recbole_evcf.register_model(WideVamp, defaults={"mlp_hidden_size": [900]})
    """
    DECLARED[model] = dict(defaults or {})
    name = f"recbole.model.general_recommender.{model.__name__.lower()}"
    if name not in sys.modules:
        sys.modules[name] = module_from_spec(ModuleSpec(name, loader=None))
    setattr(sys.modules[name], model.__name__, model)
    if trainer is None and issubclass(model, VAERecommender):
        trainer = VAETrainer
    if trainer is not None:
        setattr(recbole.trainer, f"{model.__name__}Trainer", trainer)


def register_fold_in(
    name: str,
    adapter: Callable[..., None],
    show: Callable[[nn.Module, Histories], None],
    samples: bool = False,
) -> None:
    """Let a general recommender of RecBole's be trained and scored under the split by users.

    Args:
        name: of RecBole's class, in ``recbole.model.general_recommender``.
        adapter: ``adapter(construct, model, config, dataset)`` runs ``construct(model, config,
            dataset)``, the class's own constructor, and makes the model score from
            ``dataset.input_histories``: a :class:`~recbole_evcf.data.histories.Histories` with a
            row for each user id. ``dataset.inter_feat`` holds those of training users alone.
        show: ``show(view, histories)`` makes a view of a trained model score from other histories:
            user id n then is row n. The view's tensors are the model's, and not to be written to.
        samples: whether it learns from interactions and sampled negatives, as BPR does; otherwise
            it gets batches of training users, as autoencoders do, or learns in its constructor.

    Raises:
        ValueError: RecBole has no general recommender of this name.

    An unseen user's vector of BPR as the mean of the vectors of the items in the history:

    >>> import functools, recbole_evcf, torch
    >>> def scores(model, histories, interaction):
    ...     history = histories.rows(interaction["user_id"])
    ...     items = model.item_embedding.weight
    ...     ids = history.column + 1  # RecBole has a padding item.
    ...     return torch.nn.functional.embedding_bag(ids, items, history.offsets) @ items.T
    >>> def show(model, histories):
    ...     model.full_sort_predict = functools.partial(scores, model, histories.to(model.device))
    >>> def adapter(construct, model, config, dataset):
    ...     construct(model, config, dataset)
    ...     show(model, dataset.input_histories)
    >>> recbole_evcf.register_fold_in("BPR", adapter, show, samples=True)
    >>> files = ["protocol/strong_generalization"]
    >>> recbole_evcf.run("BPR", "ml-100k", files, epochs=1)["test_result"]["ndcg@100"] > 0
    True
    """
    if _general_recommender(name) is None:
        raise ValueError(f"RecBole has no general recommender named {name!r}.")
    FOLD_IN_MODELS[name] = FoldIn(show, adapter, samples)


def _general_recommender(name: str) -> type | None:
    module = sys.modules.get(f"recbole.model.general_recommender.{name.lower()}")
    return getattr(module, name, None)


def _new_model(cls: type, *args: Any, **kwargs: Any) -> nn.Module:
    """Return an uninitialised model, before its constructor runs with the same arguments."""
    dataset = kwargs.get("dataset", args[1] if len(args) > 1 else None)
    # Copying passes no arguments.
    if dataset is None:
        return object.__new__(cls)
    model: Any = object.__new__(_adapted(cls, dataset))
    model.vocabulary = Vocabulary(dataset)
    if isinstance(model, GeneralRecommender):
        model.item_catalogue = ItemCatalogue.from_dataset(dataset)
    return model


def _adapted(cls: type, dataset: Dataset) -> type:
    """Return the class, or one whose constructor an adapter runs."""
    known = [base for base in cls.__mro__ if _general_recommender(base.__name__) is base]
    name = next((base.__name__ for base in known if base.__name__ in FOLD_IN_MODELS), None)
    # Pop is wrong under any split.
    if name == "Pop" or (name and hasattr(dataset, "input_histories")):
        adapter = FOLD_IN_MODELS[name].construct
    elif name == "NCEPLRec":
        adapter = remembering_projection
    else:
        return cls
    construct: Callable = getattr(cls, "__init__")  # noqa: B009
    own: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    own["__init__"] = lambda self, config, dataset: adapter(construct, self, config, dataset)
    if name == "Pop":
        own["calculate_loss"] = lambda self, interaction: torch.zeros((), requires_grad=True)
    return type(cls.__name__, (cls,), own)


def _count_history_linear(layer: Any, inputs: Any, output: torch.Tensor) -> None:
    entries = len(inputs[0].column) + layer.n_dense * len(output)
    layer.total_ops += entries * output.shape[1]


make_by(AbstractRecommender, _new_model)
for _model in MODELS:
    register_model(_model)
register_model(GatedHVampLinear, LinearPathTrainer)
# RecBole's FLOP counter knows layers by their exact class.
register_hooks[Linear] = register_hooks[OutputLayer] = register_hooks[nn.Linear]
register_hooks[HistoryLinear] = _count_history_linear
