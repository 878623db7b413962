"""The three ways to change RecBole: wrap a function, extend a class, rebind a module's name.

``REPLACED`` lists every replaced function and method of RecBole, and ``EXCHANGED`` every other
name. Each happens once: a second call for the same name does nothing.
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
    "wrap",
]

REPLACED: set[str] = set()
EXCHANGED: set[str] = set()
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
    if f"{module.__name__}.{name}" not in EXCHANGED:
        EXCHANGED.add(f"{module.__name__}.{name}")
        setattr(module, name, value)


def wrap(owner: Any, name: str, new: Callable) -> None:
    """Replace a class's or a module's function.

    An inherited method is replaced for this class only. A module's function is replaced in all
    modules that have imported it by name, including users' earlier imports.

    Args:
        owner: the class or the module.
        name: of the function.
        new: is called with the original and the arguments of the call.
    """
    if f"{owner.__name__}.{name}" in REPLACED:
        return
    REPLACED.add(f"{owner.__name__}.{name}")
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return new(original, *args, **kwargs)

    setattr(owner, name, wrapper)
    if isinstance(owner, ModuleType):
        _rebind(original, wrapper)


def replace_function(module: ModuleType, name: str, new: Callable) -> None:
    """Replace a module's function in all modules that hold a reference to it."""
    REPLACED.add(f"{module.__name__}.{name}")
    _rebind(getattr(module, name), new)


def _rebind(old: Callable, new: Callable) -> None:
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            # Ours keep RecBole's own under names with an underscore.
            if value is old and not name.startswith("_"):
                setattr(module, name, new)


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
    if extension in extensions:
        return
    extensions.insert(0, extension)
    _extended.cache_clear()
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
