"""A folder of finished runs: kept, and used again when the same run is asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from recbole_evcf.comparison.plan import Run
from recbole_evcf.results import digest, read_sealed

__all__ = ["RunStore"]


class RunStore:
    """The runs under ``folder/runs``: a JSON file each, and a CSV file of its users.

    The JSON file is written last and whole, so a run that has it is finished.

    Args:
        folder: of the comparison; made if it is not there.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self._runs = self.folder / "runs"
        self._runs.mkdir(parents=True, exist_ok=True)

    def paths(self, run: Run) -> dict[str, str]:
        """The files of a run: ``result``, ``per_user`` and ``log``."""
        name = f"{run.entry.model}-{run.seed}-{run.digest}"
        return {
            "result": str(self._runs / f"{name}.json"),
            "per_user": str(self._runs / f"{name}.users.csv"),
            "log": str(self._runs / f"{name}.log"),
        }

    def result(self, run: Run) -> dict | None:
        """What a finished run found, see :func:`recbole_evcf.comparison.worker.execute`; else None.

        A file that cannot be read, has changed since, or is of other settings, is no finished run.
        """
        paths = self.paths(run)
        try:
            result = read_sealed(paths["result"])
            same = result["settings"] == run.settings
            users = result["per_user"]
            complete = users is None or digest(Path(paths["per_user"])) == users
        except (OSError, ValueError, KeyError):
            return None
        return result if same and complete else None

    def per_user(self, run: Run) -> pd.DataFrame:
        """Test metrics of a finished run by user id; empty where there are none."""
        result = self.result(run)
        if result is None or result["per_user"] is None:
            return pd.DataFrame()
        return pd.read_csv(
            self.paths(run)["per_user"],
            index_col="user_id",
            dtype={"user_id": str},
            keep_default_na=False,
            float_precision="round_trip",
        )
