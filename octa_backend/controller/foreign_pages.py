"""Web pages of other sites: a browser sends what they ask for to a server on its own machine, which needs no key there.

Two ways are closed: a page that posts across origins, and one whose own name was made to point here (DNS rebinding), so
that the browser takes this server for the page's.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

from octa_backend.errors import ForeignPage
from octa_backend.settings import Settings

READING = {"GET", "HEAD", "OPTIONS"}
"""What a page of another origin may ask for; the browser does not let it read the answer."""

OF_THIS_MACHINE = ".localhost"
"""Names that end so are always the machine's own (RFC 6761, 6.3)."""


def refuse_foreign_pages(request: Request, settings: Settings) -> None:
    """Let requests pass that cannot come from another site's page, or only read.

    Raises:
        ForeignPage: the server is called by a name on the internet that `allowed_hosts` does not have; or a page whose
            origin is neither this server's nor in `cors_origins` wants to change something.
    """
    host = request.headers.get("host", "").lower()
    if not _is_known(host, settings.allowed_hosts):
        raise ForeignPage(
            f"this server needs no key, so it answers to addresses and to names without a dot, not to {host!r}; add "
            "that to OCTA_ALLOWED_HOSTS, for example '[\"octa.lab.example\"]', or set OCTA_API_KEYS"
        )
    origin = request.headers.get("origin")
    if origin is None or request.method in READING or {"*", origin} & set(settings.cors_origins):
        return
    if origin.lower().partition("://")[2] != host:
        raise ForeignPage(f"pages of {origin!r} may not do this; add that to OCTA_CORS_ORIGINS, or set OCTA_API_KEYS")


def _is_known(host: str, allowed: list[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if "." not in name or name.endswith(OF_THIS_MACHINE) or {"*", name} & {one.lower() for one in allowed}:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
