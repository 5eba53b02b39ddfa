"""The claims as a page of a manual: the command, the table, then each claim in full."""

from collections.abc import Sequence

from normlab.lab.claims import words
from normlab.lab.claims.inquiry import Inquiry
from normlab.lab.claims.judge import Judgement


def markdown(inquiry: Inquiry) -> str:
    """The whole page."""
    selection = inquiry.selection
    rows = [
        (
            f"[{found.claim.name}](#{found.claim.name})",
            found.verdict,
            found.text(),
            found.claim.rule.short(found.claim.unit),
            found.claim.recipe,
        )
        for found in inquiry.judgements
    ]
    return (
        "\n\n".join(
            (
                "# Claims",
                f"```console\n{selection.command()}\n```",
                f"Begun {selection.begun}. Made on {words.versions(inquiry)}.",
                f"{words.counted(inquiry)}.",
                _table(
                    ("claim", "verdict", "effect [95 % interval]", "supported if the interval lies", "recipe"), rows
                ),
                words.HOW,
                *(_paragraph(inquiry, found) for found in inquiry.judgements),
            )
        )
        + "\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _paragraph(inquiry: Inquiry, found: Judgement) -> str:
    claim = found.claim
    results = inquiry.comparisons[claim.recipe]
    return (
        f"## {claim.name}\n\n"
        f"{claim.statement} **It is {words.verdict(found)}.** Source: {claim.source}. "
        f"Effect: {claim.measured}. It is {found.text()}, by seed {words.values(found)}. "
        f"Rule: {claim.rule_text()}. "
        f"Recipe: {claim.recipe}, {words.seeds(found)}, target {words.target(results)}."
    )
