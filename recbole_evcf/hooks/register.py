"""Every hook into RecBole, each an addition beside what RecBole does for its own models.

Registering twice changes nothing.
"""

from __future__ import annotations

import functools
import glob
import importlib
import logging
import math
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from logging import getLogger
from types import SimpleNamespace

import numpy as np
import recbole.data
import recbole.data.dataset
import recbole.data.utils
import recbole.trainer
import torch
from recbole.config import Config
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.evaluator import register as metric_registry
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.evaluator import Evaluator
from recbole.evaluator.metrics import AveragePopularity, TailPercentage
from recbole.model import general_recommender
from recbole.model.abstract_recommender import (
    AbstractRecommender,
    AutoEncoderMixin,
    ContextRecommender,
    GeneralRecommender,
    KnowledgeRecommender,
    SequentialRecommender,
)
from recbole.quick_start import quick_start as recbole_quick_start
from recbole.sampler import RepeatableSampler, Sampler
from recbole.trainer.trainer import PretrainTrainer, Trainer
from recbole.utils import FeatureSource, set_color
from thop.profile import register_hooks
from torch import nn

from recbole_evcf import distributed, quick_start
from recbole_evcf.config import checks
from recbole_evcf.config.evaluation import overridden
from recbole_evcf.config.files import shipped_yaml
from recbole_evcf.config.keys import DECLARED
from recbole_evcf.data import atomic
from recbole_evcf.data.dataloader import (
    FullSortHistoryDataLoader,
    TrainUserDataLoader,
    held_out_phases,
    ranked_phases,
)
from recbole_evcf.data.exact_times import keeping_times_exact, round_times
from recbole_evcf.data.histories import Histories
from recbole_evcf.data.item_catalogue import ItemCatalogue
from recbole_evcf.data.loading import (
    count,
    grouped_index,
    parts_by_ratio,
    rows_of,
    with_c_engine,
)
from recbole_evcf.data.loading_settings import check_columns, check_loading, check_values
from recbole_evcf.data.strong_generalization import (
    build_parts,
    check_times,
    is_sg,
    split_seed,
)
from recbole_evcf.data.vocabulary import Vocabulary
from recbole_evcf.evaluator.hits import top_hits
from recbole_evcf.evaluator.metrics import TruncatedRecall
from recbole_evcf.evaluator.per_user import (
    per_user_values,
    ranked_users,
    standard_errors,
    write_per_user,
)
from recbole_evcf.hooks.fixes import Forward, wrap_once
from recbole_evcf.model.fold_in import (
    ADAPTERS,
    SAMPLING_MODELS,
    add_adapter,
    input_rating_matrix,
    learned_matrices,
    remembering_projection,
)
from recbole_evcf.model.layers import HistoryLinear, Linear, OutputLayer
from recbole_evcf.model.models import BASELINES, MODELS
from recbole_evcf.model.recommender import VAERecommender
from recbole_evcf.trainer.checkpoint import from_plain, note_tested, save_checkpoint
from recbole_evcf.trainer.generators import drawing_apart
from recbole_evcf.trainer.optimizer import AdamNormGrad
from recbole_evcf.trainer.trainer import VAETrainer
from recbole_evcf.utils.plugins import import_plugins

__all__ = ["register", "register_fold_in", "register_model"]

# The keys that turn on RecBole's saved data sets and saved splits, and say where they are.
DATASET_KEYS = ("save_dataset", "dataset_save_path")
SPLIT_KEYS = ("save_dataloaders", "dataloaders_save_path")


def register() -> None:
    """Make RecBole know the models, their settings, dataloaders, trainer and checkpoints."""
    for model in (*MODELS, *BASELINES):
        register_model(model)
    _register_config()
    _register_dataloaders()
    _register_metrics()
    _register_fold_in()
    _register_flops()
    _register_training()
    _register_checkpoints()
    _register_quick_start()
    _register_processes()
    _register_loading()
    _register_saved_data()
    wrap_once(GeneralRecommender, "__init__", _knowing_its_items)
    for base in (ContextRecommender, KnowledgeRecommender, SequentialRecommender):
        wrap_once(base, "__init__", _knowing_its_vocabulary)
    wrap_once(Dataset, "_dataframe_to_interaction", keeping_times_exact)
    wrap_once(Dataset, "build", _splitting)
    wrap_once(Dataset, "__str__", _in_a_line)


