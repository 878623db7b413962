"""Data sets as RecBole reads them, raw files of ``prepare``, and what ``recommend`` reads."""

import csv
import io
import json
import os
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

import prepare_raw_files
from fuzzing import (
    ANY_BYTES,
    ANY_VALUES,
    cases,
    command_ends_well,
    damaged,
    empty,
    ends_well,
    file_ends_well,
)
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.data.prepare import prepare, raw
from recbole_evcf.serving.user_histories import read_histories, read_tokens

# Atomic files, and the five files of a split made elsewhere

PAIRS = "user_id:token\titem_id:token"
TIMED = f"{PAIRS}\ttime:float"


def table(header: str, rows) -> str:
    return "\n".join([header, *map("\t".join, rows), ""])


INTER = table(TIMED, [(f"u{n // 9}", f"i{7 * n % 40}", str(n)) for n in range(40)])
ITEM = b"item_id:token\ttitle:token_seq\tyear:float\ni1\tToy Story\t1995\ni5\t\t\ni9\tHeat\t1.5e3\n"
FILES = {"inter": INTER.encode(), "item": ITEM}
PARTS = {"train": ["ax", "ay", "bx", "bz", "cy", "cz"], "valid_fold_in": ["dx", "dy"]}
PARTS |= {"valid_target": ["dz"], "test_fold_in": ["ex", "fz"], "test_target": ["ey", "fx"]}
PARTS = {name: table(PAIRS, rows).encode() for name, rows in PARTS.items()}
SETTINGS = {"data_path": "data", "load_col": None, "state": "error", "show_progress": False}
SETTINGS |= {"mlp_hidden_size": [4], "latent_dimension": 4, "n_pseudo_inputs": 3, "epochs": 1}

ids = st.sampled_from(["a", "b", "i1", "i2", "7", "07", "7.0", "NA", "é", "a b", "x" * 99])
ids = ids | st.text(alphabet="ab1 .-_'é\u2028\x85", min_size=1, max_size=4)
times = st.sampled_from(["0", "1.5", "-3", "1e9", "nan", "inf", "", "NA", "x", "1_0", "0x1"])


def write_set(files: dict[str, bytes]) -> None:
    folder = empty(empty("data") / "fuzzed")
    for name, content in files.items():
        (folder / f"fuzzed.{name}").write_bytes(content)


def read_set(reader: str, files: dict[str, bytes], **settings):
    """The number of rows, the data set and the loaders; None if they are refused."""
    write_set(files)

    def load():
        config = Config("Vamp", "fuzzed", config_dict={**SETTINGS, **settings})
        dataset = create_dataset(config)
        rows = len(dataset.inter_feat)
        return rows, dataset, data_preparation(config, dataset)

    # RecBole names no file when its filters leave nothing.
    names = ["fuzzed", "Some feat is empty", "eval_args", "leaves"]
    found = ends_well(reader, load, names).result
    if found is not None:
        # Ids stand for tokens, each once, and there is a loader for each use.
        _, dataset, loaders = found
        for field, number in (("user_id", dataset.user_num), ("item_id", dataset.item_num)):
            assert len({*map(str, dataset.field2id_token[field])}) == number
            rows = np.asarray(dataset.inter_feat[field])
            assert 1 <= rows.min() <= rows.max() < number
        assert len(loaders) == 3
    return found


@cases(160)
@given(data=st.data(), name=st.sampled_from(["inter", "item"]))
def test_damaged_atomic_files(data, name):
    tabs = st.just(f"{PAIRS}\n".encode() + b"\t" * 1000)
    content = data.draw(damaged(FILES[name]) | ANY_BYTES | tabs)
    read_set("atomic files", {**FILES, name: content})


@cases(100)
@given(rows=st.lists(st.tuples(ids, ids, times), min_size=1, max_size=8))
def test_atomic_files_of_other_rows(rows):
    found = read_set("atomic files", {"inter": table(TIMED, rows).encode()})
    if found is not None:
        n_rows, dataset, _ = found
        assert n_rows <= len(rows)
        users = {str(token) for token in dataset.field2id_token["user_id"][1:]}
        assert users <= {user for user, _, _ in rows}


