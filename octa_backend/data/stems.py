"""What the stem of a file's name tells beside its first number: which eye, which layer, further numbers, and words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

EYES: Mapping[str, str] = {
    **dict.fromkeys(("od", "right", "r"), "right"),
    **dict.fromkeys(("os", "left", "l"), "left"),
}
LAYERS: Mapping[str, str] = {
    **dict.fromkeys(("svp", "svc", "scp", "superficial"), "superficial"),
    **dict.fromkeys(("icp", "intermediate"), "intermediate"),
    **dict.fromkeys(("dvp", "dvc", "dcp", "deep"), "deep"),
    **dict.fromkeys(("avascular", "choriocapillaris"), "beneath"),
}
"""Words for the layers of an eye that OCTA shows as scans of their own."""

_TOKEN = re.compile(r"\d+|[^\W\d_]+")

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What a stem tells beside its first number.

    Attributes:
        numbers: all but the first, without zeros in front.
        eyes: "left", "right".
        layers: values of `LAYERS`.
        words: all others, sorted.
    """

    numbers: Words
    eyes: frozenset[str]
    layers: frozenset[str]
    words: Words


def told_by(stem: str) -> Told:
    """Read a stem: "IMG_007_OD_2" tells of the right eye, the number 2, and the word "img"."""
    tokens = _TOKEN.findall(stem.casefold())
    numbers = [token.lstrip("0") for token in tokens if token[0].isdigit()]
    letters = [token for token in tokens if not token[0].isdigit()]
    return Told(
        numbers=tuple(numbers[1:]),
        eyes=frozenset(EYES[token] for token in letters if token in EYES),
        layers=frozenset(LAYERS[token] for token in letters if token in LAYERS),
        words=tuple(sorted(token for token in letters if token not in EYES and token not in LAYERS)),
    )


def contradict(one: Told, other: Told) -> bool:
    """Whether both tell of an eye, of a layer or of a further number, and of another one."""
    both = ((one.numbers, other.numbers), (one.eyes, other.eyes), (one.layers, other.layers))
    return any(mine and theirs and mine != theirs for mine, theirs in both)


def own_words(one: Told, other: Told) -> tuple[Words, Words]:
    """The words that only one of them has, and those that only the other has."""
    mine, theirs = Counter(one.words), Counter(other.words)
    return tuple(sorted((mine - theirs).elements())), tuple(sorted((theirs - mine).elements()))
