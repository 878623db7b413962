"""RecBole's ``Config`` with the shipped settings and checks, also for several processes."""

import glob
import os
from typing import Any

import torch
from recbole.config import Config
from recbole.utils import set_color

from recbole_evcf import distributed
from recbole_evcf.config import checks
from recbole_evcf.config.checks import DECLARED, unknown_model
from recbole_evcf.config.files import (
    read_config_file,
    resolve_config_files,
    shipped_file,
    with_nulls,
)
from recbole_evcf.config.keys import KEYS, checked
from recbole_evcf.data.loading_settings import check_loading
from recbole_evcf.data.prepare import prepared
from recbole_evcf.data.strong_generalization import is_sg
from recbole_evcf.hooks.wrapping import extends
from recbole_evcf.model.fold_in import learns_from_samples
from recbole_evcf.utils.packages import import_plugins
from recbole_evcf.utils.text import one_line

# RecBole's default.
DATA_PATH = "dataset/"
# As many as torch took before a config said otherwise.
_threads: list[int] = []


@extends(Config)
class CheckedConfig(Config):
    """A ``Config`` that knows our models' settings and reports what is wrong with a user's."""

    external_config_dict: dict[str, Any]
    file_config_dict: dict[str, Any]
    file_of_key: dict[str, str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
            checks.check_settings(self)
            check_loading(self)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"{one_line(error)}{checks.odd_settings(self)}") from error
        _use_threads(self)
        if is_sg(self) and not learns_from_samples(self["model"]):
            self["train_neg_sample_args"] = None
            self._set_train_neg_sample_args()

    def __str__(self) -> str:
        """Return a line for each of RecBole's kinds of settings."""
        left = dict(self.final_config_dict)
        lines = [f"{left.pop('model')} on {left.pop('dataset')}"]
        for kind, keys in {**self.parameters, "Other": list(left)}.items():
            values = {key: left.pop(key) for key in list(left) if key in keys}
            pairs = (f"{set_color(key, 'cyan')}={value}" for key, value in values.items())
            lines.append(f"{set_color(kind, 'pink')}: {', '.join(pairs)}")
        return "\n".join(lines)

    def _get_model_and_dataset(self, model: Any, dataset: Any) -> Any:
        import_plugins()
        try:
            name, model_class, dataset = super()._get_model_and_dataset(model, dataset)
        except KeyError as error:
            raise ValueError(error.args[0]) from None
        # Importing a module may raise anything.
        except Exception:
            raise unknown_model(str(model or self.external_config_dict["model"])) from None
        if getattr(self, "is_restored", False):
            return name, model_class, checked("dataset", dataset)
        folder = self.external_config_dict.get("data_path") or DATA_PATH
        dataset = checked("dataset", prepared(dataset, folder))
        if os.path.isfile(path := os.path.join(folder, dataset, f"{dataset}.yaml")):
            self._read_file_of_dataset(path)
        return name, model_class, dataset

    def _read_file_of_dataset(self, path: str) -> None:
        """Read the config file that lies beside a data set, below those of the user."""
        settings = read_config_file(path)
        # Where it lies has just been found.
        settings.pop("data_path", None)
        self.file_of_key = {**dict.fromkeys(settings, path), **self.file_of_key}
        self.file_config_dict = checks.overridden(settings, self.file_config_dict)
        self._merge_external_config_dict()

    def _load_internal_config_dict(self, model: Any, model_class: Any, dataset: Any) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        # A subclass starts from the defaults of the model it extends.
        for base in reversed(model_class.__mro__):
            self._read_shipped(f"model/{base.__name__}")
            self.internal_config_dict.update(DECLARED.get(base, {}))
        if checks.is_vae(self):
            self._read_shipped(f"quick_start_config/{dataset}")

    def _read_shipped(self, name: str) -> None:
        if path := shipped_file(name):
            self._update_internal_config_dict(path)

    def _load_config_files(self, file_list: Any) -> dict:
        paths = resolve_config_files(file_list or [])
        contents = {path: super(CheckedConfig, self)._load_config_files([path]) for path in paths}
        self.file_of_key = {key: path for path in paths for key in contents[path]}
        return checks.overridden(*(contents[path] for path in paths))

    def _set_default_parameters(self) -> None:
        folder = os.path.join(self.final_config_dict["data_path"], self.dataset)
        super()._set_default_parameters()
        # RecBole always uses its shipped files for this name.
        if self.dataset == "ml-100k" and glob.glob(f"{glob.escape(folder)}/ml-100k*.inter"):
            self.final_config_dict["data_path"] = folder

    def _merge_external_config_dict(self) -> None:
        sources = (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict)
        self.external_config_dict = with_nulls(checks.overridden(*sources))

    def _init_device(self) -> None:
        super()._init_device()
        # Each of several processes looks alone to RecBole: distributed.py divides the work.
        if distributed.count() > 1:
            self.final_config_dict["device"] = distributed.device()
            if not distributed.is_first():
                # The first process alone logs and writes.
                quiet = (key for key in KEYS.values() if key.elsewhere is not None)
                self.final_config_dict.update({key.name: key.elsewhere for key in quiet})


def _use_threads(config: Config) -> None:
    """Let torch compute with as many threads as a config says, or else as before such a config."""
    count = config["torch_threads"]
    if count and not _threads:
        _threads.append(torch.get_num_threads())
    if count or _threads:
        torch.set_num_threads(int(count or _threads.pop()))
