"""A shape from the command line."""

from normlab import errors


def sizes(command: str, text: str | None) -> tuple[int, ...] | None:
    """The sizes in a list like `4,3,2,2`; None for none.

    Raises:
        UsageError: it is no list of whole numbers.

    Example:
        >>> sizes("explain", "4,3")
        (4, 3)
    """
    try:
        return tuple(int(size) for size in text.split(",")) if text else None
    except ValueError:
        problem = errors.Problem("`--shape` is a list of whole numbers.", got=repr(text), fix="write --shape 4,3,2,2.")
        raise errors.UsageError(errors.message(command, problem)) from None
