"""Text on its way into the page. Names and questions come from files that anybody may have written."""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def text(value: object) -> str:
    """Any value as text that cannot be markup.

    Example:
        >>> text("<b>&")
        '&lt;b&gt;&amp;'
    """
    return html.escape(str(value), quote=True)


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element: no tag can begin in it, and no number is infinite.

    Example:
        >>> script_json({"a": "</script>", "b": float("nan")})
        '{"a":"\\\\u003c/script>","b":null}'
    """
    dumped = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return dumped.replace("<", "\\u003c")  # json.dumps has escaped everything that is not ASCII


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are markup already; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value