def register_model(
    model: type[nn.Module],
    trainer: type[Trainer] | None = None,
    defaults: Mapping[str, object] | None = None,
) -> None:
    """Make a recommender known to ``get_model`` and ``get_trainer`` by its class name.

    Args:
        model: a RecBole recommender class.
        trainer: its trainer class; by default ours for our models and their subclasses, and what
            RecBole takes for the model's ``type`` for others.
        defaults: config keys and what they are unless the user sets them. What they do not name is
            as in the classes it extends.
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
            row for each user id, the fold-in history of a held-out user. ``dataset.inter_feat``
            holds interactions of training users alone.
        show: ``show(view, histories)`` makes a view of a trained model score from other histories:
            user id n then is row n. What it sets on the view the model does not get; the tensors
            are the model's, and not to be written to.
        samples: whether it learns from interactions and sampled negatives, as BPR does; else it
            gets batches of training users, as autoencoders do, or learns in its constructor.

    Raises:
        ValueError: RecBole has no general recommender of this name.
    """
    try:
        module = importlib.import_module(f"recbole.model.general_recommender.{name.lower()}")
        model_class = getattr(module, name)
    except (ImportError, AttributeError):
        raise ValueError(f"RecBole has no general recommender named {name!r}.") from None
    add_adapter(name, adapter, show, samples)
    wrap_once(model_class, "__init__", functools.partial(_folding_in, name))


def _register_config() -> None:
    wrap_once(Config, "_get_model_and_dataset", _naming_unknown_models)
    wrap_once(Config, "_load_internal_config_dict", _with_shipped_defaults)
    wrap_once(Config, "_load_config_files", _by_name_or_path)
    wrap_once(Config, "_set_default_parameters", _preferring_own_files)
    wrap_once(Config, "_merge_external_config_dict", _overriding_parts)
    wrap_once(Config, "__init__", _checking)
    wrap_once(Config, "__str__", _in_few_lines)
    wrap_once(Config, "_init_device", _joining)


def _naming_unknown_models(original):
    def _get_model_and_dataset(self, model, dataset):
        name = self.external_config_dict.get("dataset") if dataset is None else dataset
        if name is not None:
            checks.check_dataset_name(name)
        import_plugins()
        try:
            return original(self, model, dataset)
        except KeyError as error:
            raise ValueError(error.args[0]) from None
        # Whatever a module raises when it is imported.
        except Exception:
            name = str(model or self.external_config_dict["model"])
            raise checks.unknown_model(name) from None

    return _get_model_and_dataset


def _with_shipped_defaults(original):
    def _load_internal_config_dict(self, model, model_class, dataset):
        original(self, model, model_class, dataset)
        # A subclass starts from the defaults of the model it extends.
        for base in reversed(model_class.__mro__):
            _read_shipped(self, f"model/{base.__name__}")
            self.internal_config_dict.update(DECLARED.get(base, {}))
        if checks.is_vae(self):
            _read_shipped(self, f"quick_start_config/{dataset}")

    return _load_internal_config_dict


def _read_shipped(config, name: str) -> None:
    path = shipped_yaml(name)
    if path is not None:
        config._update_internal_config_dict(path)


def _by_name_or_path(original):
    def _load_config_files(self, file_list):
        paths = checks.resolve_config_files(file_list or [])
        contents = {path: original(self, [path]) for path in paths}
        self.file_of_key = {key: path for path in paths for key in contents[path]}
        return overridden(*(contents[path] for path in paths))

    return _load_config_files


def _preferring_own_files(original):
    def _set_default_parameters(self):
        folder = os.path.join(self.final_config_dict["data_path"], self.dataset)
        original(self)
        # For this name RecBole always takes the files that it ships.
        if self.dataset == "ml-100k" and glob.glob(f"{glob.escape(folder)}/ml-100k*.inter"):
            self.final_config_dict["data_path"] = folder

    return _set_default_parameters


def _overriding_parts(original):
    def _merge_external_config_dict(self):
        sources = (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict)
        self.external_config_dict = checks.with_nulls(overridden(*sources))

    return _merge_external_config_dict


def _checking(original):
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        checks.check_settings(self)
        check_loading(self)
        _refuse_to_save_data(self)
        if is_sg(self) and self["model"] not in SAMPLING_MODELS:
            self["train_neg_sample_args"] = None
            self._set_train_neg_sample_args()

    return __init__


