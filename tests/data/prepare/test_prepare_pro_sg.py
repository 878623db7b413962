"""The "pro_sg" layout becomes RecBole's five files and back without moving an interaction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from prepare_raw_files import ATOMIC_NAMES, PRO_SG, everything_under, read_atomic, write_files
from recbole_evcf.data.prepare import Counts, format_report, lines, prepare_pro_sg

REAL = Path("/work/shared/data/ml-1m-pro_sg")


def prepare(raw, output, **options):
    return prepare_pro_sg(raw, "tiny", output, show_progress=False, **options)


def back_to_csv(folder: Path, name: str) -> dict[str, bytes]:
    """Turn the five atomic files back into the raw ones."""
    files = {}
    for csv_name, part in ATOMIC_NAMES.items():
        header, _, rows = (folder / f"{name}.{part}.inter").read_bytes().partition(b"\n")
        assert header == b"user_id:token\titem_id:token"
        files[csv_name] = b"uid,sid\n" + rows.replace(b"\t", b",")
    return files


def random_split(seed: int) -> dict[str, str]:
    """A split with ids of many lengths, rows in no order."""
    rng = np.random.default_rng(seed)
    items = np.unique(rng.integers(0, 10 ** rng.integers(1, 15, 40)))
    rows: dict[str, list[str]] = {name: [] for name in ATOMIC_NAMES}
    rows["train.csv"] = [f"0,{item}" for item in items]
    for user in rng.permutation(np.arange(1, 60)):
        seen = rng.permutation(items)[: rng.integers(5, 12)]
        if user < 40:
            rows["train.csv"] += [f"{user},{item}" for item in seen]
            continue
        part = "validation" if user < 50 else "test"
        cut = len(seen) // 5
        rows[f"{part}_te.csv"] += [f"{user},{item}" for item in seen[:cut]]
        rows[f"{part}_tr.csv"] += [f"{user},{item}" for item in seen[cut:]]
    return {name: "\n".join(["uid,sid", *rng.permutation(r)]) + "\n" for name, r in rows.items()}


@pytest.mark.parametrize("block", [32, 4 * 2**20])
@pytest.mark.parametrize("seed", range(3))
def test_there_and_back_gives_the_same_bytes(tmp_path, monkeypatch, seed, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    split = random_split(seed)
    prepare(write_files(tmp_path / "raw", split), tmp_path / "out")
    expected = {name: text.encode() for name, text in split.items()}
    assert back_to_csv(tmp_path / "out" / "tiny", "tiny") == expected


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the shared ML-1M split")
def test_there_and_back_on_a_real_split(tmp_path):
    report = prepare(REAL, tmp_path)
    expected = {name: (REAL / name).read_bytes() for name in ATOMIC_NAMES}
    assert back_to_csv(tmp_path / "tiny", "tiny") == expected
    assert report.warnings == ()


def test_only_the_five_files_and_the_config_are_written(tmp_path):
    prepare(write_files(tmp_path / "raw", PRO_SG), tmp_path / "out")
    parts = [f"tiny/tiny.{part}.inter" for part in ATOMIC_NAMES.values()]
    assert everything_under(tmp_path / "out") == sorted(["tiny", "tiny/tiny.yaml", *parts])


def test_config_file(tmp_path):
    prepare(write_files(tmp_path / "raw", PRO_SG), tmp_path / "out")
    text = (tmp_path / "out" / "tiny" / "tiny.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {
        "data_path": str(tmp_path / "out"),
        "benchmark_filename": list(ATOMIC_NAMES.values()),
        "load_col": {"inter": ["user_id", "item_id"]},
    }
    assert "--config_files" in text


def test_recbole_reads_all_five(tmp_path, monkeypatch):
    config_module = pytest.importorskip("recbole.config")
    dataset_module = pytest.importorskip("recbole.data.dataset")
    prepare(write_files(tmp_path / "raw", PRO_SG), tmp_path / "out")
    monkeypatch.setattr("sys.argv", ["test"])
    monkeypatch.chdir(tmp_path)
    config = config_module.Config(
        model="Pop",
        dataset="tiny",
        config_file_list=[str(tmp_path / "out" / "tiny" / "tiny.yaml")],
        config_dict={"use_gpu": False},
    )
    train, valid, test = dataset_module.Dataset(config).build()
    targets, fold_in = (valid, test), (valid.fold_in, test.fold_in)
    assert [len(train), *map(len, targets)] == [6, 1, 2]
    assert [len(histories.columns) for histories in fold_in] == [3, 4]


def test_column_order_extra_columns_and_line_ends(tmp_path):
    plain = write_files(tmp_path / "plain", PRO_SG)
    shuffled = {name: text for name, text in PRO_SG.items() if name == "unique_sid.txt"}
    for name in ATOMIC_NAMES:
        rows = [row.split(",") for row in PRO_SG[name].splitlines()]
        shuffled[name] = "\r\n".join(
            f"{sid},caf\u00e9 {k},{uid}" for k, (uid, sid) in enumerate(rows)
        )
        shuffled[name] = shuffled[name].replace("caf\u00e9 0", "note")
    prepare(plain, tmp_path / "a")
    prepare(write_files(tmp_path / "shuffled", shuffled), tmp_path / "b")
    a, b = tmp_path / "a" / "tiny", tmp_path / "b" / "tiny"
    assert back_to_csv(a, "tiny") == back_to_csv(b, "tiny")


def test_report(tmp_path):
    report = prepare(write_files(tmp_path / "raw", PRO_SG), tmp_path / "out")
    assert report.counts == Counts(interactions=16, users=7, items=4)
    assert report.rows["tiny.valid_target.inter"] == 1
    assert "tiny.train.inter: 6 interactions" in format_report(report)
    read = read_atomic(tmp_path / "out" / "tiny" / "tiny.train.inter")
    assert list(read["item_id:token"]) == ["10", "2", "2", "33", "10", "7"]


def test_odd_but_possible_is_a_warning(tmp_path):
    files = {**PRO_SG, "unique_sid.txt": "1\n", "test_te.csv": "uid,sid\n5,33\n5,33\n6,2\n"}
    report = prepare(write_files(tmp_path / "raw", files), tmp_path / "out")
    repeated, listed = report.warnings
    assert "test_te.csv" in repeated
    assert "1 rows repeat" in repeated
    assert "lists 1 items, but training has 4" in listed
    assert f"warning: {listed}" in format_report(report)


@pytest.mark.parametrize("content", [None, b"", b"\xff\n\xfe\n1\n2"])
def test_the_list_of_items_is_not_needed(tmp_path, content):
    files = {name: text for name, text in PRO_SG.items() if name != "unique_sid.txt"}
    if content is not None:
        files["unique_sid.txt"] = content
    report = prepare(write_files(tmp_path / "raw", files), tmp_path / "out")
    assert len(report.warnings) == (content == b"")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", "", "train.csv: the file is empty"),
        ("train.csv", "uid,sid\n", "train.csv, line 2: there are no rows"),
        ("train.csv", "uid,item\n1,2\n", "train.csv, line 1: the column sid is missing"),
        ("train.csv", "uid,sid,uid\n1,2,3\n", "train.csv, line 1: the column uid is repeated"),
        ("train.csv", "uid,sid\n1,2\n1,\n", "train.csv, line 3: an empty field is not a whole"),
        ("train.csv", "uid,sid\n1,2\nx,2\n", "train.csv, line 3: 'x' is not a whole number"),
        ("train.csv", "uid,sid\n1,2\n-1,2\n", "train.csv, line 3: '-1' is not a whole number"),
        ("train.csv", "uid,sid\n1,2\n1,02\n", "train.csv, line 3: '02' is not a whole number"),
        ("train.csv", "uid,sid\n1," + "9" * 19 + "\n", "line 2: '9{19}' is not a whole number"),
        ("train.csv", b"uid,sid\n1,\xff\n", r"train.csv, line 2: .* is not a whole number"),
        ("train.csv", "uid,sid\n1,2\n1\n", "train.csv, line 3: expected 2 fields .* found 1"),
        ("train.csv", "uid,sid\n1,2,3\n1\n", "train.csv, line 2: expected 2 fields .* found 3"),
        ("train.csv", "uid,sid\n1,2\n\n3,4\n", "train.csv, line 3: expected 2 fields"),
        ("test_tr.csv", "uid,sid\n5,10\n5,2\n6,99\n", "test_tr.csv, line 4: .* item 99 of user 6"),
        ("test_te.csv", "uid,sid\n5,34\n", "test_te.csv, line 2: .* never saw item 34 of user 5"),
        ("test_tr.csv", "uid,sid\n5,2\n0,2\n", "test_tr.csv, line 3: user 0 is in train.csv"),
        ("test_tr.csv", "uid,sid\n5,2\n4,2\n", "test_tr.csv, line 3: user 4 .* validation users"),
        ("test_te.csv", "uid,sid\n5,33\n8,2\n", "line 3: user 8 has no rows in test_tr.csv"),
        (
            "validation_te.csv",
            "uid,sid\n3,10\n3,2\n",
            "line 3: item 2 of user 3 is in validation_tr",
        ),
    ],
)
def test_a_broken_split_is_refused(tmp_path, name, content, message):
    raw = write_files(tmp_path / "raw", {**PRO_SG, name: content})
    with pytest.raises(ValueError, match=message) as caught:
        prepare(raw, tmp_path / "out" / "deep")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ATOMIC_NAMES)
def test_a_missing_file_is_refused(tmp_path, name):
    raw = write_files(tmp_path / "raw", {k: v for k, v in PRO_SG.items() if k != name})
    with pytest.raises(ValueError, match=f"raw: holds no {name}"):
        prepare(raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_line_is_right_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    text = "uid,sid\n" + "".join(f"1,{item}\n" for item in range(500)) + "1,x\n"
    raw = write_files(tmp_path / "raw", {**PRO_SG, "train.csv": text})
    with pytest.raises(ValueError, match=r"train.csv, line 502: 'x'"):
        prepare(raw, tmp_path / "out")


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    raw = write_files(tmp_path / "raw", {**PRO_SG, "train.csv": "uid,sid\n" + "1" * 1000})
    with pytest.raises(ValueError, match=r"train\.csv, line 2: longer than 64 bytes"):
        prepare(raw, tmp_path / "out")
