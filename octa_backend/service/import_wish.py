"""What is said with a model that is imported. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octa_backend.data.normalise import Normalisation
from octa_backend.errors import InvalidRequest
from octa_backend.faults import faults_in
from octa_backend.inference.model_card import MAX_CHANNELS, MAX_CLASSES, MAX_LICENCE, MAX_NAME, MAX_NOTES

WEIGHTS_ENDINGS = (".safetensors", ".pt", ".pth")
OF_BARE_WEIGHTS = ("network", "channels", "classes", "normalisation", "ignore_index")


@dataclass(frozen=True, slots=True)
class NetworkForm:
    """What must be known of bare weights."""

    network: str
    channels: int
    classes: int
    normalisation: Normalisation
    ignore_index: int | None


class ImportWish(BaseModel):
    """The form's fields beside its file. Those of bare weights are left out for a package, whose card has them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    network: str | None = None
    """Of bare weights: the network that they are of."""

    channels: int | None = Field(default=None, ge=1, le=MAX_CHANNELS)
    """Of bare weights: channels of the scans, 1 for grey."""

    classes: int | None = Field(default=None, ge=2, le=MAX_CLASSES)
    """Of bare weights: classes of the masks with background; 2 where nothing is said."""

    normalisation: Normalisation | None = None
    """Of bare weights: what is done to a scan's intensities; `unit` where nothing is said."""

    ignore_index: int | None = Field(default=None, ge=1, le=MAX_CLASSES)
    """Of bare weights: class of their dataset that was ignored."""

    name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    """What the model is called."""

    notes: str | None = Field(default=None, max_length=MAX_NOTES)
    """What else is to be said of it."""

    licence: str | None = Field(default=None, max_length=MAX_LICENCE)
    """Under which it may be used."""

    def is_package(self, file: str) -> bool:
        """Whether a file of this name is a package; otherwise it holds bare weights.

        Raises:
            InvalidRequest: it is neither, or fields came that a package's card has.
        """
        if file.lower().endswith(WEIGHTS_ENDINGS):
            return False
        if not file.lower().endswith(".zip"):
            raise InvalidRequest(
                f"{file!r} is neither a package (.zip, from GET /models/MODEL/download) nor weights "
                f"({', '.join(WEIGHTS_ENDINGS)})"
            )
        if idle := [field for field in OF_BARE_WEIGHTS if getattr(self, field) is not None]:
            raise InvalidRequest(f"the package's card says what the model is; leave out {', '.join(idle)}")
        return True

    def form(self) -> NetworkForm:
        """What is said of bare weights.

        Raises:
            InvalidRequest: network or channels are missing.
        """
        if self.network is None or self.channels is None:
            raise InvalidRequest(
                "weights alone do not say what they are of; send network and channels with them, and where they "
                "differ from 2 and unit, classes and normalisation"
            )
        return NetworkForm(
            self.network, self.channels, self.classes or 2, self.normalisation or "unit", self.ignore_index
        )


def read_wish(fields: Mapping[str, Any]) -> ImportWish:
    """Make a wish from a form's fields.

    Raises:
        InvalidRequest: a name is unknown or a value out of range; the message names each of them.
    """
    try:
        return ImportWish.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(faults_in(error, ImportWish)) from error
