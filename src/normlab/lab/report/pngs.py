"""The charts of the report as pictures."""

import textwrap
from pathlib import Path

import vl_convert

from normlab.lab.load import Results
from normlab.lab.report.figure import Figure
from normlab.lab.report.figures import figures
from normlab.lab.report.style import Spec

VEGA_LITE = "6.4"
SCALE = 2


def write_pngs(results: Results, folder: Path | str) -> list[Path]:
    """Draws every chart at twice its size on the page, with its title and caption, into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in figures(results):
        if figure.spec is not None:
            path = folder / f"{figure.name}.png"
            path.write_bytes(vl_convert.vegalite_to_png(still(figure, figure.spec), vl_version=VEGA_LITE, scale=SCALE))
            written.append(path)
    return written


def still(figure: Figure, drawn: Spec) -> Spec:
    """The Vega-Lite of a figure with title and caption in the picture."""
    wide = 60 if figure.name == "scores" else 190
    words = " ".join([figure.shown, *figure.caption]).strip()
    return drawn | {
        "title": {"text": figure.title, "subtitle": textwrap.wrap(words, wide), "fontSize": 18, "offset": 16}
    }
