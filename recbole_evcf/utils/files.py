"""Write files atomically: text, JSON and the archives of ``torch.save``, which are checked."""

import glob
import json
import os
import re
import zipfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

import torch


def check_target(path: str) -> None:
    """Raise a ValueError if no file of this name can be written, before work is spent."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name a file to write.")
    if not os.path.isdir(folder):
        raise ValueError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path} cannot be written: the folder {folder} is read-only.")


@contextmanager
def atomic_write(path: str) -> Iterator[str]:
    """Yield a temporary name next to ``path``; it is renamed if the block succeeds.

    Content and name are on disk when the block ends: after a power failure, ``path`` is the old or
    the new file, never a part of it.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if os.name == "posix":
            _flush(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    except OSError as error:
        # Report the requested name, the only one the reader knows.
        if error.filename == temporary:
            error.filename = path
        raise
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _flush(path: str, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(path: str) -> None:
    """Remove the temporary files of processes that were killed while they wrote ``path``."""
    for temporary in glob.glob(f"{glob.escape(path)}.*.tmp"):
        if re.fullmatch(r"\.\d+\.tmp", temporary[len(path) :]):
            os.unlink(temporary)


def plain_json(content: Any) -> Any:
    """Convert content to JSON's types: NumPy's numbers to plain ones, NaN and infinity to None."""
    return json.loads(json.dumps(content, default=float), parse_constant=lambda name: None)


def write_json(path: str, content: Any) -> None:
    """Write :func:`plain_json` of the content atomically."""
    write_text(path, json.dumps(plain_json(content), indent=2) + "\n")


def write_text(path: str, text: str) -> None:
    """Write a text file in UTF-8 atomically."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def write_archive(path: str, state: Any) -> None:
    """Write what ``torch.save`` takes atomically.

    Raises:
        OSError: it cannot be written, for example on a full disk; an older file stays as it was.
    """
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # torch.save raises other errors while it closes the file.
        cause: BaseException | None = error
        while isinstance(cause, RuntimeError):
            cause = cause.__context__
        if not isinstance(cause, OSError):
            raise (cause or error) from None
        # An empty file marks an unfinished run.
        older = os.path.exists(path) and os.path.getsize(path)
        kept = "; the one written before is whole" if older else ""
        raise OSError(
            f"{path} cannot be written ({cause.strerror or cause}): free space on the disk or set "
            f"another checkpoint_dir{kept}."
        ) from None


def read_archive(
    path: str, device: str | torch.device = "cpu", without: Set[str] = frozenset()
) -> Any:
    """Read a file of ``torch.save`` onto a device; no code in it runs, and checksums are compared.
    Of a dict, some keys may be left out.

    Raises:
        Exception: of any kind, if the file is corrupt.
    """
    _check(path)
    # Mapped, a tensor that claims to be larger than what the file holds of it is an error; read in
    # PyTorch's usual way, it would take what follows it in this process's memory.
    state = torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=True)
    if isinstance(state, dict):
        state = {key: value for key, value in state.items() if key not in without}
    return _copied(state, {}, device)


def _check(path: str) -> None:
    """Compare members with their checksums, as PyTorch does not: a flipped bit goes unnoticed."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("a member occurs twice.")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a member is compressed, which torch.save does not do.")
        # Overlapping members could be read endlessly.
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise ValueError("its members are larger than the file.")
        if broken := archive.testzip():
            raise ValueError(f"the checksum of {broken} is wrong.")


def _copied(value: Any, storages: dict, device: str | torch.device) -> Any:
    """Copy tensors out of the mapped file; containers are changed in place."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            value[key] = _copied(item, storages, device)
    elif isinstance(value, torch.Tensor) and value.layout is torch.strided:
        mapped = value.untyped_storage()
        # Tensors may share a storage, and one may be a view of more numbers than are stored.
        if mapped._cdata not in storages:
            storages[mapped._cdata] = mapped.clone()
        copy = torch.empty(0, dtype=value.dtype)
        with torch.no_grad():
            copy.set_(storages[mapped._cdata], value.storage_offset(), value.size(), value.stride())
        return copy.to(device)
    return value
