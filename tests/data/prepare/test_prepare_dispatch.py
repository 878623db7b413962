"""The one function that the command line calls."""

from __future__ import annotations

import pytest

from prepare_raw_files import NETFLIX, PRO_SG, RATINGS, write_files
from recbole_evcf.data.prepare import KINDS, prepare


@pytest.mark.parametrize(
    ("kind", "files", "first"),
    [
        ("pro_sg", PRO_SG, "mine.train.inter"),
        ("ml-20m", {"ratings.csv": RATINGS}, "mine.inter"),
        ("netflix", NETFLIX, "mine.inter"),
    ],
)
def test_each_kind(tmp_path, capsys, kind, files, first):
    raw = write_files(tmp_path / "raw", files, "latin-1")
    text = prepare(kind, raw, "mine", tmp_path / "out", show_progress=False)
    assert f"{tmp_path / 'out' / 'mine'}: prepared from {kind}" in text
    assert first in text
    assert (tmp_path / "out" / "mine" / first).is_file()
    assert capsys.readouterr() == ("", "")


def test_the_kind_is_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "raw", {"ratings.csv": RATINGS})
    prepare("ml-20m", "raw", show_progress=False)
    assert (tmp_path / "dataset" / "ml-20m" / "ml-20m.inter").is_file()


def test_progress_is_shown_over_all_bytes(tmp_path, capsys):
    raw = write_files(tmp_path / "raw", PRO_SG)
    prepare("pro_sg", raw, "mine", tmp_path / "out")
    assert "pro_sg: 100%" in capsys.readouterr().err


def test_an_unknown_kind(tmp_path):
    with pytest.raises(
        ValueError, match="cannot prepare 'ml-1m': the kinds are " + ", ".join(KINDS)
    ):
        prepare("ml-1m", tmp_path)


def test_pro_sg_needs_a_name(tmp_path):
    with pytest.raises(ValueError, match="pro_sg needs a name"):
        prepare("pro_sg", tmp_path)
