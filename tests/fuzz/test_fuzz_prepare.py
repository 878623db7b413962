"""Raw files of `prepare`: a data set of what they hold or one sentence, never half a data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import cases, command_ends_well, damaged, ends_well
from prepare_raw_files import (
    ATOMIC_NAMES,
    FILES,
    RATINGS,
    everything_under,
    expected_rows,
    write_files,
    write_zip,
    written_rows,
)
from recbole_evcf.data.prepare import prepare, raw

IDS = st.sampled_from(["0", "2", "7", "10", "33", "00", "-1", "1.0", "", "x", "9" * 18, "9" * 19])
STARS = st.sampled_from(["0.5", "5", "5.0", "4.5", "0", "5.5", "nan", "1e0", "", "4,5", "+4", "é"])
TIMES = st.sampled_from(["0", "1112486027", "-1", "1e9", "", "9" * 18, "2005-01-01"])
DAYS = st.sampled_from(["2005-09-06", "1969-12-31", "2005-02-30", "2005-9-6", "", "0000-00-00"])
USERS = st.integers(0, 6).map(str) | IDS
ROWS = {
    "pro_sg": (
        sorted(ATOMIC_NAMES),
        ["uid,sid", "sid,uid", "uid,sid,x", "uid", "uid,uid", "UID,SID"],
        st.tuples(USERS, IDS).map(",".join),
    ),
    "ml-20m": (
        ["ratings.csv"],
        ["userId,movieId,rating,timestamp"],
        st.tuples(IDS, IDS, STARS, TIMES).map(",".join),
    ),
    "netflix": (
        ["combined_data_1.txt"],
        ["1:"],
        IDS.map("{}:".format)
        | st.tuples(IDS, STARS, DAYS).map(",".join)
        | st.just("1488844,3,2005-09-06"),
    ),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of some rows only, so that their borders are met."""
    monkeypatch.setattr(raw, "CHUNK_ROWS", 2)


def all_or_nothing(kind: str, files: dict[str, bytes], packed: bytes | None = None) -> None:
    """Prepare, and check what is left on the disk: the rows that plain Python reads, or nothing."""
    shutil.rmtree("case", ignore_errors=True)
    Path("case").mkdir()
    where = Path("case/raw.zip") if packed else write_files(Path("case/raw"), files)
    if packed:
        where.write_bytes(packed)
    reader = f"{kind}{', zip' if packed else ''}"
    ending = ends_well(
        reader, lambda: prepare(kind, where, "tiny", Path("case/out")), [str(where)], "case"
    )
    if ending.refusal is None:
        first, *others = everything_under(Path("case/out"))
        assert first == "tiny"
        assert all(name.startswith("tiny/tiny.") for name in others)
        for name, rows in {} if packed else expected_rows(kind, files).items():
            assert written_rows(Path(f"case/out/tiny/tiny.{name}")) == rows


@pytest.mark.parametrize("kind", FILES)
@cases(160)
@given(data=st.data(), damage=st.booleans())
def test_damaged_files_and_files_of_other_rows(kind, data, damage):
    names, headers, rows = ROWS[kind]
    if damage:
        name = data.draw(st.sampled_from(sorted(FILES[kind])))
        files = {**FILES[kind], name: damaged(data, FILES[kind][name])}
    else:
        header, lines = data.draw(st.sampled_from(headers)), data.draw(st.lists(rows, max_size=6))
        files = dict(FILES[kind]) if kind == "pro_sg" else {}
        files[data.draw(st.sampled_from(names))] = "\n".join([header, *lines]).encode()
    all_or_nothing(kind, files)


@cases(80)
@given(data=st.data())
def test_damaged_zip_archives(tmp_path, data):
    sound = write_zip(tmp_path / "sound.zip", {"ratings.csv": RATINGS}).read_bytes()
    all_or_nothing("ml-20m", {}, packed=damaged(data, sound) or b"\0")


@cases(30)
@given(data=st.data())
def test_the_command(data):
    kind = data.draw(st.sampled_from(sorted(FILES)))
    name = data.draw(st.sampled_from(sorted(FILES[kind])))
    shutil.rmtree("raw", ignore_errors=True)
    write_files(Path("raw"), {**FILES[kind], name: damaged(data, FILES[kind][name], most=1)})
    command = ["prepare", kind, "--raw=raw", "--name=tiny", "--output=out", "--overwrite"]
    command_ends_well("prepare", command, ["raw"], "out")
