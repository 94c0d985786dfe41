"""What augmentation may do to a scan, how often and how far; the presets. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from octa_backend.faults import hint

PresetName = Literal["none", "light", "standard", "strong"]
Probability = Annotated[float, Field(ge=0, le=1)]

FOLDING_LIMIT = 0.4
"""An elastic shift up to this share of the spacing maps no two pixels to one (Y. Choi and S. Lee, Injectivity
conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 62, 2000: 1/2.05 in 2-D, 1/2.48 in 3-D)."""


class Augmentation(BaseModel):
    """All probabilities and ranges. A probability is drawn for each scan anew; at 0 its ranges have no meaning.

    Shares of the full range are shares of 0..1, in which augmentation computes. Its defaults are the preset `none`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    flip_x_probability: Probability = 0.0
    """Mirrored left to right, along the last axis."""

    flip_y_probability: Probability = 0.0
    """Mirrored top to bottom, along the last axis but one; turns by 180 degrees do that together with `flip_x`."""

    flip_z_probability: Probability = 0.0
    """Mirrored along the slices; volumes only."""

    turn_probability: Probability = 0.0
    """Turned by 0, 90, 180 or 270 degrees at random (0 or 180 where the sides differ), volumes within their slices."""

    rotation_probability: Probability = 0.0
    """Rotated by any angle, volumes within their slices."""

    rotation_degrees: float = Field(default=15.0, gt=0, le=180)
    """Largest angle to either side, degrees, above 0, at most 180."""

    scale_probability: Probability = 0.0
    """Magnified or made smaller, alike along all axes."""

    scale_min: float = Field(default=0.9, ge=0.25, le=4)
    """Smallest factor, 0.25 to 4."""

    scale_max: float = Field(default=1.1, ge=0.25, le=4)
    """Largest factor, 0.25 to 4."""

    translation_probability: Probability = 0.0
    """Moved along every axis."""

    translation_fraction: float = Field(default=0.1, gt=0, le=0.5)
    """Largest way, share of the side, above 0, at most 0.5."""

    elastic_probability: Probability = 0.0
    """Deformed by a smooth random field of shifts."""

    elastic_spacing: float = Field(default=48.0, ge=4, le=1024)
    """Distance between the field's control points, pixels, 4 to 1024."""

    elastic_shift: float = Field(default=8.0, gt=0, le=400)
    """Largest shift of a control point along an axis, pixels, above 0, at most 0.4 of the spacing."""

    contrast_probability: Probability = 0.0
    """Spread around its own mean."""

    contrast_min: float = Field(default=0.8, ge=0, le=4)
    """Smallest factor, 0 to 4."""

    contrast_max: float = Field(default=1.25, ge=0, le=4)
    """Largest factor, 0 to 4."""

    brightness_probability: Probability = 0.0
    """Made brighter or darker as a whole."""

    brightness_shift: float = Field(default=0.1, gt=0, le=1)
    """Largest value added or taken away, share of the full range, above 0, at most 1."""

    gamma_probability: Probability = 0.0
    """Every value v becomes v to the power of gamma."""

    gamma_min: float = Field(default=0.7, ge=0.1, le=10)
    """Smallest gamma, 0.1 to 10; below 1 dark parts become brighter."""

    gamma_max: float = Field(default=1.5, ge=0.1, le=10)
    """Largest gamma, 0.1 to 10."""

    noise_probability: Probability = 0.0
    """Gaussian noise added to every pixel and channel."""

    noise_max: float = Field(default=0.06, gt=0, le=1)
    """Largest standard deviation of the noise, share of the full range, above 0, at most 1."""

    blur_probability: Probability = 0.0
    """Blurred by a Gaussian."""

    blur_min: float = Field(default=0.5, ge=0.1, le=20)
    """Smallest standard deviation of the Gaussian, pixels, 0.1 to 20."""

    blur_max: float = Field(default=1.0, ge=0.1, le=20)
    """Largest standard deviation of the Gaussian, pixels, 0.1 to 20."""

    motion_probability: Probability = 0.0
    """The eye moved: bright lines along the fast scan (rows; whole slices in volumes), shifted parts between them."""

    motion_lines: int = Field(default=4, ge=1, le=64)
    """Most lines in a scan, 1 to 64."""

    motion_shift: float = Field(default=3.0, ge=0, le=64)
    """Largest shift of the part behind a line along the rows, image and mask alike, pixels, 0 to 64."""

    motion_brightness: float = Field(default=0.5, ge=0, le=1)
    """How near to white a line may come, 0 to 1."""

    shadow_probability: Probability = 0.0
    """Dark clouds with soft irregular edges, as floaters and lens opacities cast them."""

    shadow_count: int = Field(default=2, ge=1, le=16)
    """Most shadows in a scan, 1 to 16."""

    shadow_depth: float = Field(default=0.7, gt=0, le=1)
    """Largest share of the signal lost in the middle of a shadow, above 0, at most 1."""

    shadow_radius: float = Field(default=0.25, gt=0, le=1)
    """Largest radius of a shadow, share of the side, above 0, at most 1."""

    saturation_probability: Probability = 0.0
    """Exposed too much: multiplied by a gain and cut off at white."""

    saturation_gain: float = Field(default=1.8, gt=1, le=8)
    """Largest gain, above 1, at most 8."""

    @model_validator(mode="after")
    def _ranges_have_an_inside(self) -> Self:
        for low in (name for name in type(self).model_fields if name.endswith("_min")):
            high = low.removesuffix("_min") + "_max"
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}={getattr(self, low):g} is above {high}={getattr(self, high):g}")
        if self.elastic_shift > FOLDING_LIMIT * self.elastic_spacing:
            raise ValueError(
                f"elastic_shift={self.elastic_shift:g} would fold the scan: with elastic_spacing="
                f"{self.elastic_spacing:g} it is at most {FOLDING_LIMIT * self.elastic_spacing:g}"
            )
        return self


