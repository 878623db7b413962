"""The three ways in which RecBole is changed: a function, a class, or a module's name.

``REPLACED`` lists every function and method of RecBole that is another one, and ``EXCHANGED`` every
other name.
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
    """A module of which some names are others."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def exchange(module: ModuleType, name: str, value: Any) -> None:
    """Give a module another value for a name that its functions read, such as ``pd``."""
    setattr(module, name, value)
    EXCHANGED.add(f"{module.__name__}.{name}")


def wrap_once(owner: Any, name: str, make: Callable) -> None:
    """Put ``make(function)`` in the place of a class's or a module's function, once.

    An inherited method is wrapped for this class alone. A module's function is replaced in all
    modules that have imported it by name, those of users who imported it first included.

    Raises:
        RuntimeError: there is a wrapper of another make.
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
    """Put a function in the place of RecBole's in all modules that have it by reference."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            # Ours keep RecBole's own under names with an underscore.
            if value is old and not name.startswith("_"):
                setattr(module, name, new)
    if old is not new:
        REPLACED.add(f"{old.__module__}.{old.__name__}")


def making_objects_by(base: type, make: Callable[..., Any]) -> None:
    """Let a class and its subclasses make their objects by ``make(cls, *arguments)``."""
    setattr(base, "__new__", staticmethod(make))  # noqa: B010 - mypy takes no other method
    REPLACED.add(f"{base.__name__}.__new__")


def extend(base: type, extension: type) -> None:
    """Let all objects of a class, and of its subclasses, have the methods of an extension.

    Args:
        base: RecBole's class.
        extension: a subclass of it. Its methods go before those of ``base`` and of earlier
            extensions, which ``super()`` reaches, and after those of the object's own class.
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
    # In a file it is an object of RecBole's class, and is made like any other.
    names["__reduce_ex__"] = lambda self, protocol: (_empty, (cls,), vars(self))
    return types.new_class(cls.__name__, tuple(bases), exec_body=lambda own: own.update(names))


def _empty(cls: Any) -> Any:
    return cls.__new__(cls)
