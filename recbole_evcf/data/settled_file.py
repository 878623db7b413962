"""Files that keep a result beside the settings it was made under; no code in them runs."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from logging import getLogger
from typing import Any

from recbole_evcf.utils.archive import check_archive, read_archive, write_archive

__all__ = ["read_settled", "short_digest", "write_settled"]


def short_digest(settings: Mapping) -> str:
    """A short text that is the same for the same settings, for the name of a file."""
    return hashlib.sha256(_text(settings).encode()).hexdigest()[:12]


def write_settled(path: str, settings: Mapping, content: Mapping) -> None:
    """Write a result, whole or not at all.

    Args:
        path: the file; its folder is made if need be.
        settings: all that decides the result, as JSON's types.
        content: the result in tensors, numbers, texts, lists and dicts.

    Raises:
        OSError: it cannot be written, the disk being full for one.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    write_archive(path, {"settings": _text(settings), "content": content})


def read_settled(
    path: str, settings: Mapping, restore: Callable[[dict], Any], named: bool = False
) -> Any | None:
    """Read a result of the very same settings; a warning says why another file is not used.

    Args:
        path: the file.
        settings: those of now.
        restore: makes the result of the content; may raise anything where it is not as written.
        named: whether the user named the file, and is told if there is none.

    Returns:
        what ``restore`` gives, or None if there is no such file, it is damaged, or of other
        settings.
    """
    try:
        found, content = _read(path)
    except FileNotFoundError:
        if named:
            _pass_over(path, "there is no such file")
        return None
    # Damaged bytes make zipfile and the unpickler raise exceptions of every kind.
    except Exception:
        _pass_over(path, "it is damaged, or a pickle that is not read since it may hold code")
        return None
    wanted = json.loads(_text(settings))
    names = found.keys() | wanted.keys()
    other = sorted(name for name in names if found.get(name) != wanted.get(name))
    if other:
        _pass_over(path, f"it is of other settings ({', '.join(other)})")
        return None
    try:
        return restore(content)
    except Exception:
        _pass_over(path, "it is damaged: what it holds is not what recbole_evcf writes")
        return None


def _read(path: str) -> tuple[dict, dict]:
    with warnings.catch_warnings():
        # Of a file that is none: PyTorch's thoughts on its pickle.
        warnings.simplefilter("ignore")
        check_archive(path)
        state = read_archive(path)
    found, content = json.loads(state["settings"]), state["content"]
    if not isinstance(found, dict) or not isinstance(content, dict):
        raise ValueError("no settings, or no content.")
    return found, content


def _pass_over(path: str, why: str) -> None:
    getLogger().warning(f"{path} is not used: {why}.")


def _text(settings: Mapping) -> str:
    return json.dumps(_with_text_keys(settings), sort_keys=True, default=str)


def _with_text_keys(value):
    """The value with every key a text, other ones for other keys: YAML may mix their kinds."""
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else f"\0{key!r}": _with_text_keys(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(item) for item in value]
    return value
