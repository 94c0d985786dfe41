"""In which language a caller wants to read."""

from __future__ import annotations

from fastapi import Request

from octa_backend.diagnosis.text import Language


def language_of(request: Request) -> Language:
    """The first of en and zh in `Accept-Language`, by its weights; else the server's setting."""
    wanted: list[tuple[float, str]] = []
    for part in request.headers.get("accept-language", "").split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            wanted.append((float(weight or 1), tag.lower()[:2]))
        except ValueError:
            continue
    for _, tag in sorted(wanted, key=lambda choice: -choice[0]):
        if tag in ("en", "zh"):
            return "zh" if tag == "zh" else "en"
    default: Language = request.app.state.context.settings.language
    return default
