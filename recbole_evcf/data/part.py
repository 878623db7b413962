"""The rows of a batch that one of several processes computes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Part", "part_of"]


@dataclass(frozen=True)
class Part:
    """Rows ``start`` to ``stop``, of ``total``."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """To index a tensor of all rows with."""
        return slice(self.start, self.stop)


def part_of(total: int, place: int, n_parts: int) -> Part:
    """One of ``n_parts`` parts of ``total`` rows, as even as can be; they follow each other.

    Args:
        place: which one, from 0.
    """
    start, stop = (total * edge // n_parts for edge in (place, place + 1))
    return Part(start, stop, total)
