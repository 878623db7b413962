"""The models' config keys, checked: a wrong value ends in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from recbole_evcf.config.keys import checked

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The models' keys, as :data:`recbole_evcf.config.keys.KEYS` describes them."""

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
        values: dict[str, Any] = {f.name: checked(f.name, config[f.name]) for f in fields(cls)}
        if values["total_anneal_steps"] is not None and values["warmup_epochs"] is not None:
            raise ValueError(
                "total_anneal_steps and warmup_epochs are both set: give the warm-up length once, "
                "in steps or in epochs, and leave the other out (or ~ in YAML)."
            )
        return cls(**values)
