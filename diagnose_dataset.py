"""`python diagnose_dataset.py PATH` checks a dataset; options as for `octa diagnose`."""

from __future__ import annotations

import sys

from octa_backend.cli import app

if __name__ == "__main__":
    app(["diagnose", *sys.argv[1:]])
