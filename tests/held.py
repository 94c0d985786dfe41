"""Which files this process has open or mapped: what Windows would refuse to remove. Known on Linux alone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

KNOWN = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self")


def held(path: Path) -> set[str]:
    """The files at or below a path that are open or mapped now."""
    root = os.path.realpath(path)
    mapped = (line.split(None, 5)[5:] for line in Path("/proc/self/maps").read_text().splitlines())
    found = {name[0] for name in mapped if name}
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(descriptor.readlink()))
        except OSError:  # the one that listed them
            continue
    return {name for name in found if name == root or name.startswith(f"{root}/")}


def held_at_removal(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What is held of each folder at the moment when it is removed; filled as they are."""
    noted: list[set[str]] = []
    original = shutil.rmtree

    def noting(path: Path, *given: object, **options: object) -> None:
        noted.append(held(Path(path)))
        original(path, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "rmtree", noting)
    return noted
