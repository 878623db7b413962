"""The models of a comparison, ``EASE,GatedHVamp[mlp_hidden_size=[600,600]]``, read as data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from recbole_evcf.config.plain_yaml import read_yaml
from recbole_evcf.utils.text import shown

__all__ = ["ModelSpec", "parse_models"]

CLOSING = {"[": "]", "(": ")", "{": "}"}
QUOTES = "'\""


@dataclass(frozen=True)
class ModelSpec:
    """A model as it takes part in a comparison.

    Attributes:
        label: its name in tables and figures.
        model: RecBole's or our name of it.
        settings: config keys of this model alone; they override the settings of all models.
        config_files: files of this model alone, read after those that set the protocol.
    """

    label: str
    model: str
    settings: dict = field(default_factory=dict)
    config_files: tuple[str, ...] = ()


def parse_models(text: str) -> list[ModelSpec]:
    """Return the models of a comparison.

    Args:
        text: names separated by commas, each with ``[key=value,...]`` after it if some settings
            are its own. Values are Python literals or YAML; nothing of the text is run.

    Raises:
        ValueError: the text cannot be read, or names the same model with the same settings twice.
    """
    specs = [_spec(piece) for piece in _pieces(text, text)]
    for place, spec in enumerate(specs):
        if any(_same(spec, other) for other in specs[:place]):
            raise ValueError(f"--models names {spec.label} twice with the same settings.")
    return specs


def _same(spec: ModelSpec, other: ModelSpec) -> bool:
    return (spec.model, spec.settings) == (other.model, other.settings)


def _spec(piece: str) -> ModelSpec:
    name, bracket, rest = piece.partition("[")
    name = name.strip()
    if not bracket:
        return ModelSpec(name, name)
    inner = rest.rstrip()
    if not name or not inner.endswith("]") or _closing_place(piece) != len(piece.rstrip()) - 1:
        raise ValueError(
            f"cannot read {shown(piece, 200)}: a model is written Name or Name[key=value,...]."
        )
    settings = dict(_settings(inner[:-1], piece))
    return ModelSpec(f"{name}[{_normal(inner[:-1])}]" if settings else name, name, settings)


def _closing_place(piece: str) -> int:
    """Where the first bracket of a piece, known to be balanced, is closed."""
    return next(
        place for place, depth in _depths(piece, piece) if depth == 0 and piece[place] == "]"
    )


def _normal(inner: str) -> str:
    return ", ".join(" ".join(part.split()) for part in _pieces(inner, inner))


def _settings(inner: str, piece: str) -> Iterator[tuple[str, object]]:
    seen = set()
    for part in _pieces(inner, piece) if inner.strip() else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ValueError(
                f"cannot read {shown(part.strip(), 200)} in {shown(piece, 200)}: write key=value."
            )
        if key in seen:
            raise ValueError(f"{shown(piece, 200)} gives {key} twice.")
        seen.add(key)
        yield key, _value(value.strip(), piece)


def _value(text: str, piece: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return read_yaml(text)
    except ValueError:
        raise ValueError(
            f"cannot read the value {shown(text, 200)} in {shown(piece, 200)}."
        ) from None


def _pieces(text: str, whole: str) -> list[str]:
    """The parts between the commas that stand in no bracket and no quotation marks."""
    cuts = [-1]
    cuts += [place for place, depth in _depths(text, whole) if depth == 0 and text[place] == ","]
    pieces = [text[a + 1 : b].strip() for a, b in zip(cuts, [*cuts[1:], len(text)])]
    if not all(pieces):
        raise ValueError(
            f"cannot read {shown(whole, 200)}: there is nothing before or behind a comma."
        )
    return pieces


def _depths(text: str, whole: str) -> Iterator[tuple[int, int]]:
    """Each place outside quotation marks, and how many brackets are open behind it."""
    open_brackets: list[str] = []
    quote = ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
            continue
        if letter in QUOTES:
            quote = letter
        elif letter in CLOSING:
            open_brackets.append(CLOSING[letter])
        elif letter in CLOSING.values() and (not open_brackets or open_brackets.pop() != letter):
            raise ValueError(f"cannot read {shown(whole, 200)}: {letter!r} closes no bracket.")
        yield place, len(open_brackets)
    if quote or open_brackets:
        missing = quote or open_brackets[-1]
        raise ValueError(f"cannot read {shown(whole, 200)}: a closing {missing} is missing.")
