"""The paper's tables as data: their rows, settings, values and claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from recbole_evcf.comparison.plan import ModelSpec
from recbole_evcf.config.files import properties_path, shipped_file

__all__ = ["TABLES", "Claim", "DataSet", "PaperTable", "paper_table"]

TABLES = ("table1", "table2")


@dataclass(frozen=True)
class DataSet:
    """A data set of the paper.

    Attributes:
        name: as the paper writes it.
        standard_error: of its values, approximately.
    """

    name: str
    standard_error: float


@dataclass(frozen=True)
class Claim:
    """A claim of the paper that one model beats another in a table."""

    says: str
    better: str
    worse: str


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        specs: its rows, to be trained with the published settings.
        metrics: the keys of its metrics.
        figures: the values, by data set, by row's label, by metric.
        data_sets: those of the paper, by RecBole's names.
        claims: what the paper reads from it.
        quick: whether the settings are those of a short run.
    """

    specs: tuple[ModelSpec, ...]
    metrics: tuple[str, ...]
    figures: dict[str, dict[str, dict[str, float]]]
    data_sets: dict[str, DataSet]
    claims: tuple[Claim, ...]
    quick: bool

    def beside(self, dataset: str) -> list[str]:
        """Return the data sets whose values are shown for a data set: its own, otherwise all."""
        return [dataset] if dataset in self.figures else list(self.figures)


def paper_table(name: str, dataset: str, quick: bool) -> PaperTable:
    """Read a table from ``properties/paper/``.

    Args:
        name: one of :data:`TABLES`.
        dataset: name of the data set that it will be trained on; what the paper tuned for it is
            read after the settings of a row.
        quick: whether the settings are those of a short run.
    """
    published = _read("paper/published")
    table, names = published["tables"][name], published["data_sets"]
    rows, metrics = table["rows"], tuple(table["metrics"])
    figures = {
        data: {row["label"]: dict(zip(metrics, row[data])) for row in rows if data in row}
        for data in names
    }
    return PaperTable(
        tuple(_spec(row, dataset, quick) for row in rows),
        metrics,
        {data: by_label for data, by_label in figures.items() if by_label},
        {data: DataSet(**about) for data, about in names.items()},
        tuple(Claim(**statement) for statement in table["statements"]),
        quick,
    )


def _spec(row: dict, dataset: str, quick: bool) -> ModelSpec:
    general = f"paper/{row['settings']}"
    content = _read(general)
    files = [general]
    if shipped_file(f"paper/{dataset}/{row['settings']}"):
        files.append(f"paper/{dataset}/{row['settings']}")
    if quick:
        files.append("paper/quick")
    return ModelSpec(row["label"], content["model"], config_files=tuple(files))


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((properties_path() / f"{name}.yaml").read_text(encoding="utf-8"))
