"""Files that are whole or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["replacing", "write_json"]


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """A temporary name beside ``path`` to write to; it takes that name if all went well."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: str, content) -> None:
    """Write JSON, whole or not at all; NumPy's numbers become plain ones."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, default=float)
        file.write("\n")
