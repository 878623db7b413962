"""Read literals that users write, and make foreign strings safe for the terminal and for pages."""

import ast
import operator
import unicodedata
from collections.abc import Callable
from typing import Any

# Control characters, surrogates, and line and paragraph separators.
STEERING = ("Cc", "Cs", "Zl", "Zp")
# These change the writing direction, also of what follows.
TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
LONGEST_SENTENCE = 2000
MAX_POWER_BITS = 4096
OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def shortened(text: str, length: int = 60) -> str:
    """Return a string, or its beginning with three dots if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def shown(value: object, length: int = 60) -> str:
    """Quote a piece of the user's data as Python does, shortened."""
    return repr(shortened(str(value), length))


def printable(text: str) -> str:
    """Escape control characters, so that a sentence is safe to print."""
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.bidirectional(letter) in TURNING or unicodedata.category(letter) in STEERING
        else letter
        for letter in shortened(text, LONGEST_SENTENCE)
    )


def one_line(error: Exception) -> str:
    """Return an exception's message in one line, or its name if it has none."""
    # str() of a KeyError is quoted.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def plain_value(text: str) -> Any:
    """Return the value of a Python literal, arithmetic on numbers included.

    Raises:
        SyntaxError: the string is anything else; nothing in it was run.
    """
    try:
        tree = ast.parse(text.lstrip(" \t"), mode="eval")
        return ast.literal_eval(_Arithmetic().visit(tree))
    except (ArithmeticError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise SyntaxError(f"[{text}] is no plain Python value.") from error


class _Arithmetic(ast.NodeTransformer):
    """Replaces each operation on two numbers by its result."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.Constant:
        left, right = (ast.literal_eval(self.visit(side)) for side in (node.left, node.right))
        if not all(isinstance(value, (int, float, complex)) for value in (left, right)):
            raise ValueError("Only numbers can be calculated with.")
        if type(node.op) not in OPERATIONS:
            raise ValueError("Only + - * / // % and ** are calculated.")
        power = isinstance(node.op, ast.Pow) and isinstance(left, int)
        if power and left.bit_length() * right > MAX_POWER_BITS:
            raise ValueError("The power is too large.")
        return ast.Constant(OPERATIONS[type(node.op)](left, right))