NONE = Augmentation()

# Flips and right-angle turns move whole pixels, so every scan gets them.
LIGHT = NONE.model_copy(
    update={
        "flip_x_probability": 0.5,
        "flip_z_probability": 0.5,
        "turn_probability": 1.0,
        "contrast_probability": 0.15,
        "brightness_probability": 0.15,
    }
)

# Rotation and scale blur vessels of one or two pixels, so most scans are left sharp.
STANDARD = LIGHT.model_copy(update={"rotation_probability": 0.2, "scale_probability": 0.2})

STRONG = STANDARD.model_copy(
    update={
        "rotation_probability": 0.3,
        "rotation_degrees": 45.0,
        "scale_min": 0.7,
        "scale_max": 1.4,
        "translation_probability": 0.2,
        "elastic_probability": 0.2,
        "contrast_probability": 0.3,
        "contrast_min": 0.65,
        "contrast_max": 1.5,
        "brightness_probability": 0.3,
        "brightness_shift": 0.2,
        "gamma_probability": 0.3,
        "noise_probability": 0.1,
        "blur_probability": 0.1,
        "motion_probability": 0.2,
        "shadow_probability": 0.15,
        "saturation_probability": 0.1,
    }
)

PRESETS: Mapping[PresetName, Augmentation] = {"none": NONE, "light": LIGHT, "standard": STANDARD, "strong": STRONG}


def resolve(preset: PresetName, overrides: Mapping[str, float] | None) -> Augmentation:
    """A preset with some of its numbers replaced.

    Raises:
        ValueError: a name is unknown, a number out of range, or a number has no effect; the message says what to do.
    """
    overrides = overrides or {}
    for name in overrides:
        if name not in Augmentation.model_fields:
            raise ValueError(_unknown(name))
    try:
        found = Augmentation.model_validate({**PRESETS[preset].model_dump(), **overrides})
    except ValidationError as error:
        raise ValueError("; ".join(_explain(fault) for fault in error.errors())) from error
    for name in overrides:
        probability = f"{name.partition('_')[0]}_probability"
        if not name.endswith("_probability") and getattr(found, probability) == 0:
            raise ValueError(f"{name} has no effect: {probability} is 0 with augmentation={preset}; give it too")
    return found


def _unknown(name: str) -> str:
    return f"augmentation has no number {name!r}; {hint(name, Augmentation.model_fields)}"


def _explain(fault: Any) -> str:
    message: str = fault["msg"].removeprefix("Value error, ")
    return f"{fault['loc'][0]}: {message}" if fault["loc"] else message


def _mapping_in_text(value: Any) -> Any:
    """Forms and the command line know text only: JSON, or `gamma_probability=0.3,gamma_max=2`."""
    if not isinstance(value, str):
        return value
    parsed = _parse(value.strip())
    for name, number in parsed.items() if isinstance(parsed, dict) else ():
        if isinstance(number, str) and not _is_number(number):
            raise ValueError(f"{name} is {number!r}, not a number")
    return parsed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(text: str) -> Any:
    if text.startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"this is not JSON: {error}") from error
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"{wrong[0].strip()!r} has no value; write name=number, with commas between them")
    return {name.strip(): number.strip() for name, _, number in pairs}


_SCHEMA = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                # Without the defaults: what is left out has the preset's value.
                name: {key: value for key, value in schema.items() if key != "default"}
                for name, schema in Augmentation.model_json_schema()["properties"].items()
            },
            "additionalProperties": False,
        },
        {"type": "null"},
    ]
}

Overrides = Annotated[dict[str, float] | None, BeforeValidator(_mapping_in_text), WithJsonSchema(_SCHEMA)]
"""Numbers of `Augmentation` by name, in place of the preset's."""
