"""What a client likes best of what there is: headers such as `Accept`, read by their weights (RFC 9110, 12.4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

JSON = "application/json"


def weighted(header: str) -> Iterator[tuple[str, float]]:
    """Each choice in small letters with its weight, 0 to 1; those whose weight cannot be read are left out."""
    for part in header.split(","):
        choice, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights = [parameter.removeprefix("q=") for parameter in parameters if parameter.startswith("q=")]
        try:
            weight = float(weights[0]) if weights else 1.0
        except ValueError:
            continue
        if choice and 0 <= weight <= 1:
            yield choice, weight


def in_place_of_json(accept: str, others: Sequence[str]) -> str | None:
    """The media type of `others` that a client would rather have than JSON, or None.

    For each type its most specific entry counts: `image/png` before `image/*` before `*/*`. Of equal weights a type
    that is named goes before one that a wildcard lets in.
    """
    weights = dict(weighted(accept))
    best = max((JSON, *others), key=lambda kind: _rank(kind, weights))
    return None if best == JSON else best


def _rank(kind: str, weights: Mapping[str, float]) -> tuple[float, bool]:
    entries = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    entry = next((entry for entry in entries if entry in weights), None)
    weight = 0.0 if entry is None else weights[entry]
    return weight, weight > 0 and entry == kind
