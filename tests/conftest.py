"""Shared by every test."""

import os

# Charts and runs must not depend on how wide the terminal of the tester is.
os.environ.setdefault("COLUMNS", "100")
