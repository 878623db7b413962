"""One line of a comparison: a model with its settings, under a label."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Entry"]


@dataclass(frozen=True)
class Entry:
    """A model as it takes part in a comparison.

    Attributes:
        label: its name in tables and figures.
        model: RecBole's or our name of it.
        settings: config keys of this entry alone; they go before the settings of all entries.
        config_files: files of this entry alone, read after those that lay down the protocol.
    """

    label: str
    model: str
    settings: dict = field(default_factory=dict)
    config_files: tuple[str, ...] = ()
