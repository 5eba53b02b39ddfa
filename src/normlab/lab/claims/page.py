"""The claims as one page that opens from disk with the network off, in the look of the report."""

from normlab.lab.claims import words
from normlab.lab.claims.forest import forest
from normlab.lab.claims.inquiry import Inquiry
from normlab.lab.claims.judge import Judgement
from normlab.lab.report import html
from normlab.lab.report.frame import drawn_figure, section, whole_page

REPORT = "report.html"  # in the folder of each comparison
LOOK = """
.claims { width: 100%; }
.claims td { vertical-align: top; }
.claims th[scope="row"] { vertical-align: top; min-width: 22em; max-width: 34em; text-wrap: wrap; }
.claims th[scope="row"] small { display: block; font-size: 13px; }
.claims td:nth-child(n + 3) { white-space: nowrap; }
.verdict-word { font-weight: 650; white-space: nowrap; }
#each p { margin: 0 0 4px; }
"""


def page(inquiry: Inquiry) -> str:
    """The whole page as HTML."""
    drawn = forest(inquiry)
    specs = {drawn.name: drawn.spec} if drawn.spec is not None else {}
    command = html.text(inquiry.selection.command())
    sections = (
        section("effects", drawn.title, drawn_figure(drawn)),
        section("each", "Each claim", "".join(_claim(inquiry, found) for found in inquiry.judgements)),
        section("reproduce", "How to reproduce", _reproduce(inquiry)),
    )
    header = f"""<header>
<p class="eyebrow">{command} · {html.text(inquiry.selection.begun)}</p>
<h1>Which claims of the literature hold here?</h1>
<p class="verdict">{words.counted(inquiry)}.</p>
{_table(inquiry)}
<p class="caption">{html.text(words.HOW)}</p>
<noscript><p class="notice">The chart needs JavaScript; nothing is loaded from a network.</p></noscript>
</header>"""
    footer = f"Drawn by normlab from the records of {len(inquiry.comparisons)} comparisons."
    return whole_page("Claims", header, sections, footer, {"specs": specs}, LOOK)


def _table(inquiry: Inquiry) -> str:
    head = (
        "Claim",
        "Verdict",
        "Effect <small>mean, 95 % interval</small>",
        "Rule <small>supported if the interval lies</small>",
        "Recipe <small>its report</small>",
    )
    rows = [
        (
            f"{html.text(found.claim.name)}<small>{html.text(found.claim.statement)}</small>",
            f'<span class="verdict-word">{found.verdict}</span>'
            + (f"<br><small>{html.text(found.reason)}</small>" if found.reason else ""),
            html.text(found.text()),
            html.text(found.claim.rule.short(found.claim.unit)),
            _link(inquiry, found),
        )
        for found in inquiry.judgements
    ]
    return html.table(head, rows, "claims")


def _link(inquiry: Inquiry, found: Judgement) -> str:
    folder = inquiry.comparisons[found.claim.recipe].folder.name
    return f'<a href="{html.text(folder)}/{REPORT}">{html.text(found.claim.recipe)}</a>'


def _claim(inquiry: Inquiry, found: Judgement) -> str:
    claim = found.claim
    results = inquiry.comparisons[claim.recipe]
    said = (
        f"{claim.statement} Source: {claim.source}.",
        f"Effect: {claim.measured}. It is {found.text()}, by seed {words.values(found)}.",
        f"Rule: {claim.rule_text()}. Hence {words.verdict(found)}.",
    )
    recipe = f"Recipe: {_link(inquiry, found)}, {words.seeds(found)}, target {html.text(words.target(results))}."
    paragraphs = "".join(f"<p>{html.text(each)}</p>" for each in said)
    return f'<h3 id="{html.text(claim.name)}">{html.text(claim.name)}</h3>{paragraphs}<p>{recipe}</p>'


def _reproduce(inquiry: Inquiry) -> str:
    return (
        f"<pre><code>{html.text(inquiry.selection.command())}</code></pre>"
        f"<p>Made on {html.text(words.versions(inquiry))}. To judge the same records again, nothing trained:</p>"
        f"<pre><code>normlab claims --resume {html.text(inquiry.folder.name)}</code></pre>"
    )
