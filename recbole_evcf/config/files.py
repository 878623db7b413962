"""Config files: those that come with the package, in a checkout and installed, and the user's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recbole_evcf.config.plain_yaml import read_yaml
from recbole_evcf.config.values import brief
from recbole_evcf.utils.text import shown

__all__ = [
    "DEFAULT_DATASET",
    "DEFAULT_MODEL",
    "existing",
    "named_file",
    "properties_path",
    "read_config_file",
    "resolve_config_files",
    "shipped_file",
    "shipped_names",
    "shipped_yaml",
    "with_nulls",
]

# What runs unless the user says otherwise.
DEFAULT_MODEL, DEFAULT_DATASET = "GatedHVamp", "ml-100k"


def properties_path() -> Path:
    """The folder ``properties``: inside the installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "properties"
    return inside if inside.is_dir() else package.parent / "properties"


def shipped_yaml(name: str) -> Path | None:
    """The shipped file of a name such as ``protocol/strong_generalization``, or None."""
    return shipped_file(name, ".yaml")


def shipped_file(name: str, ending: str) -> Path | None:
    """The shipped file of a name, with or without its ending, or None."""
    root = properties_path().resolve()
    path = root / f"{name.removesuffix(ending)}{ending}"
    # Resolved, since a name may lead out of the folder by "..".
    return path if path.is_file() and path.resolve().is_relative_to(root) else None


def shipped_names(ending: str = ".yaml") -> list[str]:
    """The names without ending that :func:`shipped_file` knows, sorted."""
    root = properties_path()
    return sorted(
        path.relative_to(root).with_suffix("").as_posix() for path in root.rglob(f"*{ending}")
    )


def existing(path: str, missing: str) -> None:
    """Check that there is a file.

    Raises:
        ValueError: there is none; its message begins with ``missing``.
    """
    if not os.path.exists(path):
        raise ValueError(f"{missing} {path}.")


def named_file(file: str, ending: str, missing: str) -> str:
    """The path of a file given by its path or by the name of a shipped one.

    Raises:
        ValueError: there is none; its message begins with ``missing``.
    """
    if os.path.isfile(file):
        return file
    shipped = shipped_file(file, ending)
    if shipped is None:
        left = "" if ending == ".yaml" else ending
        names = ", ".join(f"{name}{left}" for name in shipped_names(ending))
        raise ValueError(f"{missing} {file}; the package ships {names}.")
    return str(shipped)


def resolve_config_files(files: Iterable[str]) -> list[str]:
    """The paths of config files given by path or by the name of a shipped file.

    Files that set nothing are checked and left out: RecBole fails on a file of comments alone.

    Raises:
        ValueError: a file does not exist, or is no YAML of ``key: value`` lines; or there is no
            list of files.
    """
    if not isinstance(files, (list, tuple)):
        raise ValueError(
            f"config_file_list must be a list of files, such as ['mine.yaml'], not {brief(files)}."
        )
    paths = [named_file(str(file), ".yaml", "There is no config file") for file in files]
    return [path for path in paths if read_config_file(path)]


def read_config_file(path: str) -> dict[str, Any]:
    """The settings in a config file; none if it is empty, or holds comments alone.

    Raises:
        ValueError: it cannot be read, or is no YAML of ``key: value`` lines.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid YAML ({error}).") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        content = read_yaml(text)
    except ValueError as error:
        where = ", " if str(error).startswith("line ") else ": "
        raise ValueError(f"{path}{where}{error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path} must hold lines of `key: value`; it holds a {kind}.")
    for key in content:
        if not isinstance(key, str):
            raise ValueError(f"{path}: a key must be a string, not {shown(key)}.")
    return content


def with_nulls(value: Any) -> Any:
    """Settings with null for each string ``None``, which is what YAML makes of the word."""
    if isinstance(value, dict):
        return {key: with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_nulls(item) for item in value]
    return None if value == "None" else value