split_rows = st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("xyzwé")), max_size=4)
other_parts = split_rows.map(lambda rows: table(PAIRS, rows).encode())


@cases(220)
@given(data=st.data(), name=st.sampled_from(sorted(PARTS)))
def test_files_of_a_split(data, name):
    """Damaged ones, and ones of other rows."""
    content = data.draw(damaged(PARTS[name]) | other_parts)
    files = {f"{part}.inter": sound for part, sound in {**PARTS, name: content}.items()}
    found = read_set("files of a split", files, benchmark_filename=list(PARTS))
    if found is not None:
        train, *held_out = found[-1]
        groups = [set(np.asarray(train._dataset.inter_feat["user_id"]).tolist())]
        groups += [set(loader.uid_list.tolist()) for loader in held_out]
        assert len(set.union(*groups)) == sum(map(len, groups))


@cases(5)
@given(data=st.data(), name=st.sampled_from(["inter", "item"]))
def test_runs_of_damaged_data_sets(data, name):
    write_set({**FILES, name: data.draw(damaged(FILES[name]))})
    words = [f"--{key}={value}" for key, value in SETTINGS.items() if value is not None]
    run = ["run", "--model=Vamp", "--dataset=fuzzed", *words]
    command_ends_well("runs of damaged data sets", run, ["fuzzed"])


# Raw files: a data set of what they hold or one sentence, never half a data set

