"""Make foreign strings short and safe for the terminal and for pages."""

from __future__ import annotations

import unicodedata

__all__ = ["one_line", "printable", "shortened", "shown"]

# Control characters, surrogates, and line and paragraph separators.
STEERING = ("Cc", "Cs", "Zl", "Zp")
# These change the writing direction, also of what follows.
TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
LONGEST_SENTENCE = 2000


def shortened(text: str, length: int = 60) -> str:
    """Return a string, or its beginning with three dots if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def shown(value: object, length: int = 60) -> str:
    """Quote a piece of the user's data as Python does, shortened."""
    return repr(shortened(str(value), length))


def printable(text: str) -> str:
    """Escape control characters, so that a sentence is safe to print."""
    text = shortened(text, LONGEST_SENTENCE)
    return "".join(c.encode("unicode_escape").decode() if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    return (
        unicodedata.category(character) in STEERING
        or unicodedata.bidirectional(character) in TURNING
    )


def one_line(error: Exception) -> str:
    """Return an exception's message in one line, or its name if it has none."""
    # str() of a KeyError is quoted.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
