"""The data set that a benchmark runs on, by what ``--data`` says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import generate

GENERATED = re.compile(r"generated:(\d+)x(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True)
class Data:
    """A data set as RecBole reads it.

    Attributes:
        name: RecBole's name of it.
        description: for a table.
        settings: config keys that it needs.
        config_files: paths and names of config files; not empty for a split made elsewhere, which
            is one by users.
    """

    name: str
    description: str
    settings: dict = field(default_factory=dict)
    config_files: tuple[str, ...] = ()

    @property
    def by_users(self) -> bool:
        """Whether the data come with a split by users of their own."""
        return bool(self.config_files)


def find(text: str, folder: Path) -> Data:
    """The data set that a text names.

    Args:
        text: ``ml-100k``; ``NAME:PATH`` for atomic files in PATH or PATH/NAME, which may hold a
            split made by ``recbole-evcf prepare pro_sg``; or
            ``generated:USERSxITEMSxINTERACTIONSxLONGEST``.
        folder: where generated data are written, or found from an earlier run.

    Raises:
        ValueError: it names nothing.
    """
    if text == "ml-100k":
        return Data("ml-100k", "ml-100k")
    shape = GENERATED.fullmatch(text)
    if shape:
        return _generated(generate.Shape(*map(int, shape.groups())), folder)
    name, separator, path = text.partition(":")
    if not separator or name == "generated":
        raise ValueError(
            f"--data={text}: give ml-100k, NAME:PATH of a folder of atomic files, or "
            "generated:USERSxITEMSxINTERACTIONSxLONGEST."
        )
    return _atomic(name, Path(path).expanduser().resolve())


def _generated(shape: generate.Shape, folder: Path) -> Data:
    name = f"generated-{shape}"
    path = folder / name / f"{name}.inter"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        generate.write(path, *generate.interactions(shape, seed=0), seed=0)
    return Data(name, f"generated: {shape.describe()}", {"data_path": str(folder)})


def _atomic(name: str, path: Path) -> Data:
    for parent in (path, path.parent):
        files = parent / name
        if (parent != path and path.name != name) or not files.is_dir():
            continue
        config = files / f"{name}.yaml"
        settings = {"data_path": str(parent)}
        if (files / f"{name}.inter").exists():
            return Data(name, name, settings)
        if config.exists():
            files = (str(config), "protocol/strong_generalization")
            return Data(name, f"{name}, its own split by users", settings, files)
    raise ValueError(
        f"{path} holds neither {name}/{name}.inter nor a prepared split {name}/{name}.yaml."
    )
