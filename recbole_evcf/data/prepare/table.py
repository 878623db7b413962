"""A table of one's own, such as a shop's orders, as a data set that RecBole reads."""

import csv
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recbole_evcf.config.files import matching
from recbole_evcf.utils.text import shown

# Usual names of columns, in lower case without other signs.
USUAL = {
    "user": "user userid uid customer customerid client clientid member memberid visitor "
    "visitorid account accountid reviewer reviewerid session sessionid",
    "item": "item itemid iid movie movieid product productid sku article articleid asin book "
    "bookid isbn song songid track trackid game gameid stockcode",
    "rating": "rating ratings stars score",
    "time": "timestamp time datetime date unixtime createdat orderdate invoicedate purchasedat",
    "title": "title name productname producttitle itemname itemtitle movietitle booktitle",
}
FIELDS = {
    "user": "user_id:token",
    "item": "item_id:token",
    "rating": "rating:float",
    "time": "timestamp:float",
}
# In seconds.
YEAR_9999 = 2.534e11
FORMS = (".csv", ".tsv", ".txt", ".parquet", ".jsonl")
COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
# Numbers below the first are times in the unit, of which there are so many in a second.
UNITS: tuple[tuple[float, float, str], ...] = (
    (1e11, 1, "seconds"),
    (1e14, 1e3, "milliseconds"),
    (1e17, 1e6, "microseconds"),
    (float("inf"), 1e9, "nanoseconds"),
)
ISO = "a number or a date such as 2026-11-26 or 2026-11-26T10:30:00Z"
SHOWN = 5


def prepare_table(
    raw: Any,
    path: str,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    item_file: str | Path | pd.DataFrame | None = None,
    title: str | None = None,
    min_rating: float | None = None,
    min_user: int = 1,
    min_item: int = 1,
) -> list[str]:
    """Write a table of interactions to `PATH.inter`, and items' titles to `PATH.item`.

    Left out are, in this order: rows without a user or an item, or with a rating or a time that
    cannot be read; those below `min_rating`; all but the last of each user's rows of an item; and
    users and items with fewer than `min_user` and `min_item` rows, until none is left (the k-core).

    Args:
        raw: the path or the pattern of files (.csv, .tsv, .txt, .parquet, .jsonl, also compressed),
            several of them, or a DataFrame.
        path: where to write, without the ending.
        user, item, rating, time: names of columns; those not given are guessed by usual names, and
            rating and time may be missing. Times are seconds, milliseconds, microseconds or dates.
        item_file: a table of items, with a column of the name of the one in `raw`.
        title: its column of titles, guessed alike.
        min_rating, min_user, min_item: what to leave out.

    Returns:
        lines of a report: columns, what was left out and where, counts.

    Raises:
        ValueError: a file cannot be read, a column is missing or may be one of several, or nothing
            is left.
    """
    given = {"user": user, "item": item, "rating": rating, "time": time}
    report, parts = _Report(), []
    for name, table in _tables(raw):
        columns = _columns(name, list(table.columns), given)
        report.once(", ".join(f"{what}={column}" for what, column in columns.items()))
        parts.append(_clean(name, table, columns, report))
    frame = pd.concat(parts, ignore_index=True)
    if min_rating is not None:
        if "rating" not in frame:
            raise ValueError("--min_rating: the table has no column of ratings")
        frame = report.without(frame, frame["rating"] < min_rating, f"rated below {min_rating:g}")
    if "time" in frame:
        frame = frame.sort_values("time", kind="stable")
    again = frame.duplicated(["user", "item"], keep="last")
    frame = report.without(frame, again, "earlier ones of the same user and item")
    frame = _core(frame, min_user, min_item, report)
    if frame.empty:
        raise ValueError(f"nothing is left of the table: {'; '.join(report.lines)}")
    header = [FIELDS[name] for name in frame]
    frame.to_csv(f"{path}.inter", sep="\t", index=False, header=header)
    counts = (len(frame), frame["user"].nunique(), frame["item"].nunique())
    report.lines += [f"{n:,} {what}" for n, what in zip(counts, ("interactions", "users", "items"))]
    if item_file is not None:
        report.lines.append(_write_items(item_file, f"{path}.item", item, title, frame["item"]))
    return [f"  {line}" for line in report.lines]


