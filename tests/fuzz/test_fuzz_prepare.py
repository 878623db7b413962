"""Raw files of `prepare`: a data set of what they hold or one sentence, never half a data set."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import ANY_BYTES, cases, command_ends_well, damaged, ends_well
from prepare_raw_files import (
    MOVIES,
    NETFLIX,
    PRO_SG,
    RATINGS,
    everything_under,
    write_files,
    write_zip,
)
from recbole_evcf.data.prepare import lines, prepare
from recbole_evcf.data.prepare.pro_sg import PARTS

ML_20M = {"ratings.csv": RATINGS.encode(), "movies.csv": MOVIES.encode()}
NETFLIX_BYTES = {name: text.encode("latin-1") for name, text in NETFLIX.items()}
PRO_SG_BYTES = {name: text.encode() for name, text in PRO_SG.items()}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of some lines only, so that their borders are met."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 128)


def all_or_nothing(kind: str, files: dict[str, bytes], packed: bytes | None = None) -> None:
    """Prepare, and check what is left on the disk."""
    folder = Path(tempfile.mkdtemp())
    try:
        raw = folder / "raw.zip" if packed else write_files(folder / "raw", files)
        if packed:
            raw.write_bytes(packed)
        ending = ends_well(
            f"{kind}{', zip' if packed else ''}",
            lambda: prepare(kind, raw, "tiny", folder / "out", show_progress=False),
            [str(raw)],
            folder,
        )
        if ending.refusal is None:
            left = everything_under(folder / "out")
            assert left[0] == "tiny"
            assert all(name.startswith("tiny/tiny.") for name in left[1:])
            if not packed:
                assert_same_rows(kind, files, folder / "out" / "tiny")
    finally:
        shutil.rmtree(folder)


def assert_same_rows(kind: str, files: dict[str, bytes], folder: Path) -> None:
    """What was written is what plain Python reads in the raw files."""
    if kind == "pro_sg":
        for name, part in PARTS.items():
            expected = columns_of(files[name], ("uid", "sid"))
            assert written(folder / f"tiny.{part}.inter") == expected
    elif kind == "ml-20m":
        columns = ("userId", "movieId", "rating", "timestamp")
        assert written(folder / "tiny.inter") == columns_of(files["ratings.csv"], columns)
    else:
        names = sorted(
            (name for name in files if name.startswith("combined_data_")),
            key=lambda name: int(name.split("_")[2].split(".")[0]),
        )
        expected = [row for name in names for row in netflix_rows(files[name])]
        assert written(folder / "tiny.inter") == expected


def written(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]


def raw_lines(content: bytes) -> list[str]:
    text = content.decode("latin-1").replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


def columns_of(content: bytes, columns) -> list[list[str]]:
    header, *rows = (line.split(",") for line in raw_lines(content))
    return [[row[header.index(column)] for column in columns] for row in rows]


def netflix_rows(content: bytes) -> list[list[str]]:
    rows = []
    for line in raw_lines(content):
        if line.endswith(":"):
            movie = line[:-1]
            continue
        customer, rating, day = line.split(",")
        moment = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc)
        rows.append([customer, movie, rating, str(int(moment.timestamp()))])
    return rows


@cases(80)
@given(data=st.data())
def test_damaged_pro_sg_files(data):
    name = data.draw(st.sampled_from(sorted(PRO_SG)))
    all_or_nothing("pro_sg", {**PRO_SG_BYTES, name: damaged(data, PRO_SG_BYTES[name])})


ids = st.sampled_from(["0", "2", "7", "10", "33", "00", "-1", "1.0", "", "x", "9" * 18, "9" * 19])


@cases(80)
@given(
    name=st.sampled_from(sorted(PARTS)),
    header=st.sampled_from(["uid,sid", "sid,uid", "uid,sid,x", "uid", "uid,uid", "UID,SID"]),
    rows=st.lists(st.tuples(st.integers(0, 6).map(str) | ids, ids), max_size=5),
)
def test_pro_sg_files_of_other_rows(name, header, rows):
    text = "\n".join([header, *map(",".join, rows)])
    all_or_nothing("pro_sg", {**PRO_SG_BYTES, name: text.encode()})


@cases(80)
@given(data=st.data())
def test_damaged_movielens_files(data):
    name = data.draw(st.sampled_from(sorted(ML_20M)))
    all_or_nothing("ml-20m", {**ML_20M, name: damaged(data, ML_20M[name])})


ratings = st.sampled_from(
    ["0.5", "5", "5.0", "4.5", "0", "5.5", "nan", "1e0", "", "4,5", "+4", "é"]
)
moments = st.sampled_from(["0", "1112486027", "-1", "1e9", "", "9" * 18, "2005-01-01"])


@cases(80)
@given(rows=st.lists(st.tuples(ids, ids, ratings, moments), max_size=5))
def test_movielens_files_of_other_rows(rows):
    text = "\n".join(["userId,movieId,rating,timestamp", *map(",".join, rows)])
    all_or_nothing("ml-20m", {"ratings.csv": text.encode()})


@cases(80)
@given(data=st.data())
def test_damaged_netflix_files(data):
    name = data.draw(st.sampled_from(sorted(NETFLIX)))
    all_or_nothing("netflix", {**NETFLIX_BYTES, name: damaged(data, NETFLIX_BYTES[name])})


days = st.sampled_from(["2005-09-06", "1969-12-31", "2005-02-30", "2005-9-6", "", "0000-00-00"])


@cases(80)
@given(
    rows=st.lists(
        ids.map("{}:".format)
        | st.tuples(ids, ratings, days).map(",".join)
        | st.just("1488844,3,2005-09-06"),
        max_size=6,
    )
)
def test_netflix_files_of_other_rows(rows):
    all_or_nothing("netflix", {"combined_data_1.txt": "\n".join(["1:", *rows]).encode()})


@cases(80)
@given(data=st.data())
def test_damaged_zip_archives(tmp_path, data):
    sound = write_zip(tmp_path / "sound.zip", {"ratings.csv": RATINGS}).read_bytes()
    all_or_nothing("ml-20m", {}, packed=damaged(data, sound) or b"\0")


@cases(30)
@given(content=ANY_BYTES)
def test_nothing_but_any_bytes(content):
    all_or_nothing("ml-20m", {"ratings.csv": content})
    all_or_nothing("netflix", {"combined_data_1.txt": content})
    all_or_nothing("pro_sg", {**PRO_SG_BYTES, "train.csv": content})


@cases(30)
@given(data=st.data())
def test_the_command(data):
    kind, files = data.draw(
        st.sampled_from([("pro_sg", PRO_SG_BYTES), ("ml-20m", ML_20M), ("netflix", NETFLIX_BYTES)])
    )
    name = data.draw(st.sampled_from(sorted(files)))
    shutil.rmtree("raw", ignore_errors=True)
    write_files(Path("raw"), {**files, name: damaged(data, files[name], most=1)})
    command = ["prepare", kind, "--raw=raw", "--name=tiny", "--output=out", "--overwrite"]
    command_ends_well("prepare", command, ["raw"], "out")
