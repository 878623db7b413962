"""Turn raw data sets, and splits made elsewhere, into data sets that RecBole reads."""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_evcf.data.prepare.pro_sg import prepare_pro_sg, split_config
from recbole_evcf.data.prepare.ratings import prepare_ml_20m, prepare_netflix
from recbole_evcf.data.prepare.raw import open_raw

FORMATS = {"pro_sg": prepare_pro_sg, "ml-20m": prepare_ml_20m, "netflix": prepare_netflix}
KINDS = tuple(FORMATS)


def prepare(
    kind: str,
    raw: str | Path,
    name: str | None = None,
    output: str | Path = "dataset",
    overwrite: bool = False,
) -> str:
    """Prepare a data set: the folder `OUTPUT/NAME` appears complete or not at all.

    Args:
        kind: One of `KINDS`.
        raw: The folder or zip archive of the raw data.
        name: What to call the data set; needed for `pro_sg`, otherwise the kind is its name.
        output: The folder of data sets to write to; created if necessary.
        overwrite: Whether to replace a data set of that name.

    Returns:
        A report to print: what was written, the counts beside the published ones, and warnings.

    Raises:
        ValueError: The raw data (names file and line), the name or the target are not right.
    """
    if kind not in FORMATS:
        raise ValueError(f"cannot prepare {kind!r}: the kinds are {', '.join(KINDS)}")
    if name is None and kind == "pro_sg":
        raise ValueError("pro_sg needs a name for the data set, as its raw files have none")
    name = kind if name is None else name
    with new_dataset(raw, output, name, overwrite) as folder:
        report = FORMATS[kind](open_raw(raw), str(folder / name))
        if kind == "pro_sg":
            (folder / f"{name}.yaml").write_text(split_config(name, str(output)), encoding="utf-8")
    return "\n".join([f"{Path(output) / name}: prepared from {kind}", *report])


@contextmanager
def new_dataset(raw: str | Path, output: str | Path, name: str, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder to fill, which becomes `OUTPUT/NAME` when the `with` statement ends.

    If anything is raised, even KeyboardInterrupt, whatever was written is removed, and an older
    data set of that name stays as it was.
    """
    if not re.fullmatch(r"[^\W_][\w.+-]*", name):
        raise ValueError(f"the name {name!r} is not fit for a folder (a letter, then also . _ + -)")
    # Where the target is a link, what it points to is replaced, not the link.
    target, raw = (Path(output) / name).resolve(), Path(raw).resolve()
    found = sorted(target.iterdir()) if target.is_dir() else []
    if target.is_file() or (found and not overwrite):
        raise ValueError(f"{target}: exists already; pass overwrite to replace it, or another name")
    if target in (raw, *raw.parents):
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
