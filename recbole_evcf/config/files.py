"""The files that come with the package, YAML and search spaces, in a checkout and installed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "DEFAULT_DATASET",
    "DEFAULT_MODEL",
    "existing",
    "named_file",
    "properties_path",
    "shipped_file",
    "shipped_names",
    "shipped_yaml",
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
