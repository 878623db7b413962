"""A data set appears complete or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from prepare_raw_files import MOVIES, RATINGS, everything_under, write_files
from recbole_evcf.data.prepare import output as output_module
from recbole_evcf.data.prepare import prepare_ml_20m
from recbole_evcf.data.prepare.counting import FilterCount
from recbole_evcf.data.prepare.output import new_dataset


@pytest.fixture
def raw(tmp_path):
    return write_files(tmp_path / "raw", {"ratings.csv": RATINGS, "movies.csv": MOVIES})


def prepare(raw, output, **options):
    return prepare_ml_20m(raw, output=output, show_progress=False, **options)


def test_an_existing_data_set_is_kept(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    before = (tmp_path / "out" / "ml-20m" / "ml-20m.inter").read_bytes()
    (raw / "ratings.csv").write_text(RATINGS + "9,9,4,9\n")
    with pytest.raises(ValueError, match="ml-20m: exists already"):
        prepare(raw, tmp_path / "out")
    assert (tmp_path / "out" / "ml-20m" / "ml-20m.inter").read_bytes() == before


def test_overwrite_replaces_the_whole_folder(tmp_path, raw):
    write_files(tmp_path / "out" / "ml-20m", {"ml-20m.kg": "old"})
    prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path / "out") == [
        "ml-20m",
        "ml-20m/ml-20m.inter",
        "ml-20m/ml-20m.item",
    ]


@pytest.mark.parametrize("other", ["main.py", "ml-20m", "ml-20m.d/x", ".git/x", "ml-20mx.inter"])
def test_a_folder_with_anything_else_is_not_replaced(tmp_path, raw, other):
    folder = write_files(tmp_path / "out" / "ml-20m", {"ml-20m.inter": "old"})
    (folder / other).parent.mkdir(exist_ok=True)
    (folder / other).write_text("mine")
    before = everything_under(tmp_path)
    with pytest.raises(ValueError, match=r"ml-20m: holds '.*', which is not of the data set ml-20"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path) == before
    assert (folder / other).read_text() == "mine"


def test_an_empty_folder_is_no_data_set(tmp_path, raw):
    (tmp_path / "out" / "ml-20m").mkdir(parents=True)
    prepare(raw, tmp_path / "out")
    assert len(everything_under(tmp_path / "out")) == 3


def test_a_failed_overwrite_keeps_the_old_one(tmp_path, raw):
    write_files(tmp_path / "out" / "ml-20m", {"ml-20m.inter": "old"})
    (raw / "ratings.csv").write_text(RATINGS + "x\n")
    with pytest.raises(ValueError, match="line 6"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path / "out") == ["ml-20m", "ml-20m/ml-20m.inter"]
    assert (tmp_path / "out" / "ml-20m" / "ml-20m.inter").read_text() == "old"


def test_a_failed_move_keeps_the_old_one(tmp_path, raw, monkeypatch):
    write_files(tmp_path / "out" / "ml-20m", {"ml-20m.inter": "old"})
    rename = output_module.Path.rename

    def fail_on_the_new_one(self, target):
        if self.suffix == ".part":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(output_module.Path, "rename", fail_on_the_new_one)
    with pytest.raises(OSError, match="no"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path / "out") == ["ml-20m", "ml-20m/ml-20m.inter"]
    assert (tmp_path / "out" / "ml-20m" / "ml-20m.inter").read_text() == "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_an_interruption_leaves_nothing(tmp_path, raw, monkeypatch, error):
    def interrupt(self, *_):
        assert len(everything_under(tmp_path / "out")) > 2
        raise error

    monkeypatch.setattr(FilterCount, "add", interrupt)
    with pytest.raises(error):
        prepare(raw, tmp_path / "out" / "deep")
    assert not (tmp_path / "out").exists()


def test_folders_that_were_there_stay(tmp_path, raw):
    (tmp_path / "out").mkdir()
    (raw / "ratings.csv").write_text("x")
    with pytest.raises(ValueError, match="line 1"):
        prepare(raw, tmp_path / "out" / "deep")
    assert everything_under(tmp_path / "out") == []
    assert (tmp_path / "out").is_dir()


def test_a_file_in_the_way(tmp_path, raw):
    write_files(tmp_path / "out", {"ml-20m": "mine"})
    with pytest.raises(ValueError, match="ml-20m: is a file"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "ml-20m").read_text() == "mine"


def test_a_file_where_the_output_folder_should_be(tmp_path, raw):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="out: is a file"):
        prepare(raw, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_link_is_followed(tmp_path, raw):
    elsewhere = write_files(tmp_path / "elsewhere", {"ml-20m.old": ""})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ml-20m").symlink_to(elsewhere)
    prepare(raw, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "ml-20m").is_symlink()
    assert everything_under(elsewhere) == ["ml-20m.inter", "ml-20m.item"]


@pytest.mark.parametrize("inner", ["", "ml-20m"])
def test_raw_data_are_never_replaced(tmp_path, inner):
    files = {"ratings.csv": RATINGS}
    raw = write_files(tmp_path / "out" / "ml-20m" / inner, files)
    before = everything_under(tmp_path)
    with pytest.raises(ValueError, match="holds the raw data"):
        prepare(raw, tmp_path / "out", overwrite=True)
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", ".a", "a\tb", "a\n", "a\0b", "a\\b"])
def test_a_name_that_is_no_folder(tmp_path, raw, name):
    with pytest.raises(ValueError, match="is not fit for a folder"):
        prepare(raw, tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_others_may_read_what_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        with new_dataset(tmp_path / "raw", tmp_path, "a", overwrite=False):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
