"""In which language a caller wants to read."""

from __future__ import annotations

from fastapi import Request

from octa_backend.controller.preferences import weighted
from octa_backend.diagnosis.text import Language


def language_of(request: Request) -> Language:
    """The first of en and zh in `Accept-Language`, by its weights; else the server's setting."""
    wanted = [(tag, weight) for tag, weight in weighted(request.headers.get("accept-language", "")) if weight > 0]
    for tag, _ in sorted(wanted, key=lambda choice: -choice[1]):
        if tag[:2] in ("en", "zh"):
            return "zh" if tag[:2] == "zh" else "en"
    default: Language = request.app.state.context.settings.language
    return default
