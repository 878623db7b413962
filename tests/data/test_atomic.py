"""Faulty atomic files get one sentence that says what is wrong and where; good ones are read alike
by both of pandas' engines."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_evcf.data import atomic

HEADER = "user_id:token\titem_id:token\trating:float\n"
ROW = "a\tb\t3\n"


@pytest.fixture
def write(tmp_path):
    def write(content, encoding="utf-8"):
        path = tmp_path / "ml.inter"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return str(path)

    return write


def read(path, separator="\t", encoding=None, read_csv=pd.read_csv):
    """Read a file the way RecBole's ``Dataset._load_feat`` does."""
    with open(path, encoding=encoding) as file:
        columns = file.readline()[:-1].split(separator)
    dtype = {column: np.float64 if column.endswith(":float") else str for column in columns}
    options = {"delimiter": separator, "usecols": columns, "dtype": dtype, "encoding": encoding}
    return read_csv(path, engine="python", **options)


def read_checked(path, separator="\t", encoding=None, required=("user_id", "item_id")):
    atomic.check_header(path, separator, encoding, required)
    with atomic.reading(path, separator, encoding):
        return read(path, separator, encoding)


def fault_of(path, *form, **options):
    """What follows the path in the sentence about a faulty file."""
    with pytest.raises(ValueError, match=r".") as caught:
        read_checked(path, *form, **options)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith(path)
    assert message.isprintable()
    assert len(message) < len(path) + 400
    return message[len(path) :]


GOOD = {
    "plain": HEADER + ROW,
    "no end of line": HEADER + ROW[:-1],
    "windows": (HEADER + ROW).replace("\n", "\r\n"),
    "old mac": (HEADER + ROW).replace("\n", "\r"),
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
def test_good_files_are_read(write, content):
    frame = read_checked(write(content))
    assert len(frame) >= 1
    assert isinstance(frame.index, pd.RangeIndex)


@pytest.mark.parametrize(("separator", "encoding"), [("\t", "utf-8-sig"), ("::", "utf-16")])
def test_other_encodings_and_separators(write, separator, encoding):
    path = write((HEADER + ROW).replace("\t", separator), encoding)
    assert len(read_checked(path, separator, encoding)) == 1


HEADERS = ["user_id", "user_id:token\t", "user_id:token\tb:c:token", ":token", "user_id: token"]
HEADERS += ["user_id:token\tage:int", "user_id:", "user_id:token\tuser_id:float", '"user_id:token"']


@pytest.mark.parametrize(
    "header", [*HEADERS, "u:token\tx\x1b[31m:float\ty", "\x1b[31m" + "x" * 500]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_faulty_columns_of_the_header(write, header, end):
    columns = header.split("\t")
    message = fault_of(write(header + end + "1\t2\t3" + end))
    assert message.startswith(f", line 1: column {len(columns)} must be name:type, with a name of")
    assert f", not {repr(columns[-1])[:40].rstrip(chr(39))}" in message
    assert ("is field_separator '\\t' right?" in message) == (len(columns) == 1)


BINARY = "cannot be read as utf-8; is this a text file, and the setting encoding right?"
EMPTY, NO_ROWS = ": line 1 is empty; it must name the", " holds no rows, only the header in line 1."
QUOTE = ': a quote (") opens a column and is not closed at its end'
ITEM = ", line 1: there is no column 'item_id', which is required; the columns are 'user_id, x'."
UTF_16 = (HEADER + ROW).encode("utf-16")
FAULTS = {
    "empty": ("", EMPTY),
    "blank": ("\n" + HEADER, EMPTY),
    "no rows": (HEADER, NO_ROWS),
    "blank rows": (HEADER + "\r\n  \n", NO_ROWS),
    "no item": ("user_id:token\tx:float\na\t3\n", ITEM),
    # pandas would shift them all.
    "surplus columns": (HEADER + "a\tb\t3\t\nc\td\t4\t\n", ", line 2 has 4 columns, the header ha"),
    "byte order mark": ("\ufeff" + HEADER + ROW, ", line 1 begins with a byte order mark (BOM)"),
    "utf-16": (UTF_16, f", line 1: byte 0xff {BINARY}"),
    "utf-16-le": ((HEADER + ROW).encode("utf-16-le"), ", line 1 holds a NUL character"),
    "gzip": (b"\x1f\x8b\x08\x00binary\xff", f", line 1: byte 0x8b {BINARY}"),
    "late byte": (
        (HEADER + ROW * 5000).encode() + b"\xe9\tb\t3\n",
        f", line 5002: byte 0xe9 {BINARY}",
    ),
    "after a quote": (HEADER + ROW + '"a"x\tb\t3\n', QUOTE),
    "too long": (HEADER + "a" * 140_000 + "\tb\t3\n", " could not be read (ParserError: field lar"),
}


@pytest.mark.parametrize(("content", "said"), FAULTS.values(), ids=FAULTS)
def test_faulty_files(write, content, said):
    assert fault_of(write(content)).startswith(said)


@pytest.mark.parametrize("encoding", ["nonsense", "hex", "utf-16"])
def test_wrong_encodings(write, encoding):
    unknown = f": encoding is '{encoding}', unknown to Python."
    for content in (HEADER + ROW, UTF_16 + b"\n"):
        said = fault_of(write(content), encoding=encoding)
        assert "cannot be read as utf-16" in said if encoding == "utf-16" else said == unknown


@pytest.mark.parametrize("separator", ["", None, "\\t", r"\s+", "||", "((", '"', "\n"])
def test_separators_that_pandas_and_recbole_take_differently(write, separator):
    message = fault_of(write(HEADER + ROW), separator)
    assert f"cannot be split at field_separator {separator!r}" in message


ROWS = {
    "word": ("a\tb\tabc", "column 'rating:float' holds 'abc', not a number."),
    "blank": ("a\tb\t ", "column 'rating:float' holds ' ', not a number."),
    "comma": ("a\tb\t1,5", "column 'rating:float' holds '1,5', not a number."),
    "control": ("a\tb\t1\x01", "column 'rating:float' holds '1\\x01', not a number."),
    "long": ("a\tb\t" + "é" * 99, f"column 'rating:float' holds '{'é' * 57}...', not a number."),
    "open quote": ('"a\tb\t3', QUOTE[2:]),
    "NUL": ("a\0\tb\t3", " holds a NUL character"),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("row", "said"), ROWS.values(), ids=ROWS)
def test_faulty_rows(write, row, said, end):
    content = HEADER + 'a\tb\t3\n\n"\u2028"\tb\t\n' + row + "\na\tb\t3\n"
    assert re.fullmatch(
        f", line 5:? ?{re.escape(said)}.*", fault_of(write(content.replace("\n", end)))
    )


@pytest.mark.parametrize("error", [KeyError("user_id"), KeyboardInterrupt(), MemoryError()])
def test_errors_that_are_no_faults_of_the_file(write, error):
    path = write(HEADER + ROW)
    unknown = isinstance(error, KeyError)
    raised = pytest.raises(ValueError if unknown else type(error))
    with raised as caught, atomic.reading(path, "\t", None):
        raise error
    if unknown:
        assert str(caught.value) == f"{path} could not be read (KeyError: 'user_id')."
        assert caught.value.__cause__ is error


# Both engines

cells = st.one_of(
    st.text(alphabet="ab1.-eE\"' ,é\u2028NaN", max_size=6),
    st.floats().map(repr),
    st.floats(allow_nan=False).map(lambda x: f"{x:.17g}"),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["", "NA", "nan", "inf", "-Infinity", "1e400", " 1.5", "1_0", "0x1p3", '"a b"']
    ),
)
rows = st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=8)