def _in_few_lines(original):
    return lambda self: checks.settings_in_lines(self)


def _register_dataloaders() -> None:
    original = recbole.data.utils.get_dataloader
    wrap_once(recbole.data.utils, "get_dataloader", _with_history_dataloaders)
    _replace_everywhere(original, recbole.data.utils.get_dataloader)
    wrap_once(recbole.data.utils, "create_samplers", _without_sampling)


def _splitting(original):
    def build(self):
        by_users = is_sg(self.config)
        parts = build_parts(self) if by_users else _split_by_its_seed(original, self)
        round_times((self, *parts))
        return parts

    return build


def _split_by_its_seed(original, dataset) -> list:
    in_time = dataset.config["eval_args"]["order"] == "TO"
    if in_time and dataset.benchmark_filename_list is None:
        times = dataset.inter_feat.get(dataset.time_field)
        # Built-in models go on where all times are missing, as they do without the plugin.
        if times is None or checks.is_vae(dataset.config):
            check_times(dataset, times)
    if dataset.config["split_seed"] is None:
        return original(dataset)
    # RecBole shuffles with torch's generator, which the seed of the model has set.
    with drawing_apart(split_seed(dataset.config)):
        return original(dataset)


def _in_a_line(original):
    return lambda self: original(self).replace("\n", ", ")


def _with_history_dataloaders(original):
    def get_dataloader(config, phase):
        if is_sg(config):
            return _sg_dataloader(original, config, phase)
        if not checks.is_vae(config):
            return original(config, phase)
        if phase == "train":
            return TrainUserDataLoader
        return FullSortHistoryDataLoader if _ranks_all_items(config) else original(config, phase)

    return get_dataloader


def _sg_dataloader(original, config, phase):
    if phase != "train":
        return FullSortHistoryDataLoader
    sampling = config["model"] in SAMPLING_MODELS
    return original(config, phase) if sampling else TrainUserDataLoader


def _without_sampling(original):
    def create_samplers(config, dataset, built_datasets):
        if is_sg(config):
            train, *held_out = built_datasets
            phases = held_out_phases(held_out, config["repeatable"])
            return [_sampler_of_training_users(config, train), *phases]
        if checks.is_vae(config) and _ranks_all_items(config):
            return ranked_phases(built_datasets, config["repeatable"])
        return original(config, dataset, built_datasets)

    return create_samplers


def _sampler_of_training_users(config, dataset) -> Sampler | RepeatableSampler | None:
    if config["model"] not in SAMPLING_MODELS:
        return None
    arguments = config["train_neg_sample_args"]
    sampler_class = RepeatableSampler if config["repeatable"] else Sampler
    sampler = sampler_class("train", dataset, arguments["distribution"], arguments["alpha"])
    return sampler.set_phase("train")


def _ranks_all_items(config) -> bool:
    return set(config["eval_args"]["mode"].values()) == {"full"}


def _register_fold_in() -> None:
    for name in ADAPTERS:
        model_class = getattr(general_recommender, name)
        wrap_once(model_class, "__init__", functools.partial(_folding_in, name))
    wrap_once(AutoEncoderMixin, "build_histroy_items", _without_padded_matrix)
    wrap_once(AutoEncoderMixin, "get_rating_matrix", _from_input_histories)


def _folding_in(name, original):
    def __init__(self, config, dataset):
        # Pop is wrong whatever the split.
        if hasattr(dataset, "input_histories") or name == "Pop":
            ADAPTERS[name](original, self, config, dataset)
        elif name == "NCEPLRec":
            remembering_projection(original, self, config, dataset)
        else:
            original(self, config, dataset)

    return __init__


def _without_padded_matrix(original):
    def build_histroy_items(self, dataset):
        if not hasattr(self, "_input_histories"):
            original(self, dataset)

    return build_histroy_items


def _from_input_histories(original):
    def get_rating_matrix(self, user):
        if hasattr(self, "_input_histories"):
            return input_rating_matrix(self, user)
        return original(self, user)

    return get_rating_matrix


