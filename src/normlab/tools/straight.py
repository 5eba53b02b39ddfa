"""Whether a function does the same at every call, as far as its source tells."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from types import CodeType

# what may stand around attributes of `self` in a condition, and how their parts are reached
AROUND = {"enumerate", "len", "range", "reversed", "zip"}
PARTS = {"children", "items", "keys", "values"}
LONGER = {"append", "extend", "insert"}
ASKS = {"callable", "hasattr", "isinstance", "issubclass", "type"}
OTHER_WORLDS = {
    ast.With: "has a `with`",
    ast.Try: "has a `try`",
    ast.While: "has a `while`",
    ast.Match: "has a `match`",
    ast.Global: "writes into a global variable",
    ast.Nonlocal: "writes into a variable of another function",
    ast.Yield: "is a generator",
    ast.YieldFrom: "is a generator",
    ast.Await: "is asynchronous",
}


@cache
def why_not_straight(code: CodeType) -> str:
    """Why a function may do something else at its next call, or more than to compute, as what is said of it.

    A condition may ask for attributes of `self` and their parts, nothing else: where `torch.fx` follows a forward, what
    the arguments are (`x is None`, `isinstance(x, Tensor)`) has one answer for good, and a wrong one.

    Example:
        >>> def forward(self, x, mask=None):
        ...     return x if mask is None else x * mask
        >>> why_not_straight(forward.__code__)
        'decides by `mask is None`'
    """
    try:
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(code))).body
    except (OSError, SyntaxError, TypeError, ValueError):
        return "has a source that cannot be read"
    if not isinstance(function, ast.FunctionDef):
        return "is no plain function"
    own = function.args.args[0].arg if function.args.args else ""
    for node in ast.walk(function):
        if word := next((words for kind, words in OTHER_WORLDS.items() if isinstance(node, kind)), ""):
            return word
        if asked := next((each for each in _asked(node) if not _is_of(own, each)), None):
            return f"decides by `{ast.unparse(asked)}`"
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            return f"writes into `{ast.unparse(node)}`"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _is_seen(node.value, code):
            return f"calls `{ast.unparse(node.value)}` for what that does"
    return ""


def _asked(node: ast.AST) -> Iterator[ast.expr]:
    """What decides which way is taken."""
    if isinstance(node, ast.If | ast.IfExp | ast.Assert):
        yield node.test
    elif isinstance(node, ast.For):
        yield node.iter
    elif isinstance(node, ast.comprehension):
        yield node.iter
        yield from node.ifs
    elif isinstance(node, ast.BoolOp):
        yield from node.values
    elif isinstance(node, ast.Compare):
        yield from [node] * any(isinstance(each, ast.Is | ast.IsNot | ast.In | ast.NotIn) for each in node.ops)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ASKS:
        yield node


def _is_of(own: str, asked: ast.expr) -> bool:
    """Whether this is made of attributes of `self`, and of constants."""
    for node in ast.walk(asked):
        if isinstance(node, ast.Name) and node.id not in AROUND | {own}:
            return False
        if isinstance(node, ast.Call) and not (
            (isinstance(node.func, ast.Name) and node.func.id in AROUND)
            or (isinstance(node.func, ast.Attribute) and node.func.attr in PARTS)
        ):
            return False
    return True


def _is_seen(call: ast.Call, code: CodeType) -> bool:
    """Whether a graph has what the call does: an operation on a tensor in its place, or a longer list of values."""
    if not isinstance(call.func, ast.Attribute):
        return False
    of, name = call.func.value, call.func.attr
    longer = name in LONGER and isinstance(of, ast.Name) and of.id in code.co_varnames
    return longer or (name.endswith("_") and not name.endswith("__"))
