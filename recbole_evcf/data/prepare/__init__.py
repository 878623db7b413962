"""Turn raw data sets, and splits made elsewhere, into data sets that RecBole reads."""

import json
import re
import shlex
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from logging import getLogger
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from recbole_evcf.data.prepare.pro_sg import prepare_pro_sg, split_config
from recbole_evcf.data.prepare.ratings import prepare_ml_20m, prepare_netflix
from recbole_evcf.data.prepare.raw import open_raw
from recbole_evcf.data.prepare.table import form_of, prepare_table, table_config
from recbole_evcf.results import held

FORMATS: dict[str, Callable[..., list[str]]] = {
    "table": prepare_table,
    "pro_sg": prepare_pro_sg,
    "ml-20m": prepare_ml_20m,
    "netflix": prepare_netflix,
}
KINDS = tuple(FORMATS)
# What makes the text of a config file, for the kinds that need one.
CONFIGS = {"table": table_config, "pro_sg": split_config}
# Begin the comments that say what a data set was prepared from, and how.
SOURCE, OPTIONS = "# Prepared from ", "# Options: "


def prepare(
    raw: Any,
    name: str | None = None,
    kind: str = "table",
    output: str | Path = "dataset",
    overwrite: bool | Literal["keep"] = False,
    **options: Any,
) -> str:
    """Prepare a data set: the folder `OUTPUT/NAME` appears complete or not at all.

    It holds atomic files and, for a table or a split, a config file `NAME.yaml`, which is read
    whenever the data set is.

    Args:
        raw: For a table, files of it or a DataFrame; otherwise the folder or zip archive of the raw
            data.
        name: What to call the data set; needed for `table` and `pro_sg`, otherwise the kind.
        kind: One of `KINDS`.
        output: The folder of data sets to write to; created if necessary.
        overwrite: Whether to replace a data set of that name; "keep" keeps what was added to it.
        **options: Of a table, see :func:`~recbole_evcf.data.prepare.table.prepare_table`: its
            columns `user`, `item`, `rating`, `time`, an `item_file` with `title`, and
            `min_rating`, `min_user`, `min_item`.

    Returns:
        A report to print: what was written and left out, counts (beside the published ones), and
        warnings.

    Raises:
        ValueError: The raw data (names file and line), the name or the target are not right.

    >>> import pandas, recbole_evcf
    >>> orders = pandas.DataFrame({"customer": ["ann", "ben", "ben"], "sku": ["A1", "A1", "B2"]})
    >>> print(recbole_evcf.prepare(orders, "shop"))
    dataset/shop: prepared from table
      user=customer, item=sku
      3 interactions
      2 users
      2 items
    """
    if kind not in FORMATS:
        raise ValueError(f"cannot prepare {kind!r}: the kinds are {', '.join(KINDS)}")
    if name is None and kind in CONFIGS:
        raise ValueError(f"{kind} needs a name for the data set, as its raw files have none")
    name = kind if name is None else name
    with new_dataset(raw, output, name, bool(overwrite)) as folder:
        path, old, source = str(folder / name), Path(output, name), _source(raw, options)
        report = FORMATS[kind](raw if kind == "table" else open_raw(raw), path, **options)
        if kind in CONFIGS:
            text = CONFIGS[kind](path)
            if overwrite == "keep" and old.is_dir():
                written = shutil.ignore_patterns(*(file.name for file in folder.iterdir()))
                shutil.copytree(old, folder, ignore=written, dirs_exist_ok=True)
                kept = (line for line in _lines(old) if not line.startswith((SOURCE, OPTIONS)))
                text = "".join(kept).replace(CONFIGS[kind](str(old / name)), text) or text
            Path(f"{path}.yaml").write_text(f"{source}\n{text}", "utf-8", "surrogateescape")
    return "\n".join([f"{Path(output) / name}: prepared from {kind}", *report])


