"""The names of models: one that there is not, or whose module cannot be imported, is described."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from importlib.util import find_spec

import torch
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_evcf.config.names import new_in_1_2_1
from recbole_evcf.utils.packages import import_failure
from recbole_evcf.utils.text import shown

__all__ = ["import_fault", "model_names", "unknown_model"]

NEW_IN_1_2_1 = ("AsymKNN", "GRU4RecCPR", "SASRecCPR")
MODEL_PACKAGES = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
)


def unknown_model(name: str) -> ValueError:
    """The error for a model name that neither RecBole nor this package has, nor is registered; or
    for one whose module cannot be imported."""
    fault = import_fault(name)
    if fault:
        return fault
    newer = next((known for known in NEW_IN_1_2_1 if known.lower() == name.lower()), None)
    if newer:
        return new_in_1_2_1(newer)
    names = sorted(model_names())
    by_lower_case = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=3)
    hint = f" Did you mean {' or '.join(by_lower_case[match] for match in close)}?" if close else ""
    return ValueError(f"There is no model named {shown(name)} in RecBole or recbole_evcf.{hint}")


def import_fault(name: str) -> ValueError | None:
    """The error for a model of RecBole's whose module cannot be imported; None for others."""
    # Those two need packages of their own, without which no name is found beside theirs.
    outside = name.lower() in ("lightgbm", "xgboost")
    for package in ("exlib_recommender",) if outside else MODEL_PACKAGES:
        module = f"recbole.model.{package}.{name.lower()}"
        try:
            if name.isidentifier() and module not in sys.modules and find_spec(module):
                importlib.import_module(f"recbole.model.{package}.{name.lower()}")
        except Exception as error:
            return ValueError(f"The module of {name} cannot be imported ({import_failure(error)}).")
    return None


def model_names() -> set[str]:
    """The names of all models: RecBole's, ours and registered ones."""
    # Registered ones of a user's own have modules there too.
    beside = "recbole.model.general_recommender."
    names = {
        name
        for module, content in list(sys.modules.items())
        if module.startswith(beside)
        for name in vars(content)
        if name.lower() == module[len(beside) :]
    }
    # One of RecBole's modules turns this on for the whole process when it is imported.
    with torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled()):
        for package in MODEL_PACKAGES:
            module = importlib.import_module(f"recbole.model.{package}")
            names |= {
                name
                for name, value in inspect.getmembers(module, inspect.isclass)
                if issubclass(value, AbstractRecommender)
            }
    return names
