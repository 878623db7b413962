"""Read Python literals that users write, without running anything."""

from __future__ import annotations

import ast
import operator
from typing import Any, ClassVar

__all__ = ["plain_value"]


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
    """Replace each operation on two numbers by its result."""

    OPERATIONS: ClassVar = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
        ast.Pow: operator.pow,
    }
    MAX_POWER_BITS = 4096

    def visit_BinOp(self, node: ast.BinOp) -> ast.Constant:
        self.generic_visit(node)
        left, right = ast.literal_eval(node.left), ast.literal_eval(node.right)
        if not all(isinstance(value, (int, float, complex)) for value in (left, right)):
            raise ValueError("Only numbers can be calculated with.")
        if type(node.op) not in self.OPERATIONS:
            raise ValueError("Only + - * / // % and ** are calculated.")
        if (
            isinstance(node.op, ast.Pow)
            and isinstance(left, int)
            and isinstance(right, int)
            and left.bit_length() * right > self.MAX_POWER_BITS
        ):
            raise ValueError("The power is too large.")
        return ast.Constant(self.OPERATIONS[type(node.op)](left, right))
