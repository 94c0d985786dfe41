"""Sentences in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Language = Literal["en", "zh"]


class Text(NamedTuple):
    """One sentence in both languages."""

    en: str
    zh: str


def render(text: Text, evidence: Mapping[str, Any], language: Language) -> str:
    """Fill the placeholders of one sentence."""
    return (text.zh if language == "zh" else text.en).format_map(evidence)
