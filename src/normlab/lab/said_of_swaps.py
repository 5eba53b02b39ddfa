"""What was swapped in the user's network, for a terminal."""

from collections.abc import Mapping

from normlab.tools.swapped import SwapReport

NAMED = 3  # layers kept for one reason that are named


def said_of_swaps(reports: Mapping[str, SwapReport]) -> list[str]:
    """One line a norm, and one for each reason to keep a layer other than that it is of the kind already.

    Example:
        >>> from normlab.tools.swapped import Kept, SwapReport
        >>> kept = tuple(Kept(name, "LocalResponseNorm(2)", "as no other norm does") for name in "12345")
        >>> print("\\n".join(said_of_swaps({"batch": SwapReport("batch", (), kept)})))
        0 of 5 norm layers swapped to batch norm
          1, 2, 3 and 2 more: LocalResponseNorm(2) kept, as no other norm does
    """
    said = []
    for report in dict.fromkeys(reports.values()):
        said.append(report.title())
        groups: dict[str, list[str]] = {}
        for kept in report.kept:
            if not kept.same:
                groups.setdefault(f"{kept.layer} kept, {kept.reason}", []).append(kept.name or "the network")
        for swapped in report.swapped:
            if swapped.lost:
                what = f"the trained {' and '.join(swapped.lost)} of {swapped.before} found no place in {swapped.after}"
                groups.setdefault(what, []).append(swapped.name)
        said += [f"  {_some(names)}: {what}" for what, names in groups.items()]
    return said


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
