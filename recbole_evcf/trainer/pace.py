"""How often a run's files are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

# Training takes at least so many times as long as writing.
SHARE = 20


class Pace:
    """Tells when to write next, from how long writing has taken."""

    def __init__(self) -> None:
        self._due = 0.0

    def is_due(self) -> bool:
        """Whether training has had its share of the time."""
        return monotonic() >= self._due

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A block that writes a file."""
        start = monotonic()
        yield
        end = monotonic()
        self._due = end + SHARE * (end - start) + max(self._due - start, 0)