def outcome(path, separator="\t", read_csv=pd.read_csv):
    try:
        return read(path, separator, read_csv=read_csv)
    except Exception as error:
        return type(error), str(error)


@given(rows, st.sampled_from(["\n", "\r\n"]))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_both_engines_read_the_same(write, table, end):
    path = write(HEADER.replace("\n", end) + end.join([*map("\t".join, table), ""]))
    expected, result = outcome(path), outcome(path, read_csv=atomic.with_c_engine(pd.read_csv))
    if isinstance(expected, tuple):
        assert result == expected
    else:
        pd.testing.assert_frame_equal(result, expected, check_exact=True)


@pytest.mark.parametrize("chunk", [7, 2**22])
@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("u 1\t7\t0.1\n\t8\t\n", "\t", ["c"]),
        ("u\t7\t0.1\n" * 9, "\t", ["c"]),
        ("u\t7\t0.1\n" * 9 + "v\t8\t2\t9", "\t", ["python"]),
        ("u\t7\t0.1\nv\0w\t8\t2\n", "\t", ["python"]),
        ("u\t7\t0.1\n \n", "\t", ["python"]),
        ('u\t7\t0.1\n\t"\t"1\n', "\t", ["python"]),
        ("u\t7\tsoon\n", "\t", ["c", "python"]),
        ("u::7::0.1\n", "::", ["python"]),
    ],
)
def test_what_could_differ_is_read_as_asked(write, monkeypatch, chunk, text, separator, expected):
    monkeypatch.setattr(atomic, "CHUNK", chunk)
    engines = []

    def read_csv(path, **options):
        engines.append(options["engine"])
        return pd.read_csv(path, **options)

    path = write(HEADER.replace("\t", separator) + text)
    outcome(path, separator, atomic.with_c_engine(read_csv))
    assert engines == expected
