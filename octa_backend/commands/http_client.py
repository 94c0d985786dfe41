"""How commands talk to servers: to one on this machine never by a proxy."""

from __future__ import annotations

from typing import Any

import httpx

from octa_backend.settings import LOOPBACK


def client(**options: Any) -> httpx.Client:
    """A client with httpx's options, which asks this machine directly.

    Windows' own setting of a proxy is taken for all addresses: httpx does not read the exclusions beside it.
    """
    return httpx.Client(mounts={f"all://{_bracketed(host)}": None for host in LOOPBACK}, **options)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
