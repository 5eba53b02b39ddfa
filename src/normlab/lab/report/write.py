"""The report as a file."""

import os
from pathlib import Path

from normlab.lab.load import Results
from normlab.lab.report.page import page


def write_report(results: Results, path: Path | str) -> Path:
    """Writes the report as one HTML file that needs no network; a reader sees the old file or the new one.

    Args:
        results: a comparison read back, finished or not.
        path: the file; its folder is made if missing.
    """
    path = Path(path)
    text = page(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