def table_config(path: str) -> str:
    """The text of the config file that makes RecBole read what was written to `PATH.inter`."""
    header = pd.read_csv(f"{path}.inter", sep="\t", nrows=0).columns
    columns = [name.partition(":")[0] for name in header if name != FIELDS["rating"]]
    return yaml.safe_dump({"load_col": {"inter": columns}}, sort_keys=False)


class _Report:
    """Lines on what was taken and left out."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def once(self, line: str) -> None:
        """Say what may be the same of several files."""
        if line not in self.lines:
            self.lines.append(line)

    def without(
        self, frame: pd.DataFrame, bad: pd.Series, why: str, name: str = ""
    ) -> pd.DataFrame:
        if bad.any():
            line = f"left out: {int(bad.sum()):,} {why}"
            if name:
                where = ", ".join(map(str, frame.index[bad][:SHOWN]))
                more = ", ..." if bad.sum() > SHOWN else ""
                line += f" ({name}, line {where}{more})"
            self.lines.append(line)
        return frame[~bad]


def _tables(raw: Any) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables of some files, as strings, by the number of the line, each with a name."""
    if isinstance(raw, pd.DataFrame):
        yield "the table", _strings(raw.reset_index(drop=True))
        return
    patterns = raw if isinstance(raw, (list, tuple)) else [raw]
    if not all(isinstance(pattern, (str, Path)) for pattern in patterns):
        raise ValueError(f"a table is one or several files, or a DataFrame, not {shown(raw)}")
    for pattern in map(str, patterns):
        for file in matching(pattern):
            yield file, _read(file)


def form_of(file: str | Path, forms: Collection[str] = FORMS) -> str:
    """The ending that says how a table's file is read, without that of a compression; or none."""
    name = str(file).lower()
    form = next((end for end in Path(name).suffixes[::-1] if end not in COMPRESSED), "")
    if form == ".parquet" and not name.endswith(form):
        raise ValueError(f"{file}: Parquet is compressed inside; unpack this file first.")
    return form if form in forms else ""


def _read(file: str) -> pd.DataFrame:
    ending = form_of(file)
    try:
        if ending == ".parquet":
            return _strings(pd.read_parquet(file))
        if ending == ".jsonl":
            options: dict[str, Any] = {"dtype": False, "convert_dates": False}
            return _strings(pd.read_json(file, lines=True, **options), first=1)
        if not ending:
            raise ValueError(f"its ending is none of {', '.join(FORMS)}")
        options = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
        (header,) = pd.read_csv(file, sep="\x01", nrows=0, **options).columns
        separator = max("\t,;|", key=header.count)
        names = next(csv.reader([header], delimiter=separator))
        if len({*names}) < len(names):
            raise ValueError("two of its columns have the same name")
        with warnings.catch_warnings():
            # Of rows with more fields than the header has, pandas would take the first.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return _strings(pd.read_csv(file, sep=separator, index_col=False, **options))
    # Readers and decompressors raise errors of every kind.
    except Exception as error:
        said = str(error).rpartition("C error: ")[2].strip().partition("\n")[0]
        said = "it is not in UTF-8" if isinstance(error, UnicodeDecodeError) else said
        raise ValueError(f"{file}: cannot be read as a table ({said})") from None


def _strings(table: pd.DataFrame, first: int = 2) -> pd.DataFrame:
    """All values as strings, empty where there is none, by the number of the line."""
    table = table.set_axis(table.index + first).set_axis([str(c) for c in table.columns], axis=1)
    return table.astype(str) if table.empty else table.apply(as_strings)


def as_strings(column: pd.Series) -> pd.Series:
    """A column's values as strings, whole numbers as their digits; empty where one is missing."""
    missing = column.isna() | column.map(lambda value: isinstance(value, (list, dict)))
    known = column[~missing]
    if pd.api.types.is_float_dtype(column) and ((known % 1 == 0) & (known.abs() < 2**53)).all():
        # Missing values have made whole numbers floats.
        column = column.astype("Int64")
    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.map(lambda moment: moment.isoformat())
    return column.astype(object).map(str).where(~missing, "").astype(object).str.strip()


