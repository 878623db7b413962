"""The ways to change RecBole: hook a function, extend a class, rebind a module's name.

Each is used where a module of ``hooks`` is imported, and so happens once in a process.
``REPLACED`` lists the functions and methods of RecBole that were replaced, ``EXCHANGED`` the names.
"""

import functools
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar

REPLACED: list[str] = []
EXCHANGED: list[str] = []
_extensions: dict[type, list[type]] = {}
C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable)


class Forward:
    """A module in which some names are rebound."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def exchange(module: types.ModuleType, name: str, value: Any) -> None:
    """Rebind a name that a module's functions read, such as ``pd``."""
    EXCHANGED.append(f"{module.__name__}.{name}")
    setattr(module, name, value)


def hook(owner: Any, name: str) -> Callable[[F], F]:
    """Make calls of a class's or a module's function calls of the decorated one.

    It is called with the original and the arguments of the call. An inherited method is replaced
    for this class only.
    """

    def decorate(new: F) -> F:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return new(original, *args, **kwargs)

        replace(owner, name, wrapper)
        return new

    return decorate


def replace(owner: Any, name: str, new: Callable) -> None:
    """Replace a function, and a module's in all modules that have imported it by name."""
    REPLACED.append(f"{owner.__name__}.{name}")
    old = getattr(owner, name)
    setattr(owner, name, new)
    for module in list(sys.modules.values()) if isinstance(owner, types.ModuleType) else ():
        for key, value in list(getattr(module, "__dict__", {}).items()):
            # Ours keep RecBole's own under names with an underscore.
            if value is old and not key.startswith("_"):
                setattr(module, key, new)


def make_by(base: type, make: Callable[..., Any]) -> None:
    """Make a class and its subclasses create objects by ``make(cls, *arguments)``."""
    REPLACED.append(f"{base.__name__}.__new__")
    setattr(base, "__new__", staticmethod(make))  # noqa: B010 - mypy takes no other method


def extends(base: type) -> Callable[[C], C]:
    """Give all objects of a class and its subclasses the methods of the decorated subclass.

    These precede those of ``base`` and of earlier extensions, which ``super()`` reaches, and follow
    those of the object's own class.
    """

    def decorate(extension: C) -> C:
        if base not in _extensions:
            make_by(base, lambda cls, *_, **__: object.__new__(_extended(cls, base)))
        _extensions.setdefault(base, []).insert(0, extension)
        _extended.cache_clear()
        return extension

    return decorate


@functools.cache
def _extended(cls: type, base: type) -> type:
    if "__reduce_ex__" in vars(cls):
        return cls
    bases = _extensions[base] if cls is base else (cls, *_extensions[base])
    names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    # Pickled as an object of RecBole's class, and created like any other.
    names["__reduce_ex__"] = lambda self, protocol: (_empty, (cls,), vars(self))
    return types.new_class(cls.__name__, tuple(bases), exec_body=lambda own: own.update(names))


def _empty(cls: Any) -> Any:
    return cls.__new__(cls)
