"""Faulty atomic files get one sentence that says what is wrong and where."""

from __future__ import annotations

import codecs
import random
import re

import numpy as np
import pandas as pd
import pytest

from recbole_evcf.data import atomic

HEADER = "user_id:token\titem_id:token\trating:float\n"


@pytest.fixture
def write(tmp_path):
    def write(content, encoding="utf-8"):
        path = tmp_path / "ml.inter"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return str(path)

    return write


def fault_in_header(path, separator="\t", encoding=None, required=()):
    with pytest.raises(ValueError, match=r".") as caught:
        atomic.check_header(path, separator, encoding, required)
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.startswith(path)
    assert message.isprintable()
    assert len(message) < len(path) + 400
    return message[len(path) :]


def fault(path, separator="\t", encoding=None, **kwargs):
    """What is wrong with a file that pandas refuses."""
    atomic.check_header(path, separator, encoding)
    refused = pytest.raises(ValueError, match=r".")
    with refused as caught, atomic.reading(path, separator, encoding, **kwargs):
        read(path, separator, encoding)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(path)


def read(path, separator="\t", encoding=None):
    """Read a file the way RecBole's ``Dataset._load_feat`` does."""
    with open(path, encoding=encoding) as file:
        columns = file.readline()[:-1].split(separator)
    dtype = {column: np.float64 if column.endswith(":float") else str for column in columns}
    return pd.read_csv(
        path,
        delimiter=separator,
        usecols=columns,
        dtype=dtype,
        encoding=encoding,
        engine="python",
    )