def _register_metrics() -> None:
    # Dicts that the rest of RecBole has by reference.
    metric_registry.metrics_dict["truncatedrecall"] = TruncatedRecall
    metric_registry.metric_information["truncatedrecall"] = TruncatedRecall.metric_need
    metric_registry.metric_types["truncatedrecall"] = TruncatedRecall.metric_type
    wrap_once(TopkMetric, "used_info", _with_cut_offs_above_all_items)
    for metric in (AveragePopularity, TailPercentage):
        wrap_once(metric, "metric_info", _as_at_all_items)
    wrap_once(TopkMetric, "topk_result", _keeping_per_user)
    wrap_once(Evaluator, "evaluate", _with_standard_errors)
    wrap_once(Collector, "eval_batch_collect", _collecting_hits)
    wrap_once(Trainer, "evaluate", _evaluating)


def _with_cut_offs_above_all_items(original):
    """Where K is above the number of items, nothing is found at the ranks behind the last one."""

    def used_info(self, dataobject):
        ranked = dataobject.get("rec.topk")
        missing = max(self.topk) + 1 - ranked.shape[1]
        if missing > 0:
            # The last column is the number of items to be found.
            hits = nn.functional.pad(ranked[:, :-1], (0, missing))
            dataobject = {"rec.topk": torch.cat([hits, ranked[:, -1:]], dim=1)}
        return original(self, dataobject)

    return used_info


def _as_at_all_items(original):
    """A mean over the recommended items is, where K is above their number, that of all."""

    def metric_info(self, values):
        means = original(self, values)
        missing = max(self.topk) - means.shape[1]
        return np.pad(means, ((0, 0), (0, max(missing, 0))), mode="edge")

    return metric_info


def _keeping_per_user(original):
    def topk_result(self, metric, value):
        self.per_user = value
        return original(self, metric, value)

    return topk_result


def _with_standard_errors(original):
    def evaluate(self, dataobject):
        # Not NumPy's numbers in an OrderedDict, which nobody can read in a log.
        result = {name: float(value) for name, value in original(self, dataobject).items()}
        if self.config["standard_error"]:
            values = per_user_values(self.metric_class, self.config["topk"])
            result.update(standard_errors(values, self.config["metric_decimal_place"]))
        return result

    return evaluate


def _collecting_hits(original):
    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        need = self.register.need
        if any(need(name) for name in ("rec.meanrank", "rec.score", "data.label")):
            # Value metrics have a score for each interaction, and no ranking.
            n_items = scores_tensor.shape[-1] if scores_tensor.dim() > 1 else math.inf
            asked = self.topk
            self.topk = [min(max(asked), n_items)]
            original(self, scores_tensor, interaction, positive_u, positive_i)
            self.topk = asked
            return
        if need("rec.items") or need("rec.topk"):
            items, hits = top_hits(scores_tensor, max(self.topk), positive_u, positive_i)
            if need("rec.items"):
                self.data_struct.update_tensor("rec.items", items)
            if need("rec.topk"):
                self.data_struct.update_tensor("rec.topk", hits)

    return eval_batch_collect


def _evaluating(original):
    def evaluate(self, eval_data, load_best_model=True, model_file=None, *args, **kwargs):
        vocabulary = getattr(self.model, "vocabulary", None)
        if vocabulary is not None and eval_data:
            vocabulary.check(eval_data._dataset)
        if load_best_model:
            note_tested(str(model_file or self.saved_model_file))
        result = original(self, eval_data, load_best_model, model_file, *args, **kwargs)
        if getattr(getattr(eval_data, "_sampler", None), "phase", None) != "test":
            return result
        path = self.config["per_user_file"]
        if path and distributed.is_first():
            users = ranked_users(eval_data)
            # None: sequential models may rank for a user more than once.
            if users is not None:
                values = per_user_values(self.evaluator.metric_class, self.config["topk"])
                write_per_user(path, users, values)
        return result

    return evaluate


def _register_flops() -> None:
    """RecBole's FLOP counter knows layers by their exact class."""
    register_hooks[Linear] = register_hooks[OutputLayer] = register_hooks[nn.Linear]
    register_hooks[HistoryLinear] = _count_history_linear


def _count_history_linear(layer: HistoryLinear, inputs, output) -> None:
    entries = len(inputs[0].column) + layer.n_dense * len(output)
    layer.total_ops += entries * output.shape[1]