def _columns(name: str, found: list[str], given: Mapping[str, str | None]) -> dict[str, str]:
    """The column of each field."""
    columns = {}
    for field, column in given.items():
        usual = USUAL[field].split()
        fit = [c for c in found if re.sub(r"[\W_]", "", c.lower()) in usual]
        fit = fit if column is None else [column] if column in found else []
        if len(fit) > 1:
            some = " or ".join(fit)
            raise ValueError(f"{name}: the {field} may be {some}: say which, --{field}={fit[0]}")
        if fit:
            columns[field] = fit[0]
        elif column is not None or field in ("user", "item", "title"):
            missing = column or f"for the {field} by a usual name"
            names = ", ".join(found)
            raise ValueError(f"{name}: has no column {missing}; --{field} may be {names}")
    return columns


def _clean(
    name: str, table: pd.DataFrame, columns: Mapping[str, str], report: _Report
) -> pd.DataFrame:
    """The fields' columns of the rows that can be read."""
    frame = pd.DataFrame({field: table[column] for field, column in columns.items()})
    for field in ("user", "item"):
        frame = report.without(frame, frame[field] == "", f"without {columns[field]}", name)
        # A tab would end the field.
        odd = frame[field].str.contains(r"[\x00-\x1f\x7f]")
        frame = report.without(frame, odd, f"with control characters in {columns[field]}", name)
    for field in ("rating", "time"):
        if field in frame:
            frame = report.without(frame, frame[field] == "", f"without {columns[field]}", name)
            numbers = _numbers(frame[field])
            if field == "time":
                numbers = _seconds(frame[field], numbers, report)
            odd = f"whose {columns[field]} is not {'a number' if field == 'rating' else ISO}"
            frame = report.without(frame.assign(**{field: numbers}), numbers.isna(), odd, name)
    return frame


def _numbers(column: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers.where(numbers.abs() < float("inf"))


def _seconds(column: pd.Series, numbers: pd.Series, report: _Report) -> pd.Series:
    if numbers.notna().sum() * 2 < len(numbers):
        moments = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
        micros = moments.dt.tz_localize(None).to_numpy("datetime64[us]").astype("int64")
        seconds = pd.Series(micros / 1e6, column.index).where(moments.notna())
        unit = "dates"
    else:
        # Not the largest, which may be a slip.
        usual = numbers.abs().quantile(interpolation="lower")
        fit = ((number, unit) for most, number, unit in UNITS if usual < most)
        divisor, unit = next(fit, (1, "seconds"))
        seconds = (numbers / divisor).where(numbers.abs() / divisor < YEAR_9999)
    report.once(f"times are {unit}")
    return seconds


def _core(frame: pd.DataFrame, min_user: int, min_item: int, report: _Report) -> pd.DataFrame:
    before = len(frame)
    while True:
        rows = len(frame)
        for field, least in (("user", min_user), ("item", min_item)):
            frame = frame[frame.groupby(field)[field].transform("size") >= least]
        if len(frame) == rows:
            break
    if before > rows:
        few = f"fewer than {min_user} items or items with fewer than {min_item} users"
        report.lines.append(f"left out: {before - rows:,} of users with {few}")
    return frame


def _write_items(file: Any, path: str, item: str | None, title: str | None, used: pd.Series) -> str:
    """Write titles as an atomic file; say how many of the used items have none."""
    ((name, table),) = _tables(file)
    columns = _columns(name, list(table.columns), {"item": item, "title": title})
    titles = table[[columns["item"], columns["title"]]].set_axis(["item", "title"], axis=1)
    titles["title"] = titles["title"].str.replace(r"[\s\x00-\x1f\x7f]+", " ", regex=True)
    titles = titles[titles["item"].isin(used)].drop_duplicates("item", keep="last")
    header = ["item_id:token", "title:token_seq"]
    titles.to_csv(path, sep="\t", index=False, header=header)
    return f"{len(titles):,} titles; {used.nunique() - len(titles):,} items have none"
