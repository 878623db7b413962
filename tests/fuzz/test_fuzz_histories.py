"""Files of users' histories and lists of items: what ``recommend`` reads."""

import csv
import io
import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import ANY_BYTES, ANY_VALUES, cases, command_ends_well, damaged, ends_well
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.serving.user_histories import read_histories, read_tokens

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
    """The users, each once, with known items, each once; None if they are refused."""
    path = f"histories.{ending}"
    Path(path).write_bytes(content)
    users = ends_well(
        f"histories .{ending}", lambda: read_histories(path, CATALOGUE, FIELDS), [path]
    ).result
    if users is not None:
        assert users.histories.shape == (len(users), len(ITEMS))
        assert len(set(users.users.tolist())) == len(users) > 0
        assert users.histories.has_canonical_format
    return users


def by_user(users) -> dict:
    matrix = users.histories
    return {
        user: {ITEMS[column] for column in matrix[row].indices}
        for row, user in enumerate(users.users.tolist())
    }


@cases(200)
@given(data=st.data(), ending=st.sampled_from(sorted(SOUND)))
def test_damaged_files_and_any_bytes(data, ending):
    read(ending, data.draw(ANY_BYTES | st.builds(lambda: damaged(data, SOUND[ending]))))


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
    users = read(ending, stream.getvalue().encode())
    whole = [(user, item) for user, item, _ in rows if "" not in (user, item)]
    assert (users is None) == (not whole)
    if users is not None:
        assert any("rows without" in r or "row without" in r for r in users.remarks) == (
            len(whole) < len(rows)
        )
        expected = {user: set() for user, _ in whole}
        for user, item in whole:
            expected[user] |= {item} & set(ITEMS)
        assert list(by_user(users).items()) == list(expected.items())


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
    users = read("jsonl", "\n".join(texts).encode())
    if users is not None:
        found = by_user(users)
        for line in map(json.loads, texts):
            assert {str(item) for item in line["items"]} & set(ITEMS) <= found[str(line["user"])]


@cases(60)
@given(data=st.data())
def test_lists_of_items(data):
    sound = "i1\n\n  i2 \r\nné\n".encode()
    content = data.draw(ANY_BYTES | st.builds(lambda: damaged(data, sound)))
    Path("items.txt").write_bytes(content)
    found = ends_well("item lists", lambda: read_tokens("items.txt"), ["items.txt"]).result
    if found is not None:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        assert found == [line.strip() for line in text.split("\n") if line.strip()]


@cases(40)
@given(data=st.data(), ending=st.sampled_from(sorted(SOUND)), written=st.sampled_from(sorted(READ)))
def test_recommend_writes_a_whole_file_or_none(trained, data, ending, written):
    content = damaged(data, SOUND[ending], most=2)
    if ending == "jsonl":
        content = data.draw(st.sampled_from([content, b'{"user": "\\ud800", "items": ["i1"]}\n']))
    Path(f"new.{ending}").write_bytes(content)
    Path("block.txt").write_bytes(data.draw(ANY_BYTES | st.just(b"i2\ni3\n")))
    shutil.rmtree("out", ignore_errors=True)
    Path("out").mkdir()
    target = f"out/recs.{written}"
    arguments = [f"--histories=new.{ending}", "--block_items=block.txt", "--topk=3"]
    found = command_ends_well(
        "recommend --histories",
        ["recommend", f"--model_file={trained.models['Vamp']}", *arguments, f"--output={target}"],
        [f"new.{ending}", "block.txt"],
        "out",
    )
    if found.refusal is None:
        assert len(READ[written](target)) > 0
        os.unlink(target)
    assert os.listdir("out") == []


def half_written():
    Path("out").mkdir()
    Path("out/x.tmp").touch()
    raise ValueError("the file x is bad")


WRONG = [KeyError("x")]
WRONG += map(ValueError, ["", "something is wrong", "x \x1b[2J", "x " * 500])


@pytest.mark.parametrize(
    "case",
    [*(Mock(side_effect=error) for error in WRONG), half_written, lambda: np.ones(2**30).sum()],
)
def test_the_oracle_refuses_what_it_must(case):
    """Tracebacks, hollow sentences, control characters and files left behind do not pass."""
    with pytest.raises((AssertionError, KeyError, MemoryError)):
        ends_well("the oracle itself", case, ["file x"], "out")
