"""Recommendations in files: whole or absent, and read back by others."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from recbole_evcf.serving.write_recommendations import check_output, write_recommendations


def frame(users, k=3, start=0.1):
    n = len(users) * k
    return pd.DataFrame(
        {
            "user": np.repeat(np.array(users, dtype=object), k),
            "item": np.array([f'i{i}, "ü"' for i in range(n)], dtype=object),
            "score": (start + np.arange(n) / 7).astype(np.float32),
            "rank": np.tile(np.arange(1, k + 1), len(users)),
            "from_prior": np.repeat([user == "b" for user in users], k),
        }
    )


FRAMES = [frame(["a", "b"]), frame([]), frame(["c"], k=2, start=-1e-9)]
EXPECTED = pd.concat(FRAMES, ignore_index=True)


def from_json_lines(path):
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        user = json.loads(line)
        for rank, (item, score) in enumerate(zip(user["items"], user["scores"]), 1):
            rows.append((user["user"], item, score, rank, user["from_prior"]))
    return pd.DataFrame(rows, columns=EXPECTED.columns)


READERS = {".csv": pd.read_csv, ".jsonl": from_json_lines, ".parquet": pd.read_parquet}


def frames_on_a_full_disk():
    yield FRAMES[0]
    raise OSError("No space left on device")


@pytest.mark.parametrize("ending", READERS)
def test_what_is_written_is_read_back_and_atomic(ending, tmp_path):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"recs{ending}"
    check_output(str(path))
    with pytest.raises(OSError, match="No space"):
        write_recommendations(str(path), frames_on_a_full_disk())
    assert list(tmp_path.iterdir()) == []
    write_recommendations(str(path), FRAMES)
    found = READERS[ending](path)
    assert found["score"].astype(np.float32).tolist() == EXPECTED["score"].tolist()
    pd.testing.assert_frame_equal(found, EXPECTED, check_dtype=False, check_exact=False)
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space"):
        write_recommendations(str(path), frames_on_a_full_disk())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_cannot_be_written(tmp_path, monkeypatch):
    for name, message in (
        ("recs.xlsx", "written to .csv, .jsonl, .parquet files"),
        ("recs", "written to .csv"),
        ("none/recs.csv", "there is no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            check_output(str(tmp_path / name))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        check_output(str(tmp_path / "folder.csv"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="pip install pyarrow"):
        check_output(str(tmp_path / "recs.parquet"))


def test_a_score_that_is_no_number_is_null_in_json(tmp_path):
    path = tmp_path / "recs.jsonl"
    scores = np.array([np.nan, -np.inf, 0.5], dtype=np.float32)
    write_recommendations(str(path), [frame(["a"]).assign(score=scores)])
    line = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert line["scores"] == [None, None, 0.5]
