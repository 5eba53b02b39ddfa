"""The page: complete, escaped, small, and it works in a browser without a network."""

import html
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from normlab.lab import Results, summarize
from normlab.lab.report import write_report
from normlab.lab.report.html import script_json
from normlab.lab.report.results_table import duration
from normlab.lab.summary import to_json

MakeUp = Callable[..., Results]
HOSTILE = 'Is </script><script>alert("x")</script><b>this</b> & that?'


def embedded(text: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_has_question_verdict_pairing_settings_and_command(finished: Results, tmp_path: Path) -> None:
    path = write_report(finished, tmp_path / "new" / "report.html")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    text, summary = path.read_text(), summarize(finished)
    for said in (finished.recipe.question, summary.verdict, summary.pairing, *finished.variants):
        assert html.escape(said) in text
    assert "normlab compare deep-tanh" in text
    assert html.escape(finished.recipe.to_toml()) in text
    assert f"<td>{finished.runs[0].environment['data_sha256']}</td>" in text
    assert "None: every run ended as planned." in text
    assert re.findall(r'(?:src|href|action)="(?!#|data:)[^"]*"', text.partition("<script>")[0]) == []


def test_the_summary_in_the_page_is_that_of_the_command(finished: Results, tmp_path: Path) -> None:
    text = write_report(finished, tmp_path / "report.html").read_text()
    assert embedded(text, "summary") == json.loads(json.dumps(to_json(summarize(finished), finished.folder.name)))


def test_an_old_report_is_replaced_whole(finished: Results, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(finished, path)
    assert path.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def test_hostile_text_stays_text(made_up: MakeUp, tmp_path: Path) -> None:
    results = made_up("norm=none", "seeds=1", "epochs=1", states={"none": "failed"}, question=HOSTILE, reason=HOSTILE)
    named = Results(results.folder, results.recipe, tuple(_renamed(run) for run in results.runs))
    text = write_report(named, tmp_path / "report.html").read_text()
    assert HOSTILE not in text
    assert "<b>this" not in text
    assert text.count(html.escape(HOSTILE)) >= 4  # title, heading, variant, reason
    assert len(re.findall(r"</script", text)) == len(re.findall(r"<script", text)) == 4
    specs = embedded(text, "specs")
    assert HOSTILE in json.dumps(specs).replace('\\"', '"')


def _renamed(run: Any) -> Any:
    return type(run)(run.folder, HOSTILE, run.config, run.status)


def test_json_in_a_script_cannot_end_it_and_holds_no_infinity() -> None:
    dumped = script_json({"a": ["</script><!--", float("inf"), "\u2028"]})
    assert "<" not in dumped
    assert "\u2028" not in dumped
    assert json.loads(dumped) == {"a": ["</script><!--", None, "\u2028"]}


def test_the_default_comparison_fits_three_megabytes(made_up: MakeUp, tmp_path: Path) -> None:
    results = made_up()  # 3 variants × 5 seeds × 15 epochs × 8 layers × 3 places × 2 modes
    assert len(results.runs) == 15
    assert write_report(results, tmp_path / "report.html").stat().st_size <= 3_000_000


def test_what_went_wrong_is_listed_with_its_reason(made_up: MakeUp, tmp_path: Path) -> None:
    results = made_up(
        "seeds=2",
        "epochs=2",
        "model.depth=2",
        states={"none": "diverged", "batch": "failed", "layer": "planned"},
        reason="RuntimeError: the dog ate it",
    )
    text = write_report(results, tmp_path / "report.html").read_text()
    assert "Of 6 runs: 2 diverged, 2 failed, 2 not begun." in text
    assert "What went wrong (6)" in text
    assert text.count("RuntimeError: the dog ate it") == 4
    assert text.count("<td>not begun</td>") == 2
    assert '<span class="bad">2 diverged</span>' in text


def test_nothing_finished_still_makes_a_page(made_up: MakeUp, tmp_path: Path) -> None:
    results = made_up("seeds=1", states=dict.fromkeys(("none", "batch", "layer"), "planned"))
    text = write_report(results, tmp_path / "report.html").read_text()
    assert text.count('class="empty"') == 6
    assert "nothing is known about the machine" in text
    assert embedded(text, "specs") == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.00213, "2.1 ms"), (0.25, "250 ms"), (4e-5, "40 µs"), (123.4, "123 s")]
)
def test_times_have_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and CI must test the report in it: apt-get install chromium")
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    quiet += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield launched
        launched.close()


