"""Config files: those that come with the package, in a checkout and installed, and the user's."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from recbole_evcf.utils.text import shortened

# What runs unless the user says otherwise.
DEFAULTS = {"model": "GatedHVampLinear", "dataset": "ml-100k"}
# Values and depth of a file with its aliases written out. Nine lines of nine aliases each would
# stand for a billion values, and an alias of what it is in for one without end.
MAX_VALUES, MAX_DEPTH = 100_000, 100
# What PyYAML raises for dates and numbers that are none and for deep nests.
FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError)


def properties_path() -> Path:
    """The folder ``properties``: inside the installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"


def shipped_file(name: str, ending: str = ".yaml") -> Path | None:
    """The shipped file of a name such as ``protocol/strong_generalization``, or None."""
    root = properties_path().resolve()
    path = root / f"{name.removesuffix(ending)}{ending}"
    # Resolved, since a name may lead out of the folder by "..".
    return path if path.is_file() and path.resolve().is_relative_to(root) else None


def shipped_names(ending: str = ".yaml") -> list[str]:
    """The names without ending that :func:`shipped_file` knows, sorted."""
    root = properties_path()
    paths = root.rglob(f"*{ending}")
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in paths)


def existing(path: str, missing: str) -> None:
    """Raise a ValueError that begins with ``missing`` if there is no file."""
    if not os.path.exists(path):
        raise ValueError(f"{missing} {path}.")


def matching(pattern: str, missing: str = "there is no such file") -> list[str]:
    """The file of this name, or those that a pattern such as ``part-*.csv`` fits, sorted.

    Where there is none, a ValueError ends with ``missing``.
    """
    files = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern))
    if not files:
        raise ValueError(f"{pattern}: {missing}")
    return files


def named_file(file: str, ending: str, missing: str) -> str:
    """The path of a file given by its path or by the name of a shipped one.

    A ValueError that there is none begins with ``missing``.
    """
    if os.path.isfile(file):
        return file
    shipped = shipped_file(file, ending)
    if shipped is None:
        names = ", ".join(name + ending.removesuffix(".yaml") for name in shipped_names(ending))
        raise ValueError(f"{missing} {file}; the package ships {names}.")
    return str(shipped)


def resolve_config_files(files: Iterable[str]) -> list[str]:
    """The paths of config files given by path or by name, without those that set nothing.

    A ValueError says that there is no list of files, no such file, or what is wrong in one.
    """
    if not isinstance(files, (list, tuple)):
        raise ValueError(
            "config_file_list must be a list of files, such as ['mine.yaml'], not "
            f"{shortened(repr(files), 200)}."
        )
    paths = [named_file(str(file), ".yaml", "There is no config file") for file in files]
    return [path for path in paths if read_config_file(path)]


def read_config_file(path: str) -> dict[str, Any]:
    """The settings in a config file; a ValueError if it is no YAML of ``key: value`` lines."""
    try:
        content = read_yaml(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid YAML ({error}).") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(content, (dict, type(None))):
        kind = type(content).__name__
        raise ValueError(f"{path} must hold lines of `key: value`; it holds a {kind}.")
    return content or {}


def with_nulls(value: Any) -> Any:
    """Settings with null for each string ``None``, which is what YAML makes of the word."""
    if isinstance(value, dict):
        return {key: with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_nulls(item) for item in value]
    return None if value == "None" else value


def read_yaml(text: str) -> Any:
    """The value of a string in YAML, of which no code runs; a ValueError if it is none of plain
    values, or stands for too many."""
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where}not valid YAML ({error.problem}).") from None
    except (ValueError, yaml.YAMLError, *FAULTS) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"not valid YAML ({shortened(said, 200)}).") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's, which bounds what aliases and merges (<<) stand for and refuses equal keys."""

    def construct_document(self, node: yaml.Node) -> Any:
        left, waiting = MAX_VALUES, [(node, 0)]
        while waiting:
            node_, depth = waiting.pop()
            left -= 1
            if left < 0 or depth > MAX_DEPTH:
                raise ValueError("its aliases or brackets stand for too many values")
            if isinstance(node_, yaml.MappingNode):
                _check_keys(node_)
                waiting += [(item, depth + 1) for pair in node_.value for item in pair]
            elif isinstance(node_, yaml.SequenceNode):
                waiting += [(item, depth + 1) for item in node_.value]
        return super().construct_document(node)


def _check_keys(mapping: yaml.MappingNode) -> None:
    """PyYAML takes the last of equal keys without a word."""
    marks: dict[tuple, yaml.Mark] = {}
    for key in (key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)):
        first = marks.setdefault((key.tag, key.value), key.start_mark)
        if first is not key.start_mark:
            said = f"the key {shortened(key.value)} is there twice, first in line {first.line + 1}"
            raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