def _register_training() -> None:
    wrap_once(Trainer, "_build_optimizer", _knowing_our_learner)
    wrap_once(Trainer, "_valid_epoch", _counting_after_warmup)


def _knowing_our_learner(original):
    def _build_optimizer(self, **kwargs):
        known = {"adam_norm_grad": AdamNormGrad}
        if isinstance(self.model, VAERecommender):
            known["adam"] = functools.partial(torch.optim.Adam, fused=True)
        learner = kwargs.get("learner", self.learner).lower()
        if learner not in known:
            return original(self, **kwargs)
        return known[learner](
            kwargs.get("params", self.model.parameters()),
            lr=kwargs.get("learning_rate", self.learning_rate),
            weight_decay=kwargs.get("weight_decay", self.weight_decay),
        )

    return _build_optimizer


def _counting_after_warmup(original):
    def _valid_epoch(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        # RecBole adds one where nothing is better: none is counted for early stopping.
        if isinstance(self.model, VAERecommender) and not self.model.warmup.was_finished:
            self.cur_step = -1
        return result

    return _valid_epoch


def _register_checkpoints() -> None:
    wrap_once(Trainer, "_save_checkpoint", _saving_plainly)
    wrap_once(PretrainTrainer, "save_pretrained_model", _saving_pretrained_plainly)
    wrap_once(AbstractRecommender, "load_other_parameter", _loading_plainly)


def _knowing_its_items(original):
    def __init__(self, config, dataset):
        original(self, config, dataset)
        self.item_catalogue = ItemCatalogue.from_dataset(dataset)
        self.vocabulary = Vocabulary(dataset)

    return __init__


def _knowing_its_vocabulary(original):
    def __init__(self, config, dataset):
        original(self, config, dataset)
        self.vocabulary = Vocabulary(dataset)

    return __init__


def _state(trainer: Trainer, epoch: int) -> dict:
    model = trainer.model
    other = {**model.other_parameter(), **learned_matrices(model)}
    return {
        **_what_serving_needs(model),
        "config": trainer.config,
        "epoch": epoch,
        "state_dict": model.state_dict(),
        # What is itself a part of the network is in the state_dict already.
        "other_parameter": {k: v for k, v in other.items() if not isinstance(v, nn.Module)},
        "optimizer": trainer.optimizer.state_dict(),
    }


def _what_serving_needs(model: nn.Module) -> dict:
    """What a model cannot be built without where its data set is not."""
    if not isinstance(model, GeneralRecommender):
        return {}
    return {"n_users": model.n_users, "item_catalogue": model.item_catalogue.to_plain()}


def _saving_plainly(original):
    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        if not distributed.is_first():
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        progress = {"cur_step": self.cur_step, "best_valid_score": self.best_valid_score}
        training = getattr(self, "training_state", dict)()
        save_checkpoint({**_state(self, epoch), **progress, **training}, path)
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {path}")

    return _save_checkpoint


def _saving_pretrained_plainly(original):
    def save_pretrained_model(self, epoch, saved_model_file):
        # The next stage is given the first, which any run with this data set writes. What this
        # run is tested with must be its own.
        for path in (saved_model_file, self.saved_model_file):
            save_checkpoint(_state(self, epoch), path)

    return save_pretrained_model


def _loading_plainly(original):
    def load_other_parameter(self, para):
        return original(self, from_plain(para))

    return load_other_parameter


def _register_quick_start() -> None:
    for name in ("load_data_and_model", "run"):
        _replace_everywhere(getattr(recbole_quick_start, name), getattr(quick_start, name))
    # The name under which a new process finds its work, and by it the plugin.
    sys.modules["recbole.quick_start.quick_start"].run_recboles = quick_start.run_recboles


def _replace_everywhere(old: Callable, new: Callable) -> None:
    """Put a function in the place of one that modules have by reference, RecBole's and those of
    users who imported it before this package."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            # Ours keep RecBole's own under names with an underscore.
            if value is old and not name.startswith("_"):
                setattr(module, name, new)


def _joining(original):
    def _init_device(self):
        settings = self.final_config_dict
        if "local_rank" not in settings or not checks.is_vae(self):
            original(self)
            return
        # As one process that is alone, which each is to RecBole: distributed.py divides the work.
        local_rank = settings.pop("local_rank")
        original(self)
        settings["local_rank"] = local_rank
        if settings["use_gpu"] is False:
            settings["device"] = torch.device("cpu")
        if settings["device"].type == "cuda":
            settings["device"] = torch.device("cuda", local_rank)
            torch.cuda.set_device(local_rank)
        distributed.join(
            local_rank + settings["offset"],
            settings["world_size"],
            settings["device"],
            settings["ip"],
            int(settings["port"]),
        )
        if not distributed.is_first():
            settings.update(_OF_THE_FIRST_ONLY)

    return _init_device


# What only the first process says and writes.
_OF_THE_FIRST_ONLY = {
    "state": "error",
    "show_progress": False,
    "verbose": False,
    "log_wandb": False,
}


def _register_processes() -> None:
    quick_start_module = importlib.import_module("recbole.quick_start.quick_start")
    trainer_module = importlib.import_module("recbole.trainer.trainer")
    wrap_once(quick_start_module, "init_logger", _logging_once)
    wrap_once(trainer_module, "get_tensorboard", _one_tensorboard)
    wrap_once(trainer_module, "ensure_dir", _making_folders_once)


def _logging_once(original):
    def init_logger(config):
        if distributed.is_first():
            original(config)
        else:
            logging.basicConfig(level=logging.ERROR)

    return init_logger


def _one_tensorboard(original):
    def get_tensorboard(logger):
        if not distributed.is_first():
            return _NoTensorBoard()
        files = [h.baseFilename for h in logger.handlers if hasattr(h, "baseFilename")]
        # RecBole cuts the name at its first dot, and the time with it where a data set has one.
        names = [os.path.basename(file)[:-4].replace(".", "_") for file in files[:1]]
        handlers = [SimpleNamespace(baseFilename=name) for name in names]
        return original(SimpleNamespace(handlers=handlers))

    return get_tensorboard


def _making_folders_once(original):
    def ensure_dir(path):
        if distributed.is_first():
            original(path)

    return ensure_dir


class _NoTensorBoard:
    """In the place of TensorBoard's writer, which makes a file at once."""

    def add_scalar(self, *args, **kwargs) -> None:
        """Write nothing."""

    add_hparams = add_scalar


def _register_loading() -> None:
    wrap_once(Dataset, "_load_feat", _describing_faults)
    wrap_once(Dataset, "_load_user_or_item_feat", _missing_no_file)
    wrap_once(Dataset, "_filter_by_field_value", _filtering_by_fitting_values)
    wrap_once(Dataset, "_grouped_index", lambda original: lambda self, keys: grouped_index(keys))
    wrap_once(Dataset, "split_by_ratio", _splitting_by_ratio)
    wrap_once(Interaction, "__getitem__", _taking_rows)
    if dataset_module.Counter is not count:
        dataset_module.Counter = count
        pandas = dataset_module.pd
        dataset_module.pd = Forward(pandas, read_csv=with_c_engine(pandas.read_csv))


def _splitting_by_ratio(original):
    def split_by_ratio(self, ratios, group_by=None):
        if group_by is None:
            return original(self, ratios, group_by)
        self.logger.debug(f"split by ratios [{ratios}], group_by=[{group_by}]")
        total = sum(ratios)
        shares = [ratio / total for ratio in ratios]
        keys = self.inter_feat[group_by].numpy()
        places = parts_by_ratio(keys, lambda size: self._calcu_split_ids(size, shares))
        self._drop_unused_col()
        return [self.copy(self.inter_feat[part]) for part in places]

    return split_by_ratio


def _taking_rows(original):
    def __getitem__(self, index):
        rows = rows_of(self.interaction, index)
        return original(self, index) if rows is None else Interaction(rows)

    return __getitem__


def _describing_faults(original):
    def _load_feat(self, filepath, source):
        suffix = getattr(source, "value", source)
        # RecBole opens no file of which nothing is asked for.
        if self._get_load_and_unload_col(suffix)[0] == set():
            return original(self, filepath, source)
        required = {
            FeatureSource.INTERACTION: (self.uid_field, self.iid_field),
            FeatureSource.USER: (self.uid_field,),
            FeatureSource.ITEM: (self.iid_field,),
        }.get(source, ())
        form = filepath, self.config["field_separator"], self.config["encoding"]
        columns = atomic.check_header(*form, required)
        check_columns(self.config, suffix, filepath, columns, required)
        with atomic.reading(*form, required, self.config["seq_separator"]):
            feat = original(self, filepath, source)
        if source is FeatureSource.INTERACTION and feat is not None:
            _check_ids(self, filepath, feat, required)
            _warn_of_missing_times(self, filepath, feat)
        return feat

    return _load_feat


def _missing_no_file(original):
    def _load_user_or_item_feat(self, token, dataset_path, source, field_name):
        path = os.path.join(dataset_path, f"{token}.{source.value}")
        if not os.path.isfile(path):
            check_columns(self.config, source.value, path, None)
        return original(self, token, dataset_path, source, field_name)

    return _load_user_or_item_feat


def _filtering_by_fitting_values(original):
    def _filter_by_field_value(self):
        check_values(self.config["val_interval"], self.field2type)
        original(self)

    return _filter_by_field_value


def _check_ids(dataset, filepath, feat, required) -> None:
    """RecBole filters no benchmark files: who is missing there would become its padding."""
    ours = is_sg(dataset.config) or checks.is_vae(dataset.config)
    if dataset.benchmark_filename_list is None or not ours:
        return
    for field in required:
        missing = np.flatnonzero(feat[field].isna())
        if len(missing):
            # The header is line 1.
            raise ValueError(f"{filepath}, line {missing[0] + 2}: there is no {field}.")


def _warn_of_missing_times(dataset, filepath, feat) -> None:
    if dataset.config["eval_args"]["order"] != "TO" or dataset.time_field not in feat:
        return
    missing = int(feat[dataset.time_field].isna().sum())
    if missing:
        getLogger().warning(
            f"{filepath}: {missing:,} of {len(feat):,} interactions have no {dataset.time_field}; "
            "in the order TO they stand at the mean of all times."
        )


def _register_saved_data() -> None:
    utils = recbole.data.utils
    original = utils.create_dataset
    wrap_once(utils, "create_dataset", _reading_only_if_asked)
    _replace_everywhere(original, utils.create_dataset)
    wrap_once(utils, "load_split_dataloaders", _loading_only_if_asked)
    # RecBole compares these with a saved file's: the seed of the split is one of ours.
    if "split_seed" not in utils.dataset_arguments:
        utils.dataset_arguments = [*utils.dataset_arguments, "split_seed"]


def _refuse_to_save_data(config) -> None:
    if not (checks.is_vae(config) or is_sg(config)):
        return
    for key in (*DATASET_KEYS, *SPLIT_KEYS):
        if config[key]:
            who = "the split by users (SG)" if is_sg(config) else config["model"]
            raise ValueError(
                f"{key} cannot be used with {who}, whose data RecBole does not save correctly: "
                "remove it; reading and splitting takes seconds."
            )


def _asks_for(config, keys: tuple[str, str]) -> bool:
    return any(config[key] for key in keys)


def _reading_only_if_asked(original):
    def create_dataset(config):
        if config["dataset"] == "ml-100k":
            getLogger().info(f"ml-100k is read from {os.path.abspath(config['data_path'])}")
        if _asks_for(config, DATASET_KEYS):
            _warn_of_pickle(DATASET_KEYS)
            with _describing_bad_pickles(DATASET_KEYS):
                dataset = original(config)
            # A saved one has the config that it was saved with, by which it would be split.
            dataset.config = config
            return dataset
        named = config["dataset_save_path"]
        # RecBole unpickles whatever lies under its default name.
        config["dataset_save_path"] = os.path.join(os.devnull, "none")
        try:
            return original(config)
        finally:
            config["dataset_save_path"] = named

    return create_dataset


def _loading_only_if_asked(original):
    def load_split_dataloaders(config):
        if not _asks_for(config, SPLIT_KEYS):
            return None
        _warn_of_pickle(SPLIT_KEYS)
        with _describing_bad_pickles(SPLIT_KEYS):
            return original(config)

    return load_split_dataloaders


def _warn_of_pickle(keys: tuple[str, str]) -> None:
    getLogger().warning(
        f"{' and '.join(keys)} make RecBole write and read a pickle, which runs the code in it: "
        "use only files that you made."
    )


@contextmanager
def _describing_bad_pickles(keys: tuple[str, str]) -> Iterator[None]:
    try:
        yield
    except (EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the file that {' or '.join(keys)} names or has made is corrupt ({error}): remove it."
        ) from error