IDS = st.sampled_from(["0", "2", "7", "10", "33", "00", "-1", "1.0", "", "x", "9" * 18, "9" * 19])
STARS = st.sampled_from(["0.5", "5", "5.0", "4.5", "0", "5.5", "nan", "1e0", "", "4,5", "+4", "é"])
TIMES = st.sampled_from(["0", "1112486027", "-1", "1e9", "", "9" * 18, "2005-01-01"])
DAYS = st.sampled_from(["2005-09-06", "1969-12-31", "2005-02-30", "2005-9-6", "", "0000-00-00"])
ROWS = {
    "pro_sg": (
        sorted(prepare_raw_files.ATOMIC_NAMES),
        ["uid,sid", "sid,uid", "uid,sid,x", "uid", "uid,uid", "UID,SID"],
        st.tuples(st.integers(0, 6).map(str) | IDS, IDS).map(",".join),
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


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of some rows only, so that their borders are met."""
    monkeypatch.setattr(raw, "CHUNK_ROWS", 2)


def all_or_nothing(kind: str, files: dict[str, bytes], packed: bytes | None = None) -> None:
    """Prepare, and check what is left on the disk: the rows that plain Python reads, or nothing."""
    folder = empty("case")
    where, out = folder / "raw.zip", folder / "out"
    if packed:
        where.write_bytes(packed)
    else:
        where = prepare_raw_files.write_files(Path("case/raw"), files)
    reader = f"prepare {kind}{', zip' if packed else ''}"
    ending = ends_well(reader, lambda: prepare(where, "tiny", kind, out), [str(where)], "case")
    if ending.refusal is None:
        first, *others = prepare_raw_files.everything_under(out)
        assert first == "tiny"
        assert all(name.startswith("tiny/tiny.") for name in others)
        expected = {} if packed else prepare_raw_files.expected_rows(kind, files)
        for name, rows in expected.items():
            assert prepare_raw_files.written_rows(out / f"tiny/tiny.{name}") == rows


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ROWS)
@cases(160)
@given(data=st.data(), damage=st.booleans())
def test_damaged_raw_files_and_ones_of_other_rows(kind, data, damage):
    (names, headers, rows), sound = ROWS[kind], prepare_raw_files.FILES[kind]
    if damage:
        name = data.draw(st.sampled_from(sorted(sound)))
        files = {**sound, name: data.draw(damaged(sound[name]))}
    else:
        header, lines = data.draw(st.sampled_from(headers)), data.draw(st.lists(rows, max_size=6))
        files = dict(sound) if kind == "pro_sg" else {}
        files[data.draw(st.sampled_from(names))] = "\n".join([header, *lines]).encode()
    all_or_nothing(kind, files)


@pytest.mark.usefixtures("small_chunks")
@cases(80)
@given(data=st.data())
def test_damaged_zip_archives(tmp_path, data):
    ratings = {"ratings.csv": prepare_raw_files.RATINGS}
    sound = prepare_raw_files.write_zip(tmp_path / "sound.zip", ratings).read_bytes()
    all_or_nothing("ml-20m", {}, packed=data.draw(damaged(sound)) or b"\0")


ORDERS = b'customer,sku,stars,date\nC-1,A,5,1700000000\nC-2,B,4,2026-11-26\n"C, 3",A,,\n'
JSON_LINES = b'{"user": "a", "item": 7, "time": 1.7e12}\n{"user": 1, "item": null}\n'


@cases(200)
@given(data=st.data(), form=st.sampled_from([("csv", ORDERS), ("jsonl", JSON_LINES)]))
def test_tables(data, form):
    ending, sound = form
    file = empty("case") / f"orders.{ending}"
    file.write_bytes(data.draw(damaged(sound) | ANY_BYTES))
    read = partial(prepare, file, "shop", output="case/out")
    found = ends_well(f"prepare table, .{ending}", read, [str(file), "nothing is left"], "case")
    if found.refusal is None:
        types = {"user_id:token": str, "item_id:token": str}
        table = pd.read_csv("case/out/shop/shop.inter", sep="\t", dtype=types, na_filter=False)
        assert len(table)
        assert (table[[*types]] != "").all(axis=None)
        assert not table.duplicated([*types]).any()


@pytest.mark.usefixtures("small_chunks")
@cases(30)
@given(data=st.data(), kind=st.sampled_from(sorted(ROWS)))
def test_the_command_prepare(data, kind):
    sound = prepare_raw_files.FILES[kind]
    name = data.draw(st.sampled_from(sorted(sound)))
    content = data.draw(damaged(sound[name], most=1))
    prepare_raw_files.write_files(empty("case") / "raw", {**sound, name: content})
    command = ["prepare", kind, "--raw=case/raw", "--name=tiny", "--output=out", "--overwrite"]
    command_ends_well("the command prepare", command, ["raw"], "out")


# Users' histories and lists of items

ITEMS = np.array([f"i{number}" for number in range(1, 40)], dtype=object)
CATALOGUE = ItemCatalogue(ITEMS, np.ones(len(ITEMS), dtype=np.int64))
FIELDS = ("user_id", "user"), ("item_id", "item")
SEPARATOR = {"csv": ",", "tsv": "\t", "inter": "\t"}
SOUND = {
    "csv": b"user,item,when\nann,i1,3\nben,i7,4\nann,i5,\ncarl,x,2\nann,i1,1\n",
    "tsv": b"item_id\tuser_id\ni1\tann\ni7\tben\ni5\tann\n",
    "inter": b"user_id:token\titem_id:token\ttime:float\nann\ti1\t3\nben\ti7\t4\nann\ti5\t1\n",
    "jsonl": b'{"user": "ann", "items": ["i1", "i5"]}\n\n{"user": 7, "items": []}\n',
}
READ = {
    "csv": lambda path: pd.read_csv(path, keep_default_na=False),
    "jsonl": lambda path: list(map(json.loads, Path(path).read_text("utf-8").split("\n")[:-1])),
    "parquet": pd.read_parquet,
}

tokens = st.sampled_from(["ann", "ben", "i1", "i2", "x", "7", "07", "1.0", "NA", "é", "a b", " "])
tokens = tokens | st.text(alphabet="ab1 .-_\"'é\u2028", max_size=5)
# JSON can name half a character, which no file in UTF-8 can hold.
json_tokens = tokens | st.just("\ud800")


def read(ending: str, content: bytes):
    """The users' known items by user, and the remarks; None if they are refused."""
    reading = partial(read_histories, catalogue=CATALOGUE, fields=FIELDS)
    users = file_ends_well(f"histories .{ending}", f"h.{ending}", content, reading).result
    if users is None:
        return None
    matrix = users.histories
    assert matrix.shape == (len(users), len(ITEMS))
    assert matrix.has_canonical_format
    found = {user: set(ITEMS[row.indices]) for user, row in zip(users.users.tolist(), matrix)}
    assert len(found) == len(users) > 0
    return found, users.remarks


@cases(200)
@given(data=st.data(), ending=st.sampled_from(sorted(SOUND)))
def test_damaged_histories_and_any_bytes(data, ending):
    read(ending, data.draw(ANY_BYTES | damaged(SOUND[ending])))


@cases(120)
@given(
    rows=st.lists(st.tuples(tokens, tokens, tokens), min_size=1, max_size=8),
    ending=st.sampled_from(sorted(SEPARATOR)),
    order=st.permutations([0, 1, 2]),
)
def test_tables_are_read_as_pythons_csv_module_reads_them(rows, ending, order):
    typed = ":token" if ending == "inter" else ""
    header = (f"user_id{typed}", f"item_id{typed}", f"more{typed}")
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=SEPARATOR[ending], lineterminator="\n")
    writer.writerows([row[place] for place in order] for row in [header, *rows])
    result = read(ending, stream.getvalue().encode())
    whole = [(user, item) for user, item, _ in rows if "" not in (user, item)]
    assert (result is None) == (not whole)
    if result is not None:
        found, remarks = result
        is_noted = any("rows without" in text or "row without" in text for text in remarks)
        assert is_noted == (len(whole) < len(rows))
        expected = {user: set() for user, _ in whole}
        for user, item in whole:
            expected[user] |= {item} & set(ITEMS)
        assert list(found.items()) == list(expected.items())


@cases(120)
@given(
    lines=st.lists(
        st.fixed_dictionaries({"user": json_tokens, "items": st.lists(json_tokens, max_size=4)})
        | st.dictionaries(st.sampled_from(["user", "items", "x"]), ANY_VALUES, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_json_lines_are_read_as_pythons_json_module_reads_them(lines):
    texts = [json.dumps(line, default=str) for line in lines if line]
    result = read("jsonl", "\n".join(texts).encode())
    for line in map(json.loads, texts) if result else ():
        assert {str(item) for item in line["items"]} & set(ITEMS) <= result[0][str(line["user"])]


@cases(60)
@given(content=ANY_BYTES | damaged("i1\n\n  i2 \r\né\n".encode()))
def test_lists_of_items(content):
    found = file_ends_well("item lists", "items.txt", content, read_tokens).result
    if found is not None:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        assert found == [line.strip() for line in text.split("\n") if line.strip()]


@cases(40)
@given(data=st.data(), ending=st.sampled_from(sorted(SOUND)), written=st.sampled_from(sorted(READ)))
def test_recommend_writes_a_whole_file_or_none(trained, data, ending, written):
    content = data.draw(damaged(SOUND[ending], most=2))
    if ending == "jsonl":
        content = data.draw(st.sampled_from([content, b'{"user": "\\ud800", "items": ["i1"]}\n']))
    Path(f"new.{ending}").write_bytes(content)
    Path("block.txt").write_bytes(data.draw(ANY_BYTES | st.just(b"i2\ni3\n")))
    target = empty("out") / f"recs.{written}"
    command = ["recommend", f"--model_file={trained.models['Vamp']}", f"--output={target}"]
    command += [f"--histories=new.{ending}", "--block_items=block.txt", "--topk=3"]
    names = [f"new.{ending}", "block.txt"]
    if command_ends_well("the command recommend, histories", command, names, "out").refusal is None:
        assert len(READ[written](target)) > 0
        os.unlink(target)
    assert os.listdir("out") == []


def half_written():
    Path("out").mkdir()
    Path("out/x.tmp").touch()
    raise ValueError("the file x is bad")


WRONG = [KeyError("x")]
WRONG += map(ValueError, ["", "something is wrong", "the file x is bad " * 99])


@pytest.mark.parametrize(
    "case",
    [*(Mock(side_effect=error) for error in WRONG), half_written, lambda: np.ones(2**30).sum()],
)
def test_the_oracle_refuses_what_it_must(case):
    """Tracebacks, hollow sentences, endless ones and files left behind do not pass."""
    with pytest.raises((AssertionError, KeyError, MemoryError)):
        ends_well("the oracle itself", case, ["file x"], "out")
