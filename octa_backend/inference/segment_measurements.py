"""The numbers of each vessel segment whose tortuosity was measured."""

from __future__ import annotations

from dataclasses import dataclass

from octa_backend.inference.measurement import Measurement, NotMeasurable
from octa_backend.inference.measurements import Measured
from octa_backend.inference.scale import Quantity


@dataclass(frozen=True, slots=True)
class SegmentMeasurements:
    """One segment.

    Attributes:
        start: row and column of its one end, in pixels.
        end: of its other end.
        length: along the segment.
        arc_chord: length over the straight distance of the ends.
        curvature: mean absolute curvature.
        density: Grisan's tortuosity density.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    length: Measurement
    arc_chord: Measurement
    curvature: Measurement
    density: Measurement


def segment_measurements(measured: Measured) -> list[SegmentMeasurements]:
    """Every segment that is long enough and has two ends; none where there is no such segment."""
    winding = measured.winding
    if isinstance(winding, NotMeasurable):
        return []

    def told(value: float, quantity: Quantity) -> Measurement:
        return Measurement(measured.scale.value(value, quantity), measured.scale.unit(quantity))

    numbers = (winding.segments.lengths, winding.arc_chord, winding.curvature, winding.density)
    return [
        SegmentMeasurements(
            start=(float(start[0]), float(start[1])),
            end=(float(end[0]), float(end[1])),
            length=told(length, Quantity.LENGTH),
            arc_chord=told(arc_chord, Quantity.RATIO),
            curvature=told(curvature, Quantity.PER_LENGTH),
            density=told(density, Quantity.PER_LENGTH),
        )
        for start, end, length, arc_chord, curvature, density in zip(*winding.segments.ends, *numbers, strict=True)
    ]
