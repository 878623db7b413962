"""The three ways to change RecBole: replace a function, extend a class, rebind a module's name.

``REPLACED`` lists every replaced function and method of RecBole, and ``EXCHANGED`` every other
name.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = [
    "EXCHANGED",
    "REPLACED",
    "Forward",
    "exchange",
    "extend",
    "making_objects_by",
    "replace_function",
    "wrap_once",
]

REPLACED: set[str] = set()
EXCHANGED: set[str] = set()
_MARK = "_recbole_evcf_wrapper"
_extensions: dict[type, list[type]] = {}


class Forward:
    """A module in which some names are rebound."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def exchange(module: ModuleType, name: str, value: Any) -> None:
    """Rebind a name that a module's functions read, such as ``pd``."""
    setattr(module, name, value)
    EXCHANGED.add(f"{module.__name__}.{name}")


def wrap_once(owner: Any, name: str, make: Callable) -> None:
    """Replace a class's or a module's function by ``make(function)``, once.

    An inherited method is wrapped for this class only. A module's function is replaced in all
    modules that have imported it by name, including users' earlier imports.

    Raises:
        RuntimeError: a different wrapper is already there.
    """
    there = getattr(vars(owner).get(name), _MARK, None)
    if there is None:
        function = getattr(owner, name)
        wrapper = functools.wraps(function)(make(function))
        setattr(wrapper, _MARK, make.__qualname__)
        setattr(owner, name, wrapper)
        if isinstance(owner, ModuleType):
            replace_function(function, wrapper)
        else:
            REPLACED.add(f"{owner.__name__}.{name}")
    elif there != make.__qualname__:
        raise RuntimeError(
            f"{owner.__name__}.{name} is wrapped by {there}: no room for {make.__qualname__}."
        )


def replace_function(old: Callable, new: Callable) -> None:
    """Replace a RecBole function in all modules that hold a reference to it."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            # Ours keep RecBole's own under names with an underscore.
            if value is old and not name.startswith("_"):
                setattr(module, name, new)
    if old is not new:
        REPLACED.add(f"{old.__module__}.{old.__name__}")


def making_objects_by(base: type, make: Callable[..., Any]) -> None:
    """Make a class and its subclasses create objects by ``make(cls, *arguments)``."""
    setattr(base, "__new__", staticmethod(make))  # noqa: B010 - mypy takes no other method
    REPLACED.add(f"{base.__name__}.__new__")


def extend(base: type, extension: type) -> None:
    """Give all objects of a class and its subclasses the methods of an extension.

    Args:
        base: RecBole's class.
        extension: a subclass of it. Its methods precede those of ``base`` and of earlier
            extensions, which ``super()`` reaches, and follow those of the object's own class.
    """
    extensions = _extensions.setdefault(base, [])
    if any(each.__qualname__ == extension.__qualname__ for each in extensions):
        return
    extensions.insert(0, extension)
    _extended.cache_clear()
    if len(extensions) == 1:
        making_objects_by(base, lambda cls, *_, **__: object.__new__(_extended(cls, base)))


@functools.cache
def _extended(cls: type, base: type) -> type:
    if "__reduce_ex__" in vars(cls):
        return cls
    extensions = _extensions[base]
    bases = extensions if cls is base else (cls, *extensions)
    names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    # Pickled as an object of RecBole's class, and created like any other.
    names["__reduce_ex__"] = lambda self, protocol: (_empty, (cls,), vars(self))
    return types.new_class(cls.__name__, tuple(bases), exec_body=lambda own: own.update(names))


def _empty(cls: Any) -> Any:
    return cls.__new__(cls)