GOOD = {
    "plain": HEADER + "a\tb\t3\n",
    "no end of line": HEADER + "a\tb\t3",
    "windows": (HEADER + "a\tb\t3\n").replace("\n", "\r\n"),
    "old mac": (HEADER + "a\tb\t3\n").replace("\n", "\r"),
    "blank lines": HEADER + "\n  \na\tb\t3\n\n",
    "missing float": HEADER + "a\tb\t\nc\td\tNaN\ne\tf\tNA\n",
    "odd numbers": HEADER + "a\tb\t 1e-3 \na\tb\t-inf\na\tb\t1e999\na\tb\t1_000\na\tb\t٣\n",
    "quoted number": HEADER + 'a\tb\t"3"\n',
    "quoted separator": HEADER + '"a\tx"\tb\t3\n',
    "quoted line end": HEADER + '"a\nx"\t"b ""c"""\t3\n',
    "quote inside": HEADER + 'a"x\tb\t3\n',
    "unicode": HEADER + "Žižek\t雪国 \U0001f40d\u2028x\t3\n",
    "long id": HEADER + "a" * 100_000 + "\tb\t3\n",
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_good_files_pass_here_and_in_pandas(write, content):
    path = write(content)
    atomic.check_header(path, "\t", None, ["user_id", "item_id"])
    with atomic.reading(path, "\t", None):
        frame = read(path)
    assert len(frame) >= 1
    assert isinstance(frame.index, pd.RangeIndex)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("user_id", "column 1, 'user_id', is not of the form name:type, as in user_id:token"),
        ("user_id:token\t", "column 2, '', is not of the form name:type"),
        ("user_id:token\tb:c:token", "column 2, 'b:c:token', is not of the form name:type"),
        (":token", "column 1, ':token', is not of the form name:type"),
        (
            "user_id:token\tage:int",
            "column 2, 'age:int', has the unknown type 'int'; "
            "the types are token, float, token_seq, float_seq",
        ),
        ("user_id: token", "has the unknown type ' token'"),
        ("user_id:", "has the unknown type ''"),
        ("user_id:token\tuser_id:float", "column 2, 'user_id:float', repeats the name 'user_id'"),
        ('"user_id:token"\t"x:token"', "is in quotes, which RecBole does not remove"),
        ("user_id:token\tx\x1b[31m:float\ty", "column 3, 'y', is not"),
        ("\x1b[31m" + "x" * 500, f"'\\x1b[31m{'x' * 52}...'"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_faulty_columns_of_the_header(write, header, said, end):
    message = fault_in_header(write(header + end + "1\t2\t3" + end))
    assert message.startswith(", line 1: column ")
    assert said in message
    assert message.endswith(".")


def test_empty_and_blank_files(write):
    assert fault_in_header(write("")).startswith(" is empty; line 1 must name the columns")
    assert fault_in_header(write("\n" + HEADER)).startswith(", line 1 is blank")
    assert fault_in_header(write("", "utf-8"), encoding="utf-8").startswith(" is empty")


@pytest.mark.parametrize("rows", ["", "\n", "\r\n\r\n", "  \n"])
def test_no_rows(write, rows):
    assert fault_in_header(write(HEADER + rows)) == " holds no rows, only the header in line 1."


def test_required_columns(write):
    path = write(HEADER + "a\tb\t3\n")
    atomic.check_header(path, "\t", None, ["user_id", "item_id", "rating"])
    assert fault_in_header(path, required=["user_id", "timestamp"]) == (
        ", line 1: there is no column 'timestamp', which is required; "
        "the columns are 'user_id, item_id, rating'."
    )


@pytest.mark.parametrize("separator", ["", None, "\\t", r"\s+", "||", "((", '"', "\n"])
def test_separators_that_pandas_and_recbole_take_differently(write, separator):
    message = fault_in_header(write(HEADER + "a\tb\t3\n"), separator=separator)
    assert f"cannot be split at field_separator {separator!r}" in message


def test_byte_order_mark(write):
    path = write(HEADER + "a\tb\t3\n", "utf-8-sig")
    for encoding in (None, "utf-8"):
        message = fault_in_header(path, encoding=encoding)
        assert message.startswith(", line 1 begins with a byte order mark (BOM)")
        assert "part of the first column's name" in message
        assert "set encoding to utf-8-sig" in message
    atomic.check_header(path, "\t", "utf-8-sig", ["user_id"])


def test_undecodable_header(write):
    good = HEADER + "a\tb\t3\n"
    message = fault_in_header(write(good, "utf-16"))
    assert message.startswith(", line 1: byte 0xff cannot be read as utf-8; is this a text file")
    assert "line 1: byte 0x8b cannot" in fault_in_header(write(b"\x1f\x8b\x08\x00binary\xff"))
    assert "line 1 holds a NUL" in fault_in_header(write(good, "utf-16-le"))
    assert "cannot be read as utf-16" in fault_in_header(write(good), encoding="utf-16")
    assert "'nonsense', unknown to Python" in fault_in_header(write(good), encoding="nonsense")


def test_a_first_row_with_surplus_columns_would_shift_them_all(write):
    path = write(HEADER + "a\tb\t3\t\nc\td\t4\t\n")
    assert not isinstance(read(path).index, pd.RangeIndex)
    assert fault_in_header(path) == (
        ", line 2 has 4 columns, the last one empty, the header has 3."
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a\tb\tabc", ": column rating:float holds 'abc', which is not a number."),
        ("a\tb\t ", ": column rating:float holds ' ', which is not a number."),
        ("a\tb\t1,5", ": column rating:float holds '1,5', which is not a number."),
        ("a\tb\t1\x01", ": column rating:float holds '1\\x01', which is not a number."),
        ("a\tb\t" + "é" * 99, f": column rating:float holds '{'é' * 57}...', which is not a"),
        ('"a\tb\t3', ': a quote (") opens a column and is not closed at its end'),
    ],
)
def test_faulty_rows(write, row, said, end):
    content = HEADER + 'a\tb\t3\n\n"\u2028"\tb\t\n' + row + "\na\tb\t3\n"
    path = write(content.replace("\n", end))
    atomic.check_header(path, "\t", None, ["user_id", "item_id"])
    assert fault(path).startswith(f", line 5{said}")


def test_undecodable_rows(write):
    rows = b"a\tb\t3\n" * 5000
    path = write(HEADER.encode() + rows + b"\xe9\tb\t3\n" + rows)
    atomic.check_header(path, "\t", None)
    said = ", line 5002: byte 0xe9 cannot be read as utf-8; is this a text file, and the setting "
    assert fault(path) == said + "encoding right?"
    odd = codecs.BOM_UTF16_LE + (HEADER + "a\tb\t3\n").encode("utf-16-le") + b"\n"
    assert "cannot be read as utf-16" in fault(write(odd), encoding="utf-16")


def read_described(path):
    with atomic.reading(path, "\t", None):
        read(path)


FAULTS = {
    "number": (HEADER + "a\tb\t3\na\tb\tabc\n", "line 3: column rating:float holds 'abc'"),
    "unclosed quote": (HEADER + 'a\tb\t3\n"a\tb\t3\n', "line 3: a quote"),
    "quote inside": (HEADER + 'a\tb\t3\n"a"x\tb\t3\n', ": a quote"),
    "encoding": (HEADER.encode() + b"a\tb\t3\n" * 9000 + b"\xff\tb\t3\n", "line 9002: byte 0xff"),
    "long": (
        HEADER + "a\tb\t3\n" + "a" * 140_000 + "\tb\t3\n",
        " could not be read (ParserError: field larger than field limit",
    ),
}


@pytest.mark.parametrize(("content", "said"), FAULTS.values(), ids=FAULTS)
def test_reading_names_the_fault_and_keeps_the_cause(write, content, said):
    path = write(content)
    with pytest.raises(ValueError, match=r".") as plain:
        read(path)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        read_described(path)
    assert str(caught.value).startswith(path)
    assert type(caught.value.__cause__) is plain.type


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("first line.\nsecond line"), "ValueError: first line"),
        (KeyError("user_id"), "KeyError: 'user_id'"),
        (AttributeError("no split"), "AttributeError: no split"),
        (pd.errors.ParserError("odd"), "ParserError: odd"),
        (TypeError(), "TypeError: no reason given"),
    ],
)
def test_reading_passes_on_what_it_cannot_explain(write, error, said):
    path = write(HEADER + "a\tb\t3\n")
    with pytest.raises(ValueError, match=r".") as caught, atomic.reading(path, "\t", None):
        raise error
    assert str(caught.value) == f"{path} could not be read ({said})."
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, FileNotFoundError, MemoryError])
def test_reading_leaves_other_errors_alone(write, error):
    with pytest.raises(error), atomic.reading(write(HEADER + "a\tb\tx\n"), "\t", None):
        raise error


def test_numbers_are_those_of_pandas(write):
    """Over random cells, a fault is described exactly where pandas fails."""
    rng = random.Random(0)
    for _ in range(100):
        cell = "".join(rng.choice("0123.eE+-_ ,xnaif٣\u00a0") for _ in range(rng.randint(1, 4)))
        path = write(HEADER + f"a\tb\t1\na\tb\t{cell}\n")
        try:
            read(path)
        except ValueError:
            assert f"holds {cell!r}" in fault(path)
        else:
            read_described(path)


def test_a_nul_in_a_row_is_named(write):
    """NumPy would show the ids "a" and "a\\0" alike."""
    path = write(HEADER + "a\tb\t3\na\0\tb\t3\n")
    named = pytest.raises(ValueError, match=r"ml\.inter, line 3 holds a NUL character")
    with named, atomic.reading(path, "\t", None):
        pass
    with atomic.reading(write(HEADER + "a\tb\t3\n", "utf-16"), "\t", "utf-16"):
        pass
