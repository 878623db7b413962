"""RecBole's files of search spaces (``.hyper``), read as data.

A line is a parameter's name, its kind and its range, with spaces between them::

    likelihood choice ['multinomial', 'bernoulli']
    anneal_cap uniform 0.1,1.0
    latent_dimension quniform 50,300,50
    learning_rate loguniform -8,-4

As in RecBole, the bounds of ``loguniform`` are natural logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from recbole_evcf.config.files import named_file
from recbole_evcf.utils.text import plain_value, shown

__all__ = ["KINDS", "Parameter", "read_params_file"]

# How many numbers a kind takes; a choice takes a list instead.
KINDS = {"choice": None, "uniform": 2, "quniform": 3, "loguniform": 2}
# Just below the natural logarithm of the largest float.
MAX_EXPONENT = 709.0


@dataclass(frozen=True)
class Parameter:
    """One dimension of a search space.

    Args:
        name: a key of the config.
        kind: one of :data:`KINDS`.
        range: the values of a choice; otherwise the lower and upper bound, and for ``quniform``
            the step. The bounds of ``loguniform`` are natural logarithms.
    """

    name: str
    kind: str
    range: tuple[Any, ...]

    def extremes(self) -> tuple[Any, ...]:
        """Return values to try beforehand: all choices, otherwise both bounds."""
        if self.kind == "choice":
            return self.range
        low, high = self.range[:2]
        if self.kind == "loguniform":
            return math.exp(low), math.exp(high)
        if self.kind == "quniform":
            # hyperopt rounds to multiples of the step, even past the bounds.
            step = self.range[2]
            return tuple(self.setting(round(bound / step) * step) for bound in (low, high))
        return low, high

    def setting(self, drawn: float) -> Any:
        """Return the config value of a draw, which for a choice is its position."""
        if self.kind == "choice":
            return self.range[int(drawn)]
        is_whole = all(float(number).is_integer() for number in self.range)
        return round(drawn) if self.kind == "quniform" and is_whole else float(drawn)


def read_params_file(file: str) -> list[Parameter]:
    """Read a search space by the path of its file, or by name if it is shipped.

    Args:
        file: such as ``mine.hyper`` or ``hyper/GatedHVamp.hyper``.

    Raises:
        ValueError: there is no such file, or a line of it is wrong; the message says which.
    """
    path = named_file(file, ".hyper", "There is no params file")
    try:
        with open(path, encoding="utf-8-sig") as opened:
            lines = opened.read().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text file in UTF-8.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    parameters: dict[str, Parameter] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            parameter = _parameter(line)
            if parameter.name in parameters:
                raise ValueError(f"{parameter.name} is given a second time.")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        parameters[parameter.name] = parameter
    if not parameters:
        raise ValueError(f"{path} names no parameter.")
    return list(parameters.values())


def _parameter(line: str) -> Parameter:
    words = line.split(maxsplit=2)
    if len(words) < 3:
        raise ValueError(f"a line is `name kind range`, not {shown(line.strip())}.")
    name, kind, text = words
    if kind not in KINDS:
        raise ValueError(
            f"the kind of {name} must be one of {', '.join(KINDS)}, not {shown(kind)}."
        )
    values = _choices(name, text) if kind == "choice" else _numbers(name, kind, text)
    return Parameter(name, kind, values)


def _choices(name: str, text: str) -> tuple[Any, ...]:
    values = _literal(text)
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError(
            f"the choices of {name} must be a list such as [1, 2] or ['a', 'b'], not "
            f"{shown(text.strip())}."
        )
    settings = tuple(map(_setting, values))
    for place, value in enumerate(settings):
        if not _is_plain(value):
            raise ValueError(
                f"the choice {shown(value)} of {name} is no number, string, list or None."
            )
        if value in settings[:place]:
            raise ValueError(f"{shown(value)} is among the choices of {name} twice.")
    return settings


def _literal(text: str) -> Any:
    """Return a Python literal's value; any other string is returned unchanged."""
    try:
        return plain_value(text)
    except SyntaxError:
        return text


def _setting(value: Any) -> Any:
    """Return the value that RecBole's ``Config`` makes of a string: ``'[600, 600]'`` is a list."""
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    read = _literal(value)
    return read if read is None or isinstance(read, (int, float, list, dict)) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, (str, int, float))


def _numbers(name: str, kind: str, text: str) -> tuple[float, ...]:
    form = "LOW,HIGH,STEP" if KINDS[kind] == 3 else "LOW,HIGH"
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != KINDS[kind] or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"the range of {name} must be {form} in numbers, not {shown(text.strip())}."
        )
    low, high = numbers[:2]
    if low >= high:
        raise ValueError(f"the range of {name} must rise, and {low:g} is not below {high:g}.")
    if kind == "quniform" and numbers[2] <= 0:
        raise ValueError(f"the step of {name} must be above 0, not {numbers[2]:g}.")
    if kind == "loguniform" and high > MAX_EXPONENT:
        raise ValueError(
            f"the bounds of {name} are natural logarithms, as in RecBole; e**{high:g} is too large."
        )
    return numbers
