"""The three files: complete, escaped, the same from the same records, and without a network."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import pytest

from normlab.lab.claims import CLAIMS
from normlab.lab.claims.forest import forest
from normlab.lab.claims.inquiry import Inquiry, judged
from normlab.lab.claims.selection import Selection
from normlab.lab.claims.write import write_claims
from normlab.lab.config import RunConfig
from normlab.lab.load import Results

MakeUp = Callable[..., Results]
LinesOf = Callable[..., list[dict[str, Any]]]
NAMES = ("faster-convergence", "bias-is-redundant", "bias-has-no-gradient")
# epochs to the target, by norm and seed: effects 4, 5, 6; accuracy with a bias − without: 1, 1, −1 points
EPOCHS = {"none": (6, 7, 8), "batch": (2, 2, 2), "layer": (2, 2, 2)}
FINAL = {True: (0.91, 0.91, 0.90), False: (0.90, 0.90, 0.91)}


@pytest.fixture
def inquiry(made_up: MakeUp, lines_of: LinesOf, tmp_path: Path) -> Inquiry:
    def converging(config: RunConfig) -> list[dict[str, Any]]:
        first = EPOCHS[config.norm][config.seed]
        return lines_of([0.95 if epoch >= first else 0.1 for epoch in range(10)])

    def biased(config: RunConfig) -> list[dict[str, Any]]:
        return lines_of([0.1, FINAL[config.model.bias][config.seed]], gradient_norm={}, bias_gradient_norm={})

    comparisons = {
        "deep-tanh": made_up("deep-tanh", ["seeds=3", "epochs=9"], converging),
        "bias": made_up("bias", ["seeds=3", "epochs=1"], biased),
    }
    chosen = Selection(claims=NAMES, quick=False, words=("seeds=3",), begun="2026-11-21 09:30")
    return judged(tmp_path, chosen, comparisons)


def test_for_machines(inquiry: Inquiry) -> None:
    path, _, _ = write_claims(inquiry)
    found = json.loads(path.read_text())
    assert path.name == "claims.json"
    assert found["command"] == "normlab claims faster-convergence bias-is-redundant bias-has-no-gradient seeds=3 --full"
    assert (found["begun"], found["size"], found["folder"]) == ("2026-11-21 09:30", "full", str(inquiry.folder))
    assert found["made_on"] == "normlab 0.1, commit abc, torch 2, Python 3.11, processor a <b> processor"
    first, second, third = found["claims"]
    assert (first["mean"], first["low"], first["high"]) == pytest.approx((5.0, 2.5159, 7.4841), abs=1e-4)
    assert first["rule"] == {
        "kind": "above",
        "threshold": 0.0,
        "text": CLAIMS[NAMES[0]].rule_text(),
    }
    keys = ("name", "verdict", "reason", "values", "seeds", "unit", "recipe", "comparison", "target")
    assert [first[key] for key in keys] == [
        "faster-convergence",
        "supported",
        "",
        [4.0, 5.0, 6.0],
        [0, 1, 2],
        "epochs",
        "deep-tanh",
        "20261121-093000-deep-tanh",
        0.9,
    ]
    assert (second["verdict"], second["reason"]) == ("undecided", "the interval reaches across ±1 point")
    assert second["values"] == pytest.approx([1.0, 1.0, -1.0])
    assert (third["verdict"], third["mean"], third["values"]) == ("undecided", None, [None, None, None])


def test_for_a_manual(inquiry: Inquiry) -> None:
    """Points 1, 1, −1: mean 1/3, standard error √(4/3)/√3 = 2/3, so 1/3 ± 4.303 × 2/3 = 1/3 ± 2.868."""
    _, path, _ = write_claims(inquiry)
    text = path.read_text()
    assert text.startswith(
        "# Claims\n\n```console\n"
        "normlab claims faster-convergence bias-is-redundant bias-has-no-gradient seeds=3 --full\n```\n\n"
        "Begun 2026-11-21 09:30. Made on normlab 0.1, commit abc, torch 2, Python 3.11, processor a <b> processor.\n\n"
        "1 supported, 0 not supported, 2 undecided.\n\n"
        "| claim | verdict | effect [95 % interval] | supported if the interval lies | recipe |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| [faster-convergence](#faster-convergence) | supported | +5.0 epochs [+2.5, +7.5] | above 0 epochs | "
        "deep-tanh |\n"
        "| [bias-is-redundant](#bias-is-redundant) | undecided | +0.3 points [−2.5, +3.2] | within ±1 point | bias |\n"
        "| [bias-has-no-gradient](#bias-has-no-gradient) | undecided | – | below −4 log10 | bias |\n\n"
    )
    assert (
        "## bias-is-redundant\n\n"
        "With batch norm behind it, a layer does not need its bias. "
        "**It is undecided: the interval reaches across ±1 point.** "
        "Source: Ioffe & Szegedy 2015, section 3.2; S2. "
        "Effect: final test accuracy with batch norm, with bias − without; a run that diverged counts with the worst "
        "value it recorded. It is +0.3 points [−2.5, +3.2], by seed +1.0, +1.0, −1.0. "
        "Rule: supported if the 95 % interval of the effect lies within ±1 point, not supported if it lies wholly "
        "outside, else undecided. "
        "Recipe: bias, seeds 0 to 2, target test accuracy 90.0 %.\n"
    ) in text


def test_the_page_asks_nothing_of_a_network_and_links_the_reports(inquiry: Inquiry) -> None:
    _, _, path = write_claims(inquiry)
    text = path.read_text()
    before, _, _ = text.partition("<script>")
    links = set(re.findall(r'(?:src|href|action)="(?!#|data:)([^"]*)"', before))
    assert links == {"20261121-093000-deep-tanh/report.html", "20261121-093000-bias/report.html"}
    assert "default-src 'none'" in before
    assert not re.search(r"@import|url\(", before)
    for word in ("supported", "undecided", "+5.0 epochs [+2.5, +7.5]", "within ±1 point"):
        assert word in before
    assert "a &lt;b&gt; processor" in before
    assert len(re.findall("</script", text)) == len(re.findall("<script", text)) == 3


def test_the_forest_has_a_row_for_each_effect_and_the_band_of_its_rule(inquiry: Inquiry) -> None:
    spec = forest(inquiry).spec
    assert spec is not None
    alt.Chart.from_dict(spec)
    rows = {row["claim"]: row for row in spec["datasets"]["rows"]}
    assert list(rows) == ["faster-convergence", "bias-is-redundant"]
    assert (rows["bias-is-redundant"]["from"], rows["bias-is-redundant"]["to"]) == (-1.0, 1.0)
    first = rows["faster-convergence"]
    assert first["from"] == 0.0
    assert first["to"] > first["high"]
    assert (first["mean"], first["verdict"]) == (5.0, "supported")
    assert len(spec["datasets"]["dots"]) == 6
    assert len(spec["vconcat"]) == 2


def test_without_any_effect_there_is_a_page_that_says_so(inquiry: Inquiry) -> None:
    chosen = inquiry.selection.model_copy(update={"claims": ("bias-has-no-gradient",)})
    _, _, path = write_claims(judged(inquiry.folder, chosen, inquiry.comparisons))
    assert "No claim has an effect yet: no seed has finished its runs." in path.read_text()


def test_the_same_records_give_the_same_files(inquiry: Inquiry) -> None:
    first = [path.read_bytes() for path in write_claims(inquiry)]
    again = judged(inquiry.folder, inquiry.selection, inquiry.comparisons)
    assert [path.read_bytes() for path in write_claims(again)] == first
