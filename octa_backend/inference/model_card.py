"""What `card.json` of a model says, as a schema. Cards of earlier versions lack what has a default here."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, NoReturn, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from octa_backend.data.normalise import Normalisation
from octa_backend.errors import InvalidModel
from octa_backend.faults import faults_in

CARD_FORMAT: Final = 1
MAX_CARD_BYTES = 16 * 2**20
NOTICE = "research use only"

MAX_NAME, MAX_NOTES, MAX_LICENCE = 200, 10_000, 200
"""Letters of what people may say of a model."""

MAX_CHANNELS, MAX_CLASSES = 64, 255
"""Of scans, and of masks with background: class numbers are written as 8 bits."""

Length = Annotated[float, Field(gt=0)]
Line = Annotated[str, Field(max_length=1000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]
Word = Annotated[str, Field(pattern=r"^[\w.-]{1,200}$")]


def _three_or_none(sides: list[float]) -> list[float]:
    if len(sides) not in (0, 3):
        raise ValueError(f"{len(sides)} sides of a voxel; there are three, or none where no size was chosen")
    return sides


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CardDataset(_Part):
    """The dataset a model was trained on; empty where that is not known."""

    file_id: Digest = ""
    name: Line = ""
    sha256: Digest = ""


class CardSplits(_Part):
    """Names of the scans it was trained, chosen and tested on."""

    grouped_by_patient: bool = False
    train: list[Line] = []
    val: list[Line] = []
    test: list[Line] = []


class CardBest(_Part):
    """The epoch whose weights these are."""

    epoch: int = Field(ge=1)
    val_dice: float


class CardFinding(_Part):
    """What was noticed of the data or the training, in English."""

    code: Word
    severity: Literal["error", "warning", "info"]
    epoch: int | None = None
    message: str


class CardMember(_Part):
    """One network of an ensemble; `folder` lies beside the ensemble's own."""

    model_id: Word
    folder: str
    fold: int | None = None
    best: CardBest | None = None


class CardLabel(_Part):
    """Name and colour of a class."""

    name: Line
    colour: str = Field(default="", pattern=r"^(#[0-9a-f]{6})?$")


class CardImport(_Part):
    """Where an imported model comes from: the file's name and hash, and the id that the model had there."""

    file: Line
    sha256: Digest
    model_id: str | None
    at: str


class CardThreshold(_Part):
    """The threshold of the highest mean Dice on the validation scans."""

    threshold: float = Field(gt=0, lt=1)
    dice: float
    usual_dice: float
    scans: int = Field(ge=1)


class CardFeature(_Part):
    """One number of the training scans: where it lies, and how far it spreads."""

    median: float
    low: float
    high: float
    spread: float = Field(gt=0)


class CardStatistics(_Part):
    """What the training scans were like, see `distribution.summarise`."""

    scans: int = Field(ge=1)
    features: dict[Word, CardFeature]


class CardShape(_Part):
    """Kernels, strides and channels of each level of a network that is laid out after its scans."""

    kernels: list[list[int]] = Field(min_length=1, max_length=8)
    strides: list[list[int]] = Field(min_length=1, max_length=8)
    filters: list[int] = Field(min_length=1, max_length=8)


class ModelCard(_Part):
    """Everything that is to be known of a model."""

    format: Literal[1] = CARD_FORMAT
    model_id: Word | None = None
    network: Word
    spatial_dims: Literal[2, 3] = 2
    residual: bool = True
    network_shape: CardShape | None = None
    patch_shape: list[int] = Field(default=[], max_length=3)
    modalities: list[Line] = Field(default=[], max_length=MAX_CHANNELS)
    common_spacing_mm: Annotated[list[Length], AfterValidator(_three_or_none)] = []
    channels: int = Field(ge=1, le=MAX_CHANNELS)
    classes: int = Field(ge=2, le=MAX_CLASSES)
    region_order: list[int] = Field(default=[], max_length=MAX_CLASSES)
    ignore_index: int | None = Field(default=None, ge=1, le=MAX_CLASSES)
    labels: list[CardLabel] = Field(default=[], max_length=MAX_CLASSES + 1)
    mask_values: list[int] = Field(default=[], max_length=MAX_CLASSES + 1)
    normalisation: Normalisation = "unit"
    tuned_threshold: CardThreshold | None = None
    scan_statistics: CardStatistics | None = None
    dataset: CardDataset = CardDataset()
    plan: dict[str, Any] = {}
    splits: CardSplits = CardSplits()
    best: CardBest | None = None
    validation: dict[Word, float | None] | None = None
    test: dict[Word, float] | None = None
    test_dice_per_scan: dict[Line, float] = {}
    curves: dict[Word, list[float | None]] = {}
    findings: list[CardFinding] = []
    versions: dict[Word, Line | None] = {}
    licence: str | None = Field(default=None, max_length=MAX_LICENCE)
    name: str | None = Field(default=None, max_length=MAX_NAME)
    notes: str | None = Field(default=None, max_length=MAX_NOTES)
    imported: CardImport | None = None
    members: list[CardMember] | None = Field(default=None, min_length=1, max_length=100)
    notice: Line = NOTICE

    @model_validator(mode="after")
    def _regions_add_all_classes(self) -> Self:
        if self.region_order and (self.classes == 2 or sorted(self.region_order) != list(range(1, self.classes))):
            raise ValueError(
                f"region_order is {self.region_order}; regions add each of the classes 1 to {self.classes - 1} once"
            )
        return self


def parse_card(data: bytes, file: str) -> ModelCard:
    """Read a card that came from elsewhere.

    Args:
        data: the JSON text.
        file: its name, for messages.

    Raises:
        InvalidModel: it is not JSON, or not a card of this format; the message names each fault.
    """
    try:
        content = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidModel(f"{file} is {type(content).__name__}; a card is a JSON object")
    if (found := content.get("format")) != CARD_FORMAT:
        raise InvalidModel(f"{file} has format {found!r}; this version reads format {CARD_FORMAT}")
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        raise InvalidModel(f"{file} is not a card of a model: {faults_in(error, ModelCard)}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
