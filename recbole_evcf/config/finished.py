"""RecBole's ``Config``: made with errors of one sentence, shown, and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from recbole.config import Config
from recbole.utils import set_color

from recbole_evcf import __version__
from recbole_evcf.config.files import named_file, read_config_file
from recbole_evcf.config.keys import Role, with_role
from recbole_evcf.trainer.checkpoint import plain_config
from recbole_evcf.utils.text import one_line, plain_value, shortened, shown

__all__ = ["finished_config", "plain_settings", "remark_on_settings", "settings_in_lines"]


def finished_config(
    model: str | None,
    dataset: str | None,
    config_files: Sequence[str],
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """RecBole's ``Config``; whatever it raises is one sentence on what is wrong in a setting.

    Args:
        model: name of the model; None if a config file has it.
        dataset: name of the data set; None if a config file has it.
        config_files: paths or names of shipped files, in the order in which they are read.
        settings: mapping of keys that go before those of the files.

    Raises:
        ValueError: a setting is wrong.
    """
    try:
        return Config(model, dataset, config_files, dict(settings or {}))
    except Exception as error:
        text = one_line(error)
        if not isinstance(error, ValueError):
            given = {key: value for file in config_files for key, value in _content(file).items()}
            text += _odd_settings(model, dataset, {**given, **(settings or {})})
        raise ValueError(text) from error


class _Defaults(Config):
    """A ``Config`` that nobody set anything in."""

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}


def remark_on_settings(config: Config) -> str:
    """A remark on what the user of a config has set, to follow an error; often empty."""
    return _odd_settings(config["model"], config["dataset"], config.external_config_dict)


def _odd_settings(model: str | None, dataset: str | None, given: Mapping[str, Any]) -> str:
    """A remark on settings of another kind than their defaults, which RecBole does not check."""
    try:
        defaults = _Defaults(model, dataset).final_config_dict
    except Exception:
        return ""
    odd = [
        f"{shortened(key)} is {shown(value)} and by default {shown(defaults[key])}"
        for key, value in given.items()
        if defaults.get(key) is not None and _kind_of(value) != _kind_of(defaults[key])
    ]
    return f" (perhaps since {'; '.join(odd[:3])})" if odd else ""


def _kind_of(value: object) -> str:
    """As YAML tells values apart; a string may be a number that RecBole reads later."""
    if isinstance(value, str):
        with contextlib.suppress(SyntaxError):
            value = plain_value(value)
    for name, kind in (("flag", bool), ("number", (int, float)), ("list", (list, tuple))):
        if isinstance(value, kind):
            return name
    return type(value).__name__


def _content(file: str) -> dict[str, Any]:
    return read_config_file(named_file(str(file), ".yaml", "There is no config file"))


def settings_in_lines(config: Config) -> str:
    """All settings of a ``Config``, a line for each of RecBole's kinds of them.

    Of those that are None there are only the names.
    """
    left = dict(config.final_config_dict)
    lines = [f"{left.pop('model')} on {left.pop('dataset')}"]
    unset = [key for key, value in left.items() if value is None]
    for kind, keys in {**config.parameters, "Other": list(left)}.items():
        values = {key: left.pop(key) for key in list(left) if key in keys}
        named = [
            f"{set_color(key, 'cyan')}={repr(value) if isinstance(value, str) else value}"
            for key, value in values.items()
            if value is not None
        ]
        lines.append(f"{set_color(kind, 'pink')}: {', '.join(named)}")
    return "\n".join([*lines, f"{set_color('Without a value', 'pink')}: {', '.join(unset)}"])


def plain_settings(config: Config) -> dict[str, Any]:
    """What processes on several machines must have in common: all but paths and the like."""
    of_a_machine = with_role(Role.OF_A_MACHINE)
    shared = {k: value for k, value in plain_config(config).items() if k not in of_a_machine}
    # Whose state is kept is the first machine's business; that it is, all have to know.
    kept = bool(config["resume"] or config["resumable"])
    return {"recbole_evcf": __version__, "resume or resumable": kept, **shared}
