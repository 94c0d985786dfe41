"""Which mirrored views of a scan a network may learn from: none in which the mask would lie on the other side.

Where all masks of a dataset lie a little to the same side of what they show, as the software may bring it about in
which they were drawn, a network can learn that. Mirrored and turned scans would teach it the other sides, too, and it
would draw between them.
"""

from __future__ import annotations

from typing import Any

from octa_backend.training.config import TrainConfig
from octa_backend.training.mask_offset import MaskOffset
from octa_backend.training.plan_draft import Draft


def leave_out_mirroring(draft: Draft, offset: MaskOffset | None) -> None:
    """Augmentation does not bring masks to the other side of what they show."""
    overrides = without_mirroring(draft.config, offset)
    if overrides is not None and offset is not None:
        draft.take({"augmentation_overrides": draft.note("augmentation_overrides", overrides, in_words(offset))})


def without_mirroring(config: TrainConfig, offset: MaskOffset | None) -> dict[str, Any] | None:
    """The overrides of augmentation that keep masks on their side; None where there is nothing to change.

    A number that the user set stays.
    """
    if offset is None or not offset.is_beside:
        return None
    given, options = config.augmentation_overrides or {}, config.augmentation_options
    kept = {"turn_probability": 0.0}
    if offset.beside_columns:
        kept["flip_x_probability"] = 0.0
    if offset.beside_rows:
        kept["flip_y_probability"] = 0.0
    elif options.turn_probability > 0:
        # Turns by 180 degrees did it together with flips from left to right.
        kept["flip_y_probability"] = 0.5
    changed = {name: value for name, value in kept.items() if name not in given and getattr(options, name) != value}
    return {**given, **changed} if changed else None


def in_words(offset: MaskOffset) -> str:
    """Why mirrored scans are left out."""
    sides = []
    if offset.beside_columns:
        where = "to the right" if offset.columns > 0 else "to the left"
        sides.append(f"{abs(offset.columns):.2f} pixels {where} (± {offset.columns_spread:.2f} between scans)")
    if offset.beside_rows:
        where = "below" if offset.rows > 0 else "above"
        sides.append(f"{abs(offset.rows):.2f} pixels {where} (± {offset.rows_spread:.2f})")
    return (
        f"masks lie beside what they show, {' and '.join(sides)}, {offset.scans} scans measured: turned, or mirrored "
        "along that axis, they would lie on the other side, and the network would draw every edge between the two"
    )
