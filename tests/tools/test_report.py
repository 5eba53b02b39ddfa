"""A report fits the terminal, and its title and names can be read there."""

import pytest

from normlab.tools.report import Report, Skipped, Touched

LONG = "encoder.layers.0.attention.normalization"
REPORT = Report(
    "folded",
    (Touched(LONG, "BatchNorm2d(8) over the last dimension", f"into {LONG[:-13]}convolution before it", 1e-7),),
    (
        Skipped(
            "head", "LayerNorm(8)", "its statistics are taken from the input, so that it is no fixed scale and shift"
        ),
    ),
    error=2.4e-7,
)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_it_is_no_wider_than_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    title, *lines = str(REPORT).splitlines()
    assert title == "1 of 2 norm layers folded, largest relative error 2.4e-07"
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for part in ("normalization", "convolution", "1.0e-07"):  # none broken inside
        assert any(word.endswith(part) for word in words), part


def test_a_title_longer_than_its_table_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    report = Report("folded", (Touched("1", "BatchNorm2d(8)", "into 0 before it", 1e-7),), error=2.4e-7)
    assert [line.split() for line in str(report).splitlines() if line.strip(" ─")] == [
        ["1", "of", "1", "norm", "layer", "folded,", "largest", "relative", "error", "2.4e-07"],
        ["name", "layer", "what", "was", "done", "error"],
        ["1", "BatchNorm2d(8)", "into", "0", "before", "it", "1.0e-07"],
    ]


def test_nothing_to_show_is_the_title(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    assert str(Report("folded", ())) == "0 of 0 norm layers folded"
