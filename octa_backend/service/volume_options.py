"""Which options of a prediction are for pictures alone; torch is not imported, so that a job is refused at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octa_backend.errors import InvalidOptions
from octa_backend.service.predict_service import PredictOptions

_CLEANING = ("min_object_px", "min_object_um2", "max_hole_px", "max_hole_um2")


def refuse_options_of_pictures(options: PredictOptions) -> None:
    """Refuse what cannot be done with a volume.

    Raises:
        InvalidOptions: naming it.
    """
    cleaning, measuring = options.cleaning, options.measuring
    asked: Mapping[str, Any] = {
        **{name: cleaning and getattr(cleaning, name) for name in _CLEANING},
        **{name: measuring and getattr(measuring, name) for name in ("pixel_size_um", "field_of_view_mm")},
        "vessel_class": measuring is not None and measuring.vessel_class != 1,
        "measure_segments": options.with_segments,
        "measure_picture": options.with_picture,
    }
    if named := [name for name, value in asked.items() if value]:
        raise InvalidOptions(f"for a volume there is no {', '.join(named)}; leave out what is for pictures alone")
