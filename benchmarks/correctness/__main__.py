"""Writes docs/statistics.md: python -m benchmarks.correctness"""

import sys
from pathlib import Path

import torch

from benchmarks.correctness.table import page

if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(__file__).parents[2] / "docs" / "statistics.md"
    out.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {out}\n")
