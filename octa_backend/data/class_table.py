"""The table `classes.csv` of an upload: what each value of its masks is called, and in which colour it is drawn."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import dist

from octa_backend.data.pairing import Fault

CLASS_TABLE = "classes.csv"
_COLUMNS = ("value", "name", "colour")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LONGEST_NAME = 100

SAME_COLOUR = 30.0
"""Two colours nearer than this (of 441 from black to white) are one: JPEG moves colours by a few levels."""


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class: its name, and its colour as "#rrggbb" or nothing."""

    name: str
    colour: str = ""


Labels = Mapping[int, ClassLabel]
"""By the value that a class has in the masks."""


def read_class_table(data: bytes, file: str) -> tuple[dict[int, ClassLabel], list[Fault]]:
    """Read a `classes.csv` with the columns value, name and colour; the last one may be missing or empty.

    Args:
        data: UTF-8, columns separated by commas.
        file: its path, for messages.

    Returns:
        The labels by value, and faults; nothing of a table with faults is used.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        return {}, [Fault("classes_not_understood", file, f"not a table: {error}")]
    labels: dict[int, ClassLabel] = {}
    faults = []
    for number, row in enumerate(rows, start=2):
        value, name, colour = ((row.get(column) or "").strip() for column in _COLUMNS)
        colour = colour.lower()
        fits = value.isdecimal() and name and len(name) <= _LONGEST_NAME and (not colour or _COLOUR.fullmatch(colour))
        if not fits or int(value) in labels:
            faults.append(Fault("classes_not_understood", f"{file}, line {number}", f"{value!r}, {name!r}, {colour!r}"))
        else:
            labels[int(value)] = ClassLabel(name, colour)
    if not rows:
        faults.append(Fault("classes_not_understood", file, "no rows"))
    return ({} if faults else labels), faults


def class_table(labels: Labels) -> bytes:
    """The table as `classes.csv`."""
    text = io.StringIO(newline="")
    rows = [(value, label.name, label.colour) for value, label in sorted(labels.items())]
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    return text.getvalue().encode()


def labels_of_colours(colours: Mapping[str, int], known: Labels) -> dict[int, ClassLabel]:
    """Labels of masks whose colours became values.

    What the upload's table says of a colour, or of the grey level that it is, goes with it, whatever its value there.
    Else the table's row of the new value counts, and a class of which nothing is known is called by its colour.

    Args:
        colours: "#rrggbb" -> value.
        known: the upload's own table.
    """
    rows = {value: row for colour, value in colours.items() if (row := _row_of(colour, known)) is not None}
    left = {row: label for row, label in known.items() if row not in rows.values()}
    named = {value: ClassLabel(colour.lower(), colour.lower()) for colour, value in colours.items()}
    return {**named, **left, **{value: known[row] for value, row in rows.items()}}


def _row_of(colour: str, known: Labels) -> int | None:
    """The row of a table that has this colour, or stands for this grey level; None where there is none."""
    parts = rgb_of(colour)
    near = {row: dist(parts, rgb_of(label.colour)) for row, label in known.items() if label.colour}
    nearest = min(near, key=near.__getitem__, default=None)
    if nearest is not None and near[nearest] < SAME_COLOUR:
        return nearest
    return parts[0] if len(set(parts)) == 1 and parts[0] in known else None


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of "#rrggbb"."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def in_order(labels: Labels, mask_values: Sequence[int]) -> tuple[ClassLabel, ...]:
    """The labels of class 0, 1, …; nothing where no class has one."""
    if not labels.keys() & set(mask_values):
        return ()
    return tuple(labels.get(value, ClassLabel(f"class {index}")) for index, value in enumerate(mask_values))
