"""YAML as plain values: any string is a value or one sentence, and no code runs."""

from __future__ import annotations

from typing import Any

import yaml

from recbole_evcf.utils.text import shortened

__all__ = ["read_yaml"]

# Values and depth of a file with its aliases written out. Nine lines of nine aliases each would
# stand for a billion values, and an alias of what it stands in for one without end.
MAX_VALUES, MAX_DEPTH = 100_000, 100
# What PyYAML raises beside its own errors, for dates and numbers that are none and for deep nests.
FAULTS = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
    OverflowError,
    MemoryError,
)


def read_yaml(text: str) -> Any:
    """The value of a string in YAML.

    Raises:
        ValueError: the string is no YAML of plain values, or stands for too many.
    """
    try:
        return _loaded(text)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where}not valid YAML ({error.problem}).") from None
    except (yaml.YAMLError, *FAULTS) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"not valid YAML ({shortened(said, 200)}).") from None


def _loaded(text: str) -> Any:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Before there are values: PyYAML writes merges (<<) out while it makes them.
        _check_size(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_size(node: yaml.Node) -> None:
    """Count what a document stands for with each alias, a merged one too, written out."""
    left = MAX_VALUES
    waiting = [(node, 0)]
    while waiting:
        node, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise ValueError("its aliases or brackets stand for too many values")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            waiting += [(item, depth + 1) for pair in node.value for item in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]


def _check_keys(node: yaml.MappingNode) -> None:
    """PyYAML takes the last of equal keys without a word."""
    marks: dict[tuple, yaml.Mark] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            first = marks.setdefault((key.tag, key.value), key.start_mark)
            if first is not key.start_mark:
                said = (
                    f"the key {shortened(key.value)} is there twice, first in line {first.line + 1}"
                )
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
