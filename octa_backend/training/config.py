"""`TrainConfig`: what to compute. One class for the API's form, JSON, the CLI, the stored row and the checkpoint."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from octa_backend.errors import UnknownNetwork
from octa_backend.models import registry

Auto = Literal["auto"]


def _known_network(name: str) -> str:
    try:
        return registry.check_name(name)
    except UnknownNetwork as error:
        raise ValueError(error.message) from error


class TrainConfig(BaseModel):
    """Everything that decides the result of a training. `auto` is resolved by the plan, with a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    epochs: int = Field(default=50, ge=1, le=10_000)
    """How often every training scan is seen, 1 to 10000."""

    lr: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate at the start (the peak of `onecycle`), above 0, at most 1."""

    batch_size: int = Field(default=2, ge=1, le=1024)
    """Scans (or patches) per step, 1 to 1024."""

    model: Annotated[str, AfterValidator(_known_network)] = "unet_transformer"
    """The network: `unet_transformer` (31.4 M parameters) or `unet` (8.5 M, for small datasets)."""

    loss: Literal["dice_bce", "dice_ce"] = "dice_bce"
    """`dice_bce` for binary masks, `dice_ce` (softmax) for more classes; the plan takes the one that fits."""

    bce_weight: float = Field(default=0.5, ge=0, le=100)
    """Weight of the (binary) cross-entropy in the loss, 0 to 100."""

    dice_weight: float = Field(default=0.5, ge=0, le=100)
    """Weight of the Dice loss (1 - soft Dice) in the loss, 0 to 100."""

    pos_weight: float | None = Field(default=None, gt=0, le=10_000)
    """Weight of foreground pixels in the binary cross-entropy, above 0; null leaves them at 1."""

    optimizer: Literal["adam", "adamw"] = "adam"
    """`adam`, or `adamw` with decoupled weight decay."""

    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Weight decay, 0 to 1."""

    scheduler: Literal["onecycle", "step", "cosine", "constant"] = "onecycle"
    """`onecycle` rises to `lr` and falls to zero; `step` falls by `gamma` every `step_size` epochs; `cosine` falls."""

    step_size: int = Field(default=20, ge=1)
    """Epochs between two steps of the `step` schedule."""

    gamma: float = Field(default=0.8, gt=0, le=1)
    """Factor of the `step` schedule, above 0, at most 1."""

    augmentation: Literal["none", "standard"] = "standard"
    """`standard`: flips and right-angle turns; for some scans rotation to 15 degrees, scale, brightness, contrast."""

    patch_size: Annotated[int, Field(ge=32, le=4096)] | Auto = "auto"
    """Side in pixels of the square cut from larger scans for training, 32 to 4096, or `auto`."""

    val_fraction: float = Field(default=0.15, gt=0, le=0.5)
    """Share of the training scans kept for validation where the dataset names none, above 0, at most 0.5."""

    ema_decay: float = Field(default=0.98, ge=0, lt=1)
    """Decay per step of the running average of the weights that is validated and published; 0 switches it off."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the network: `auto` measures which is faster on the device; the loss is always float32."""

    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    """Seed of weights, order, patches, augmentation and the random split."""

    @model_validator(mode="after")
    def _some_loss_counts(self) -> Self:
        if self.bce_weight + self.dice_weight == 0:
            raise ValueError("bce_weight and dice_weight are both 0; at least one must be above 0")
        return self