def prepared(dataset: Any, output: str) -> Any:
    """Return the name of a data set; of a table's file, once it is prepared in `output`.

    If it has changed, or its ``item_file``, it is prepared again with the options of the last time;
    what the user has added to the data set is kept. One process prepares, and others wait for it.

    Raises:
        ValueError: as :func:`prepare`; or another data set has the file's name.
    """
    if not (isinstance(dataset, (str, Path)) and form_of(dataset) and Path(dataset).is_file()):
        return dataset
    name = re.sub(r"\W+", "-", Path(dataset).name.partition(".")[0]).strip("-_")
    folder = Path(output, name)
    try:
        if _as_prepared(folder, dataset)[0]:
            return name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with held(str(folder), wait=True):
            current, same, options = _as_prepared(folder, dataset)
            if not current:
                report = prepare(dataset, name, "table", output, same and "keep", **options)
                getLogger().warning(report)
    except (ValueError, TypeError) as error:
        at = f"{folder / name}.yaml, options: " if isinstance(error, json.JSONDecodeError) else ""
        words = (f"--raw={dataset}", f"--name={name}", f"--output={output}")
        command = shlex.join(["recbole-evcf", "prepare", "table", *words])
        raise ValueError(f"{at}{error}; options of the table can be given to: {command}") from None
    return name


def _as_prepared(folder: Path, table: str | Path) -> tuple[bool, bool, dict[str, Any]]:
    """Whether a data set is that of a table's files as they are, and whether it was that of them at
    all, with which options."""
    before, after, *_ = _lines(folder)
    same = before.startswith(f"{SOURCE}{Path(table).resolve()} of ")
    known = same and OPTIONS in after
    options = dict(json.loads(after.removeprefix(OPTIONS))) if known else {}
    return before.rstrip("\n") == _source(table, options).partition("\n")[0], same, options


def _lines(folder: Path) -> list[str]:
    """The lines of a data set's config file, if it has one, and two empty ones."""
    text = ""
    with suppress(OSError):
        text = (folder / f"{folder.name}.yaml").read_text("utf-8", "surrogateescape")
    return [*text.splitlines(keepends=True), "", ""]


def _source(raw: Any, options: dict[str, Any]) -> str:
    """Comments on what a data set was prepared from, by which a changed file is known, and how."""
    items = options.get("item_file")
    if isinstance(raw, pd.DataFrame) or isinstance(items, pd.DataFrame):
        return f"{SOURCE}a table"
    if not Path(str(raw)).is_file():
        return f"{SOURCE}{raw}"
    paths = (path for path in map(Path, filter(None, (raw, items))) if path.exists())
    times = (datetime.fromtimestamp(path.stat().st_mtime, timezone.utc) for path in paths)
    changed = " and ".join(time.isoformat(" ") for time in times)
    kept = options if items is None else {**options, "item_file": str(Path(items).resolve())}
    # NumPy's numbers too.
    given = json.dumps(kept, default=float)
    return f"{SOURCE}{Path(raw).resolve()} of {changed}\n{OPTIONS}{given}"


@contextmanager
def new_dataset(raw: Any, output: str | Path, name: str, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder to fill, which becomes `OUTPUT/NAME` when the `with` statement ends.

    If anything is raised, even KeyboardInterrupt, whatever was written is removed, and an older
    data set of that name stays as it was.
    """
    if not re.fullmatch(r"[^\W_][\w.+-]*", name):
        raise ValueError(f"the name {name!r} is not fit for a folder (a letter, then also . _ + -)")
    # Where the target is a link, what it points to is replaced, not the link.
    target = (Path(output) / name).resolve()
    raw = Path(raw).resolve() if isinstance(raw, (str, Path)) else None
    found = sorted(target.iterdir()) if target.is_dir() else []
    if target.is_file() or (found and not overwrite):
        raise ValueError(f"{target}: exists already; pass overwrite to replace it, or another name")
    if raw and target in (raw, *raw.parents):
        raise ValueError(f"{target}: holds the raw data; choose another name or output")
    for path in found:
        if not (path.name.startswith(f"{name}.") and path.is_file()):
            other = f"{path.name!r}, which is not of the data set {name} and would be removed"
            raise ValueError(f"{target}: holds {other}; move it, or choose another name or output")
    made = [folder for folder in target.parents if not folder.exists()]
    hidden = target.with_name(f".{name}.{uuid.uuid4().hex}.new")
    aside = hidden.with_suffix(".old")
    try:
        hidden.mkdir(parents=True)
        yield hidden
        if target.exists():
            target.rename(aside)
        hidden.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        shutil.rmtree(hidden, ignore_errors=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)
