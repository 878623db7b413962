"""What the value of a config key may be: one small object for each kind, with its words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recbole_evcf.utils.text import shortened

__all__ = ["Values", "brief", "choice", "flag", "number", "text", "whole", "widths"]

Read = Callable[[object], Any]


@dataclass(frozen=True)
class Values:
    """The values that a key takes.

    Attributes:
        type: name of their type in the guide's tables, such as ``int``.
        range: in the guide's tables, such as ``at least 1``.
        expected: what a value must be, as an error says it.
        read: returns a value as the package uses it; raises ValueError for any other.
    """

    type: str
    range: str
    expected: str
    read: Read

    def checked(self, name: str, value: object) -> Any:
        """The value of a key.

        Raises:
            ValueError: the key does not take it; the message names both.
        """
        try:
            return self.read(value)
        except (ValueError, OverflowError):
            raise ValueError(f"{name} must be {self.expected}, not {brief(value)}.") from None

    def or_none(self) -> Values:
        """The same values, and None."""
        return Values(
            self.type,
            f"{self.range}, or none",
            self.expected,
            lambda value: None if value is None else self.read(value),
        )


def brief(value: object) -> str:
    """A value as an error shows it."""
    return shortened(repr(value), 200)


def _only_if(takes: Callable[[object], bool]) -> Read:
    def read(value: object) -> object:
        if not takes(value):
            raise ValueError
        return value

    return read


def whole(minimum: int, maximum: int | None = None) -> Values:
    """Whole numbers; tuners draw them as floats."""

    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError
        if maximum is not None and value > maximum:
            raise ValueError
        return value

    at_least = f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}"
    words = f"of {at_least}" if maximum is None else f"from {at_least}"
    return Values("int", at_least, f"a whole number {words}", read)


def number(
    minimum: float = -math.inf, *, above: float = -math.inf, below: float = math.inf
) -> Values:
    """Finite numbers of at least ``minimum``, above ``above`` and below ``below``."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError
        if not minimum <= value < below or not above < value:
            raise ValueError
        return float(value)

    limits = [f"at least {minimum:g}"] if minimum > -math.inf else []
    limits += [f"above {above:g}"] if above > -math.inf else []
    limits += [f"below {below:g}"] if below < math.inf else []
    said = " and ".join(limits)
    expected = f"a number {'of ' if minimum > -math.inf else ''}{said}".rstrip()
    return Values("float", said or "any number", expected, read)


def choice(*choices: str, any_case: bool = False) -> Values:
    """One of several strings."""

    def read(value: object) -> str:
        if not isinstance(value, str) or (value.lower() if any_case else value) not in choices:
            raise ValueError
        return value

    few = " or ".join(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
    return Values("str", ", ".join(f"`{name}`" for name in choices), few, read)


def flag() -> Values:
    """True or False."""
    is_flag = _only_if(lambda value: isinstance(value, bool))
    return Values("bool", "", "True or False", is_flag)


def text(expected: str, *, or_flag: bool = False) -> Values:
    """Strings, such as paths."""
    types = (str, bool) if or_flag else (str,)
    kind = "bool or str" if or_flag else "str"
    return Values(kind, "", expected, _only_if(lambda value: isinstance(value, types)))


def widths() -> Values:
    """Widths of layers."""

    def read(value: object) -> list[int]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        return [whole(1).read(width) for width in value]

    expected = "a list of whole numbers of at least 1, such as [600]"
    return Values("list of int", "each at least 1, one or more", expected, read)
