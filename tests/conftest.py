"""Shared fixtures: a working folder of its own for each test, and tiny data sets."""

import logging
import os
import signal
from pathlib import Path

# Sums in another number of threads are rounded otherwise; torch reads this where it is imported,
# here and in the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
import yaml

import recbole_evcf  # noqa: F401  (registers the models, repairs RecBole)
from recbole_evcf import cli
from recbole_evcf.data.histories import Histories

pytest_plugins = ["comparing", "fuzzing"]


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard():
    """A shell lets what it starts in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """RecBole writes log/, saved/ and log_tensorboard/ where it runs, and reads sys.argv."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    yield
    # Importing RecBole's SINE turns this on for the whole process.
    torch.autograd.set_detect_anomaly(False)
    # As RecBole leaves it, warnings of a later test might not be heard.
    logging.getLogger().setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers[:]:
        if type(handler) in (logging.FileHandler, logging.StreamHandler):
            logging.getLogger().removeHandler(handler)
            handler.close()


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch):
    """RecBole measures the processor for a second at the end of each run."""
    monkeypatch.setattr("psutil.cpu_percent", lambda interval=None: 0.0)


@pytest.fixture
def refused(capsys):
    """Function that gives a command with a mistake; the one line that it answers with."""

    def call(command: str, *words) -> str:
        capsys.readouterr()
        assert cli.main([command, *words]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("recbole-evcf: error: ")
        assert output.err.count("\n") == 1
        return output.err

    return call


@pytest.fixture
def dense() -> np.ndarray:
    """A binary history matrix, (users, items); user 0 is padding, user 3 has no history."""
    matrix = (np.random.default_rng(5).random((9, 12)) < 0.4).astype(np.int8)
    matrix[[0, 3]] = 0
    matrix[[1, 2], :2] = 1
    return matrix


@pytest.fixture
def histories(dense) -> Histories:
    return Histories(dense)


@pytest.fixture
def double():
    """Double precision throughout: comparisons then see formulas, not rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


PAIRS = "user_id:token\titem_id:token"


def write_inter(folder, name: str, rows, header=f"{PAIRS}\ttimestamp:float", ending="inter"):
    """Write an atomic file ``folder/name/name.ending``."""
    path = Path(folder, name, f"{name}.{ending}")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def config_files(settings: dict, *others: str) -> str:
    """Write settings to ``tiny.yaml``; the word of a command that reads it, after other files."""
    Path("tiny.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return f"--config_files={' '.join([*others, 'tiny.yaml'])}"


def parts_made_elsewhere() -> dict[str, list[tuple[str, str]]]:
    """User and item of each row of the five files of a split by users."""
    return {
        "train": [(f"a{user}", f"i{(user + k) % 9}") for user in range(20) for k in range(5)],
        "vf": [(f"v{user}", f"i{k}") for user in range(5) for k in range(3)],
        "vt": [(f"v{user}", f"i{k}") for user in range(5) for k in (3, 4)],
        "tf": [(f"t{user}", f"i{k}") for user in range(5) for k in range(3)],
        "tt": [(f"t{user}", f"i{k}") for user in range(5) for k in (3, 4)],
    }


def make_tiny(folder) -> dict:
    """Generate a data set of 60 users and 40 items; returns the config settings that read it."""
    rng = np.random.default_rng(11)
    rows = []
    for user in range(60):
        items = rng.choice(40, size=int(rng.integers(5, 20)), replace=False)
        rows += [(f"u{user}", f"i{item}", int(rng.integers(1000))) for item in items]
    write_inter(folder, "tiny", rows)
    return {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "mlp_hidden_size": [16],
        "latent_dimension": 8,
        "n_pseudo_inputs": 7,
        "train_batch_size": 16,
        "epochs": 2,
        "show_progress": False,
        "state": "error",
    }


@pytest.fixture
def tiny(tmp_path):
    """The settings of a generated data set."""
    return make_tiny(tmp_path / "data")


@pytest.fixture
def five(tiny, tmp_path):
    """Function from the rows of the five parts of a split to the settings that read their files."""
    names = list(parts_made_elsewhere())

    def write(parts):
        for name, rows in zip(names, parts):
            write_inter(tmp_path / "data", "five", rows, PAIRS, f"{name}.inter")
        columns = {"load_col": {"inter": ["user_id", "item_id"]}}
        return {**tiny, **columns, "benchmark_filename": names}

    return write
