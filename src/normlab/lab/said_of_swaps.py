"""What was swapped in the user's network, for a terminal."""

from collections.abc import Mapping

from normlab.tools.report import Report

NAMED = 3  # layers kept for one reason that are named


def said_of_swaps(reports: Mapping[str, Report]) -> list[str]:
    """One line a norm, and one for each reason to keep a layer other than that it is of the kind already.

    Example:
        >>> from normlab.tools.report import Skipped
        >>> kept = tuple(Skipped(name, "LocalResponseNorm(2)", "as no other norm does") for name in "12345")
        >>> print("\\n".join(said_of_swaps({"batch": Report("swapped to batch norm", (), kept)})))
        0 of 5 norm layers swapped to batch norm
          1, 2, 3 and 2 more: LocalResponseNorm(2) kept, as no other norm does
    """
    said = []
    for report in dict.fromkeys(reports.values()):
        said.append(report.title())
        groups: dict[str, list[str]] = {}
        for kept in report.skipped:
            if not kept.same:
                groups.setdefault(f"{kept.layer} kept, {kept.reason}", []).append(kept.name or "the network")
        for one in report.touched:
            if ";" in one.change:  # after it stands what is lost
                groups.setdefault(f"{one.layer} {one.change}", []).append(one.name)
        said += [f"  {_some(names)}: {what}" for what, names in groups.items()]
    return said


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