def opened(browser: Any, path: Path) -> tuple[Any, list[str]]:
    """The page with the network off, and everything that it should not have done."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    context.set_offline(True)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(("file:", "data:", "blob:")) else wrong.append(f"request: {asked.url}")
        ),
    )
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    return page, wrong


PIXELS = """async ([name, top, bottom]) => {
  await normlab.views[name].runAsync();
  const drawn = document.querySelector(`#chart-${name} canvas`);
  const copy = new OffscreenCanvas(drawn.width, (bottom || drawn.height) - top);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(drawn, 0, -top);
  const pixels = new Uint32Array(context.getImageData(0, 0, copy.width, copy.height).data.buffer);
  return [new Set(pixels).size, pixels.reduce((hash, pixel) => (hash * 31 + pixel) >>> 0, 0)];
}"""


def pixels(page: Any, name: str, top: int = 0, bottom: int = 0) -> tuple[int, int]:
    """Of the picture of a chart, or the part of it between two heights: how many colours it has, and a hash."""
    colours, digest = page.evaluate(PIXELS, [name, top, bottom])
    return colours, digest


@pytest.mark.browser
def test_the_report_works_in_a_browser_with_the_network_off(regression: Results, browser: Any, tmp_path: Path) -> None:
    page, wrong = opened(browser, write_report(regression, tmp_path / "report.html"))
    assert page.evaluate("Object.keys(normlab.views)") == [
        "scores",
        "curves",
        "fits",
        "distributions",
        "gradients",
        "activity",
        "gap",
    ]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = "[...document.querySelectorAll('.chart')].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.id)"
    assert page.evaluate(wide) == []

    assert pixels(page, "distributions", 230)[0] > 100, "the strips have no colours"
    seen = {pixels(page, "distributions", 0, 180)}  # the overlay, above the strips
    strips = pixels(page, "distributions", 230)
    fits = pixels(page, "fits")
    slider = page.locator("#controls-distributions input[type=range]")
    slider.focus()
    slider.press("ArrowLeft")
    assert page.evaluate("normlab.views.distributions.signal('epoch')") == 1
    seen.add(pixels(page, "distributions", 0, 180))
    assert len(seen) == 2, "the slider does not move the overlay"
    assert pixels(page, "distributions", 230) != strips, "the slider does not move the cursor on the strips"
    assert page.evaluate("normlab.views.fits.signal('epoch')") == 1
    assert pixels(page, "fits") != fits, "the slider does not move the fitted curves along"

    choices = page.locator("#controls-distributions select")
    choices.nth(0).select_option(label="after the activation")
    seen.add(pixels(page, "distributions", 0, 180))
    assert len(seen) == 3, "the choice of the place changes nothing"
    choices.nth(1).select_option(label="running (eval mode)")
    seen.add(pixels(page, "distributions", 0, 180))
    assert len(seen) == 4, "the choice of the statistics changes nothing"
    assert wrong == []


@pytest.mark.browser
def test_a_hostile_name_and_a_diverged_run_do_no_harm_in_a_browser(
    made_up: MakeUp, browser: Any, tmp_path: Path
) -> None:
    results = made_up(
        "norm=none,batch",
        "optimizer.lr=0.1,0.5",
        "seeds=1",
        "epochs=3",
        "model.depth=2",
        states={"none, optimizer.lr=0.1": "diverged", "batch, optimizer.lr=0.5": "failed"},
        question=HOSTILE,
    )
    named = Results(
        results.folder, results.recipe, tuple(_renamed(run) if i == 0 else run for i, run in enumerate(results.runs))
    )
    page, wrong = opened(browser, write_report(named, tmp_path / "report.html"))
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("main b").count() == 0
    assert wrong == []
