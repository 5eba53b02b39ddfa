"""The three files of a folder of claims."""

import json
from pathlib import Path

from normlab.lab.claims.data import to_json
from normlab.lab.claims.inquiry import Inquiry
from normlab.lab.claims.markdown import markdown
from normlab.lab.claims.page import page
from normlab.lab.record import write_whole

JSON, MARKDOWN, PAGE = "claims.json", "claims.md", "claims.html"


def write_claims(inquiry: Inquiry) -> tuple[Path, ...]:
    """Writes `claims.json`, `claims.md` and `claims.html` into the folder, each of them from the records alone.

    Raises:
        OSError: the disk refuses.
    """
    texts = {
        JSON: json.dumps(to_json(inquiry), indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        MARKDOWN: markdown(inquiry),
        PAGE: page(inquiry),
    }
    for name, text in texts.items():
        write_whole(inquiry.folder / name, text)
    return tuple(inquiry.folder / name for name in texts)
