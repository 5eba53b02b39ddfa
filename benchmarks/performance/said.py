"""Figures as they are written, and tables of them."""

from collections.abc import Sequence


def ratio(value: float | None) -> str:
    """
    Example:
        >>> ratio(2.345), ratio(12.34), ratio(234.5), ratio(None)
        ('2.35', '12.3', '234', '')
    """
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float) -> str:
    """
    Example:
        >>> percent(0.347), percent(-0.5)
        ('35 %', '−50 %')
    """
    return f"{share * 100:.0f} %".replace("-", "−")


def milliseconds(seconds: float) -> str:
    """Three digits.

    Example:
        >>> milliseconds(0.0123456), milliseconds(1.5), milliseconds(0.0000123)
        ('12.3', '1500', '0.0123')
    """
    value = seconds * 1e3
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def size(value: float) -> str:
    """Bytes, in the unit that leaves few digits.

    Example:
        >>> size(512), size(16384), size(102760448)
        ('512 B', '16 kB', '103 MB')
    """
    for unit, name in ((1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.0f} {name}" if value >= 10 * unit else f"{value / unit:.1f} {name}"
    return f"{value:.0f} B"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table in Markdown without the columns that are empty; figures stand right, but for the first columns.

    Args:
        head: the names of the columns.
        lines: the cells.
        words: how many columns at the left are words.

    Example:
        >>> print(table(["shape", "ms", "none"], [["8 × 16", "1.0", ""]]), end="")
        | shape | ms |
        | --- | ---: |
        | 8 × 16 | 1.0 |
    """
    used = [at for at in range(len(head)) if any(line[at] for line in lines)]
    rule = ["---" if at < words else "---:" for at in used]
    return "".join(
        f"| {' | '.join(cells)} |\n"
        for cells in ([head[at] for at in used], rule, *([line[at] for at in used] for line in lines))
    )
