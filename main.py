"""`python main.py` serves; options as for `octa serve`."""

from __future__ import annotations

import sys

from octa_backend.cli import app

if __name__ == "__main__":
    app(["serve", *sys.argv[1:]])
