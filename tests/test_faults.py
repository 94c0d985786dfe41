"""Wrong fields are told by name, with the name that was probably meant."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from octa_backend.faults import MOST_TOLD, faults_in, hint


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int = Field(default=1, ge=1)


class Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")
    threshold: float = 0.5
    inner: Inner = Inner()
    level: Literal["auto"] | float = "auto"

    @model_validator(mode="after")
    def fits(self):
        if self.threshold > 1:
            raise ValueError("a threshold is at most 1")
        return self


def told(given, **options):
    with pytest.raises(ValidationError) as error:
        Wish.model_validate(given)
    return faults_in(error.value, Wish, **options)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"treshold": 0.4}, "treshold: there is no such field; did you mean threshold?"),
        ({"zoom": 2}, "zoom: there is no such field; there are threshold, inner, level"),
        ({"inner": {"side": 0}}, "inner.side: Input should be greater than or equal to 1"),
        ({"inner": {"sides": 1}}, "inner.sides: Extra inputs are not permitted"),
        ({"threshold": 2}, "Value error, a threshold is at most 1"),
    ],
)
def test_a_fault_is_told_with_its_field(given, expected):
    assert told(given) == expected


def test_a_field_of_several_types_is_told_by_its_name_alone():
    assert told({"level": "high"}).startswith("level.literal['auto']: Input should be 'auto'; level.float: ")
    assert told({"level": "high"}, is_flat=True).startswith("level: Input should be 'auto'; level: Input should be")


def test_faults_of_a_text_that_is_something_else_are_not_told_without_end():
    assert told({f"zoom{n}": n for n in range(50)}).count(";") == 2 * MOST_TOLD - 1


def test_hint_names_what_is_near_or_all():
    assert hint("lr_", ["lr", "epochs"]) == "did you mean lr?"
    assert hint("zoom", ["lr", "epochs"]) == "there are lr, epochs"
