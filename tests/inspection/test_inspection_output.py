"""The files: whole, and of this inspection only."""

import pandas as pd
import pytest

from recbole_evcf.inspection import inspection
from recbole_evcf.inspection.inspection import Inspection


class Nothing:
    """In the page's place: what is drawn is tested elsewhere."""

    def __init__(self, *parts):
        pass

    def write_html(self, path):
        with open(path, "w", encoding="utf-8") as file:
            file.write("page")


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "report", Nothing)

    def write(**tables):
        return Inspection(tables=tables).report(str(tmp_path / "a" / "out"))

    return write


TABLE = pd.DataFrame({"a": [1, 2]})


def test_files_of_an_older_inspection_go_and_others_stay(written, tmp_path):
    folder = tmp_path / "a" / "out"
    assert written(components=TABLE, units=TABLE) == ["report.html", "components.csv", "units.csv"]
    (folder / "mine.csv").write_text("x", encoding="utf-8")
    written(units=TABLE * 2)
    assert sorted(path.name for path in folder.iterdir()) == [
        "mine.csv",
        "report.html",
        "units.csv",
    ]
    assert pd.read_csv(folder / "units.csv")["a"].tolist() == [2, 4]


def test_what_cannot_be_written_replaces_nothing(written, tmp_path):
    class Unwritable(pd.DataFrame):
        def to_csv(self, *args, **kwargs):
            raise OSError("the disk is full")

    written(levels=TABLE, units=TABLE)
    with pytest.raises(OSError, match="full"):
        written(levels=TABLE * 2, units=Unwritable({"a": [1]}))
    folder = tmp_path / "a" / "out"
    assert sorted(path.name for path in folder.iterdir()) == [
        "levels.csv",
        "report.html",
        "units.csv",
    ]
    assert pd.read_csv(folder / "levels.csv")["a"].tolist() == [1, 2]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_is_no_folder(place, tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="is a file"):
        inspection.check_folder(str(tmp_path / place))
