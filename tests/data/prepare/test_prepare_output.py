"""A data set appears complete or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from prepare_raw_files import MOVIES, RATINGS, everything_under, write_files
from recbole_evcf import cli
from recbole_evcf.data.prepare import prepare as prepare_any


@pytest.fixture
def raw(tmp_path):
    return write_files(tmp_path / "raw", {"ratings.csv": RATINGS, "movies.csv": MOVIES})


def prepare(raw, output, **options):
    return prepare_any("ml-20m", raw, None, output, **options)


def test_only_overwrite_replaces_a_data_set(tmp_path, raw):
    folder = write_files(tmp_path / "out" / "ml-20m", {"ml-20m.kg": "old"})
    with pytest.raises(ValueError, match="ml-20m: exists already"):
        prepare(raw, tmp_path / "out")
    assert everything_under(tmp_path / "out") == ["ml-20m", "ml-20m/ml-20m.kg"]
    prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path / "out")[1:] == ["ml-20m/ml-20m.inter", "ml-20m/ml-20m.item"]
    for path in folder.iterdir():
        path.unlink()
    prepare(raw, tmp_path / "out")
    assert len(everything_under(tmp_path / "out")) == 3


@pytest.mark.parametrize("other", ["main.py", "ml-20m", "ml-20m.d/x", ".git/x", "ml-20mx.inter"])
def test_a_folder_with_anything_else_is_not_replaced(tmp_path, raw, other):
    folder = write_files(tmp_path / "out" / "ml-20m", {"ml-20m.inter": "old"})
    (folder / other).parent.mkdir(exist_ok=True)
    (folder / other).write_text("mine")
    before = everything_under(tmp_path)
    with pytest.raises(ValueError, match=r"ml-20m: holds '.*', which is not of the data set ml-20"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("at", ["recbole_evcf.data.prepare.ratings.write_ratings", "Path.rename"])
@pytest.mark.parametrize("old", [True, False])
def test_an_interruption_leaves_everything_as_it_was(tmp_path, raw, monkeypatch, error, at, old):
    rename = Path.rename

    def interrupt(self, *target):
        assert any(name.endswith("ml-20m.item") for name in everything_under(tmp_path / "out"))
        if at == "Path.rename" and self.suffix != ".new":
            return rename(self, *target)
        raise error

    if old:
        write_files(tmp_path / "out" / "deep" / "ml-20m", {"ml-20m.inter": "old"})
    before = everything_under(tmp_path)
    monkeypatch.setattr(*((Path, "rename") if at == "Path.rename" else (at,)), interrupt)
    with pytest.raises(error):
        prepare(raw, tmp_path / "out" / "deep", overwrite=True)
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("taken", ["out", "out/ml-20m"])
def test_a_file_in_the_way(tmp_path, raw, taken, capsys):
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("mine")
    arguments = ["prepare", "ml-20m", f"--raw={raw}", f"--output={tmp_path / 'out'}", "--overwrite"]
    assert cli.main(arguments) == 2
    assert str(tmp_path / taken) in capsys.readouterr().err
    assert (tmp_path / taken).read_text() == "mine"


def test_a_link_is_followed(tmp_path, raw):
    elsewhere = write_files(tmp_path / "elsewhere", {"ml-20m.old": ""})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ml-20m").symlink_to(elsewhere)
    prepare(raw, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "ml-20m").is_symlink()
    assert everything_under(elsewhere) == ["ml-20m.inter", "ml-20m.item"]


@pytest.mark.parametrize("inner", ["", "ml-20m"])
def test_raw_data_are_never_replaced(tmp_path, inner):
    raw = write_files(tmp_path / "out" / "ml-20m" / inner, {"ratings.csv": RATINGS})
    before = everything_under(tmp_path)
    with pytest.raises(ValueError, match="holds the raw data"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path) == before


NAMES = ["", ".", "..", "/tmp/x", ".a", "a\tb", "a\n", "a\0b", "a\\b", "../../x", "-x", "\x1b[3m"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_folder(tmp_path, raw, name, capsys):
    before = everything_under(tmp_path)
    arguments = ["prepare", "ml-20m", f"--raw={raw}", f"--name={name}", f"--output={tmp_path}/o"]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert "is not fit for a folder" in error
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert everything_under(tmp_path) == before
