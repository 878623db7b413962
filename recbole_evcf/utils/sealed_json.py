"""JSON files that are read again: what a full disk or an editor has changed is not believed."""

from __future__ import annotations

import hashlib
import json

from recbole_evcf.utils.files import plain_json, write_json

__all__ = ["read_sealed", "write_sealed"]

SEAL = "sha256"


def write_sealed(path: str, content: dict) -> None:
    """Write a dict as JSON with a digest of itself, whole or not at all."""
    plain = plain_json(content)
    write_json(path, {**plain, SEAL: _digest(plain)})


def read_sealed(path: str) -> dict:
    """What :func:`write_sealed` wrote, as JSON's types.

    Raises:
        ValueError: it is no such file, or has changed since.
        OSError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    # Brackets without end.
    except RecursionError:
        raise ValueError("too many brackets") from None
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError(f"there is no {SEAL} in it")
    if content.pop(SEAL) != _digest(content):
        raise ValueError(f"its {SEAL} is not that of its content")
    return content


def _digest(content: dict) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
