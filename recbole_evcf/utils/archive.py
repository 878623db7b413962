"""Write the zip archive of ``torch.save`` atomically, and check it before use."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import torch

from recbole_evcf.utils.files import atomic_write

__all__ = ["map_archive", "read_archive", "write_archive"]


def write_archive(path: str, state: Any) -> None:
    """Write what ``torch.save`` takes, atomically.

    Args:
        path: the file, in the folder ``checkpoint_dir``.
        state: tensors, numbers, strings, lists and dicts.

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
        older = os.path.exists(path) and os.path.getsize(path)
        kept = "; the one written before is whole" if older else ""
        raise OSError(
            f"{path} cannot be written ({cause.strerror or cause}): free space on the disk or set "
            f"another checkpoint_dir{kept}."
        ) from None


def _check(path: str) -> None:
    """Check every member of a file against its checksum, which PyTorch does not.

    A flipped bit in a weight would otherwise go unnoticed.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("a member occurs twice.")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a member is compressed, which torch.save does not do.")
        # Overlapping members could be read endlessly.
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise ValueError("its members are larger than the file.")
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"the checksum of {broken} is wrong.")


def map_archive(path: str) -> Any:
    """Read a file of ``torch.save``, leaving its tensors in the file; no code in it runs.

    A tensor that claims to be larger than what the file holds of it is an error: read in PyTorch's
    usual way, it would take what follows it in this process's memory. Mapped from the file, its
    bounds are known.

    Raises:
        Exception: of any kind, if the file is corrupt.
    """
    return torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=True)


def read_archive(path: str, device: str | torch.device = "cpu") -> Any:
    """Read as :func:`map_archive` does, but check the file and copy tensors to a device."""
    _check(path)
    return _copied(map_archive(path), {}, device)


def _copied(value: Any, storages: dict, device: str | torch.device) -> Any:
    """Copy tensors out of the mapped file; containers are changed in place."""
    if isinstance(value, dict):
        for key in value:
            value[key] = _copied(value[key], storages, device)
    elif isinstance(value, list):
        value[:] = [_copied(item, storages, device) for item in value]
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
