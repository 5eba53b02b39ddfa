"""The claims for machines: what `claims.json` holds."""

from typing import Any

from normlab.lab.claims import words
from normlab.lab.claims.inquiry import Inquiry
from normlab.lab.claims.judge import Judgement


def to_json(inquiry: Inquiry) -> dict[str, Any]:
    """The object that `normlab claims --json` prints."""
    selection = inquiry.selection
    return {
        "folder": str(inquiry.folder),
        "command": selection.command(),
        "begun": selection.begun,
        "size": "quick" if selection.quick else "full",
        "made_on": words.versions(inquiry),
        "claims": [_claim(inquiry, found) for found in inquiry.judgements],
    }


def _claim(inquiry: Inquiry, found: Judgement) -> dict[str, Any]:
    claim, effect = found.claim, found.effect
    results = inquiry.comparisons[claim.recipe]
    return {
        "name": claim.name,
        "statement": claim.statement,
        "source": claim.source,
        "verdict": found.verdict,
        "reason": found.reason,
        "measured": claim.measured,
        "rule": {"kind": claim.rule.kind, "threshold": claim.rule.threshold, "text": claim.rule_text()},
        "unit": claim.unit.many,
        "mean": effect.mean if effect else None,
        "low": effect.low if effect else None,
        "high": effect.high if effect else None,
        "seeds": found.seeds,
        "values": found.values,
        "recipe": claim.recipe,
        "target": results.recipe.base.target,
        "comparison": results.folder.name,
    }
