"""What the colours of coloured masks mean: which of them are classes, and which only edges between two classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import dist

from octa_backend.data.class_table import rgb_of
from octa_backend.data.mask_values import Colours
from octa_backend.data.masks import MAX_CLASSES
from octa_backend.data.statistics import MaskStatistics
from octa_backend.diagnosis.mask_greys import greys_shown

Colour = tuple[int, int, int]

FEW_COLOURS = MAX_CLASSES
"""Masks that together have at most so many colours were drawn with a palette; more come from smoothing or JPEG."""

MANY_COLOURS = 1000
"""So many colours are looked at, the commonest ones."""

SAME_DISTANCE = 60.0
"""Among many colours, those nearer than this (of 441 from black to white) to a commoner one belong to it."""

LEAST_SHARE = 0.002
"""Among many colours, one that covers less of all coloured masks is no class."""

EDGE_DISTANCE, JPEG_EDGE_DISTANCE = 25.0, 90.0
"""A colour so near the line from one class's colour to another's may be the smoothed edge between them; among many
colours it may be farther off, because JPEG keeps brightness and colour at different resolutions."""

CONCENTRATED = 0.5
"""Among many colours, a single one between two others is a class if so much of what belongs to it has that very colour;
the shades of a smoothed edge are spread evenly."""

EVENLY_SPACED_SHADES, EDGE_SHARE = 3, 0.3
"""Among few colours, so many shades between two others are their edge, and two are, if each has less than this share of
the rarer one's area. A single one is a class of mixed colour, such as purple beside red and blue."""

EXPLAINED = 0.6
"""The classes' very colours must cover so much of coloured masks; else the masks are photographs."""

BLACK_BELOW = 30
"""A colour whose red, green and blue are all lower is black: background."""

EXPLAINED = 0.6
"""The classes' colours must be near so much of the masks' area; else the masks are photographs."""

_PLAIN_FOREGROUND = 255


def map_together(masks: Sequence[MaskStatistics]) -> dict[str, int]:
    """Propose a class number for each main colour of a dataset's masks (see `colour_map`).

    Masks that happen to have no colour, because the red lesion is missing beside the white vessels, show greys. Beside
    several classes these are colours like others; beside a single one they are foreground as it is.

    Args:
        masks: all of them, coloured or not.
    """
    coloured = [mask.colours for mask in masks if mask.colours]
    found = colour_map(coloured)
    if len(found) <= 2:
        return found
    return colour_map([*coloured, *map(greys_shown, masks)])


def changes_greys(mask: MaskStatistics, colours: Mapping[str, int]) -> bool:
    """Whether a mask without colours shows colours of the map, and gets other values by it."""
    greys = [grey for grey, _ in greys_shown(mask)]
    nearest = [min(map(rgb_of, colours), key=lambda colour: dist(colour, grey)) for grey in greys]
    if not greys or any(dist(greys[end], nearest[end]) >= SAME_DISTANCE for end in (0, -1)):
        return False
    return any(colours[_named(colour)] != grey[0] for colour, grey in zip(nearest, greys, strict=True))


def colour_map(masks: Iterable[Colours]) -> dict[str, int]:
    """Propose a class number for each main colour of the coloured masks of a dataset, taken together.

    Black is 0, or the commonest colour where there is no black; the others are 1, 2, … by their area. Where there is
    one other, it is 255.

    Args:
        masks: of each, its colours and their areas.

    Returns:
        "#rrggbb" -> value, by value; empty where no few colours make up the masks.
    """
    areas: Counter[Colour] = Counter()
    for colours in masks:
        areas.update(dict(colours))
    main = _main_colours(areas)
    if len(main) < 2:
        return {}
    background = next((colour for colour in main if max(colour) < BLACK_BELOW), main[0])
    others = [colour for colour in main if colour != background]
    values = [_PLAIN_FOREGROUND] if len(others) == 1 else range(1, len(others) + 1)
    return {_named(background): 0} | dict(zip(map(_named, others), values, strict=True))


def _main_colours(areas: Counter[Colour]) -> list[Colour]:
    """The colours of classes, the commonest first."""
    if len(areas) > FEW_COLOURS:
        return _main_of_many(areas)
    main = [colour for colour, _ in areas.most_common()]
    edges: set[Colour] = set()
    for shades, ends in _shades(main, EDGE_DISTANCE):
        rarer = min(areas[end] for end in ends)
        is_rare = len(shades) > 1 and all(areas[shade] < EDGE_SHARE * rarer for shade in shades)
        if is_rare or len(shades) >= EVENLY_SPACED_SHADES:
            edges |= shades
    return [colour for colour in main if colour not in edges]


def _main_of_many(areas: Counter[Colour]) -> list[Colour]:
    """Colours that others belong to; without those that are only shades between two of them."""
    gathered: Counter[Colour] = Counter()
    for colour, area in areas.most_common(MANY_COLOURS):
        nearest = min(gathered, key=lambda other: dist(colour, other), default=colour)
        gathered[nearest if dist(colour, nearest) < SAME_DISTANCE else colour] += area
    total = sum(areas.values())
    main = [colour for colour, area in gathered.most_common(FEW_COLOURS) if area >= LEAST_SHARE * total]
    spread = {colour for colour in main if areas[colour] < CONCENTRATED * gathered[colour]}
    edges = {shade for shades, _ in _shades(main, JPEG_EDGE_DISTANCE) for shade in shades & spread}
    edges |= {shade for shades, _ in _shades(main, EDGE_DISTANCE) if len(shades) > 1 for shade in shades}
    main = [colour for colour in main if colour not in edges]
    return main if sum(areas[colour] for colour in main) >= EXPLAINED * total else []


def _shades(main: Sequence[Colour], distance: float) -> Iterator[tuple[set[Colour], tuple[Colour, Colour]]]:
    """The colours between each two others, at most so far from the line, and those two."""
    for first, second in combinations(main, 2):
        shades = {
            colour for colour in main if colour not in (first, second) and _between(colour, first, second, distance)
        }
        if shades:
            yield shades, (first, second)


def _between(colour: Colour, first: Colour, second: Colour, distance: float) -> bool:
    """Whether a colour lies near the straight line from one to another, and between them."""
    along = [b - a for a, b in zip(first, second, strict=True)]
    at = sum((c - a) * d for c, a, d in zip(colour, first, along, strict=True)) / sum(d * d for d in along)
    nearest = [a + at * d for a, d in zip(first, along, strict=True)]
    return 0 < at < 1 and dist(colour, nearest) < distance


def _named(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
