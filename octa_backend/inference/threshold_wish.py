"""What a user says of the threshold; apart from `thresholds`, which imports scikit-image."""

from __future__ import annotations

from typing import Literal

Wish = float | Literal["tuned", "auto"]
