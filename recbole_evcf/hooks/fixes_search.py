"""Repairs of RecBole's search for hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from recbole.trainer import hyper_tuning

from recbole_evcf.hooks.wrapping import Forward, exchange, wrap
from recbole_evcf.utils.text import plain_value

__all__ = ["repair_search"]


def repair_search() -> None:
    """Repair exhaustive search, choices that are lists or dicts, and parameter files."""
    # Exhaustive search gives hyperopt a `RandomState`; hyperopt 0.2.6 and later call its method
    # `integers`, which it lacks (#1868, #1320, #1240, #1081).
    generators = Forward(np.random, RandomState=_RandomState)
    exchange(hyper_tuning, "np", Forward(np, random=generators))
    # It cannot count choices that are lists or dicts, and hyperopt passes lists as tuples, which
    # no model takes.
    wrap(hyper_tuning, "_parameters", _counting_choices)
    wrap(hyper_tuning.HyperTuning, "trial", _with_lists)
    exchange(hyper_tuning, "eval", _parameter_value)


class _RandomState(np.random.RandomState):
    def integers(self, low: int, high: int | None = None, size: Any = None) -> Any:
        return self.randint(low, high, size)


def _counting_choices(original: Callable, space: Any) -> dict:
    nodes = list(space.values()) if isinstance(space, dict) else space
    # A switch holds the parameter, then its choices.
    return {
        node.pos_args[0].pos_args[0].obj: np.arange(len(node.pos_args) - 1)
        for node in hyper_tuning._recursiveFindNodes(nodes)
    }


def _with_lists(original: Callable, self: Any, params: dict) -> Any:
    return original(self, _lists(params))


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _parameter_value(text: str) -> Any:
    """RecBole passes the choices of a parameter file to `eval`; here they are only read."""
    try:
        return plain_value(text)
    except SyntaxError as error:
        raise ValueError(
            f"The parameter file gives the choices [{text}], which are no plain Python values; "
            "write a list such as [1, 2] or ['a', 'b']."
        ) from error
