"""The config keys of the models, checked: a wrong value ends in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from recbole_evcf.model.likelihood import LIKELIHOODS
from recbole_evcf.utils.text import shortened

__all__ = ["Settings", "number", "whole_number"]

# Takes the key and its value; returns the value as the models take it, or raises a ValueError.
Check = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Settings:
    """The models' keys as RecBole's ``Config`` holds them; see the README's table.

    Attributes:
        mlp_hidden_size: widths of the hidden layers; their number is the depth.
        latent_dimension: width of z, or of z1 and z2 each.
        dropout_prob: dropout on the normalised input history.
        likelihood: ``multinomial`` or ``bernoulli``.
        gated: gated hidden layers (equation 7) instead of tanh.
        n_pseudo_inputs: number K of the VampPrior's components.
        pseudo_inputs_init: ``normal`` or ``data``.
        pseudo_inputs_mean: mean of the ``normal`` start.
        pseudo_inputs_std: standard deviation of the ``normal`` start, and of the ``data`` noise.
        anneal_cap: maximum of the KL weight.
        total_anneal_steps: steps after which the weight would be 1 if not capped, or None.
        warmup_epochs: epochs after which the maximum is reached, or None.
    """

    mlp_hidden_size: list[int]
    latent_dimension: int
    dropout_prob: float
    likelihood: str
    gated: bool
    n_pseudo_inputs: int
    pseudo_inputs_init: str
    pseudo_inputs_mean: float
    pseudo_inputs_std: float
    anneal_cap: float
    total_anneal_steps: int | None
    warmup_epochs: int | None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read from a RecBole ``Config`` or a dict.

        Raises:
            ValueError: a key has a value the models cannot take, or both warm-up lengths are set.
        """
        values = {f.name: _CHECKS[f.name](f.name, config[f.name]) for f in fields(cls)}
        if values["total_anneal_steps"] is not None and values["warmup_epochs"] is not None:
            raise ValueError(
                "total_anneal_steps and warmup_epochs are both set: give the warm-up length once, "
                "in steps or in epochs, and leave the other out (or ~ in YAML)."
            )
        return cls(**values)


def _brief(value: Any) -> str:
    return shortened(repr(value), 200)


def whole_number(minimum: int, optional: bool = False) -> Check:
    """Check for a whole number."""

    def check(key: str, value: Any) -> int | None:
        if optional and value is None:
            return None
        # Tuners draw whole numbers as floats.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(
                f"{key} must be a whole number of at least {minimum}, not {_brief(value)}."
            )
        return value

    return check


def number(
    minimum: float = -math.inf, below: float = math.inf, above: float | None = None
) -> Check:
    """Check for a number in bounds."""

    def check(key: str, value: Any) -> float:
        valid = isinstance(value, (int, float)) and not isinstance(value, bool)
        valid = valid and math.isfinite(value) and minimum <= value < below
        if not valid or (above is not None and value <= above):
            bounds = "" if minimum == -math.inf else f" of at least {minimum:g}"
            bounds += "" if above is None else f" above {above:g}"
            bounds += "" if below == math.inf else f" and below {below:g}"
            raise ValueError(f"{key} must be a number{bounds}, not {_brief(value)}.")
        return float(value)

    return check


def _choice(*choices: str) -> Check:
    def check(key: str, value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{key} must be {' or '.join(choices)}, not {_brief(value)}.")
        return value

    return check


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be True or False, not {_brief(value)}.")
    return value


def _widths(key: str, value: Any) -> list[int]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(
            f"{key} must be a list of at least one hidden width, such as [600], "
            f"not {_brief(value)}."
        )
    return [whole_number(1)(f"{key}[{place}]", width) for place, width in enumerate(value)]


_CHECKS: dict[str, Check] = {
    "mlp_hidden_size": _widths,
    "latent_dimension": whole_number(1),
    "dropout_prob": number(0, below=1),
    "likelihood": _choice(*LIKELIHOODS),
    "gated": _flag,
    "n_pseudo_inputs": whole_number(1),
    "pseudo_inputs_init": _choice("normal", "data"),
    "pseudo_inputs_mean": number(),
    "pseudo_inputs_std": number(0),
    "anneal_cap": number(0),
    "total_anneal_steps": whole_number(0, optional=True),
    "warmup_epochs": whole_number(0, optional=True),
}
