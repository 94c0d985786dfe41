"""`TrainConfig`: what to compute. One class for the API's form, JSON, the CLI, the stored row and the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from octa_backend.data.normalise import Normalisation
from octa_backend.errors import InvalidConfig, UnknownNetwork
from octa_backend.models import registry
from octa_backend.training.augmentation_options import Augmentation, Overrides, PresetName, resolve
from octa_backend.training.loss_options import ClassWeights, Denominator, LossName, check_weights
from octa_backend.training.region_targets import check_target
from octa_backend.training.volume_options import Regions, TargetShape, patch_size_of

Auto = Literal["auto"]

OF_VOLUMES: Mapping[str, Any] = {"lr": 3e-3}
"""Defaults for volumes. Of 1250 steps of `unet3d` on hippocampi at an lr of 1e-3, 500 had passed before it told the
classes apart, and the training loss was still as high as that of validation at the end."""

OPEN_AUGMENTATION: tuple[PresetName, ...] = ("standard", "strong")
"""What `augmentation` becomes where it is `auto`."""


def _known_network(name: str) -> str:
    try:
        return name if name == "auto" else registry.check_name(name)
    except UnknownNetwork as error:
        raise ValueError(error.message) from error


class TrainConfig(BaseModel):
    """Everything that decides the result of a training. `auto` is resolved by the plan, with a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1, le=10_000)] | Auto = "auto"
    """How often every training scan is seen, 1 to 10000; `auto`: 50, or as many as give enough optimizer steps."""

    lr: Annotated[float, Field(gt=0, le=1)] | Auto = 1e-3
    """Learning rate at the start (the peak of `onecycle`), above 0, at most 1; `auto` finds it by a range test."""

    batch_size: Annotated[int, Field(ge=1, le=1024)] | Auto = 2
    """Scans (or patches) computed at once, 1 to 1024; `auto`: what a GPU's memory holds, up to 16, and 2 on a CPU."""

    accumulation_steps: int = Field(default=1, ge=1, le=1024)
    """Batches whose gradients are averaged into one step, 1 to 1024."""

    model: Annotated[str, AfterValidator(_known_network)] = Field(
        default="auto",
        description="The network: `auto` (`unet_transformer`, but `unet` for fewer than 50 training scans and "
        "`unet3d` for volumes), `unet_transformer` (31.4 M parameters), `unet` (8.5 M, for small datasets), "
        "`tiny_unet` (0.07 M), `monai_unet` (1.6 M), `attention_unet` (7.9 M), `dynunet` (7.9 M; for volumes also "
        "`unet3d`), `segresnet` (6.3 M), `swin_unetr` (6.3 M), `lraspp_mobilenet_v3_large` (3.2 M) "
        "or `deeplabv3_resnet50` (39.6 M).",
    )

    deep_supervision: bool = False
    """Train coarser decoder levels too: `unet_transformer`, `unet`, `tiny_unet`, `dynunet` and `unet3d`."""

    residual: bool = True
    """Whether the encoder of `dynunet` and `unet3d` has residual blocks; other networks do not look at it."""

    activation_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Compute activations twice to save memory, for a third more time; `auto`: where they would not fit otherwise."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Have torch compile the network: `on`, `off`, or `auto`, where a long run on a GPU pays for the wait."""

    ignore_index: Annotated[int, Field(ge=1, le=31)] | None = None
    """Class of the dataset whose pixels count neither in losses nor in metrics, 1 to 31; null: all pixels count."""

    pretrained: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Weights to begin with: the id of a model (`octa train`: or a path); what fits by name and shape is taken."""

    loss: Literal["auto", LossName] = Field(
        default="auto",
        description="What is minimised: `auto` (`dice_bce`; for several classes `dice_ce`), `dice_bce` or `bce` (for "
        "several classes the plan takes `dice_ce` or `ce`), `weighted_ce`, `unet_weight_map`, `dice`, "
        "`generalized_dice`, `iou`, `focal`, `focal_dice`, `tversky`, `focal_tversky`, `cldice`, `boundary`.",
    )

    bce_weight: float = Field(default=0.5, ge=0, le=100)
    """Weight of the (binary) cross-entropy in `dice_bce` and `dice_ce`, 0 to 100."""

    dice_weight: float = Field(default=0.5, ge=0, le=100)
    """Weight of the Dice loss (1 - soft Dice) in `dice_bce`, `dice_ce`, `focal_dice` and `boundary`, 0 to 100."""

    pos_weight: Annotated[float, Field(gt=0, le=10_000)] | Auto | None = "auto"
    """Weight of foreground pixels in `bce`, above 0; null is 1; `auto`: by the foreground's share, at most 100."""

    class_weights: ClassWeights = "auto"
    """Weight per class from the background on, as `1,5,5`, 0 to 10000, or `auto`: inverse frequency, 0.01 to 100."""

    border_weight: float = Field(default=10.0, ge=0, le=1000)
    """Weight of gaps between objects in `unet_weight_map` (w0), beside the class weights, 0 to 1000."""

    border_sigma: float = Field(default=5.0, gt=0, le=100)
    """Width in pixels of the gaps that count in `unet_weight_map` (sigma), above 0, at most 100."""

    dice_denominator: Denominator = "plain"
    """What stands below the line of the soft Dice: `plain` sums, or `squared` ones (V-Net)."""

    focal_weight: float = Field(default=0.5, ge=0, le=100)
    """Weight of the focal loss in `focal_dice`, 0 to 100."""

    focal_alpha: float = Field(default=0.25, ge=0, le=1)
    """Weight of foreground pixels in the focal loss, 0 to 1; background has the rest to 1."""

    focal_gamma: float = Field(default=2.0, ge=0, le=10)
    """How much less pixels count in the focal loss that are right already, 0 to 10; at 0 all count alike."""

    tversky_alpha: float = Field(default=0.3, gt=0, le=1)
    """What false foreground costs in `tversky` and `focal_tversky`, above 0, at most 1."""

    tversky_beta: float = Field(default=0.7, gt=0, le=1)
    """What missed foreground costs in `tversky` and `focal_tversky`, above 0, at most 1."""

    focal_tversky_exponent: float = Field(default=0.75, gt=0, le=3)
    """Power of the Tversky loss in `focal_tversky` (1/gamma of its source), above 0, at most 3."""

    cldice_alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of the clDice loss in `cldice`, 0 to 1; the Dice loss has the rest to 1."""

    cldice_iterations: int = Field(default=10, ge=1, le=100)
    """Erosions of the soft skeleton in `cldice`: the radius in pixels of the thickest vessel, 1 to 100."""

    boundary_weight: float = Field(default=0.01, ge=0, le=100)
    """Weight in `boundary` of the boundary loss, which is in pixels, 0 to 100."""

    optimizer: Literal["auto", "adam", "adamw", "sgd"] = "auto"
    """`adam`, `adamw` with decoupled weight decay, `sgd` with `momentum`; `auto`: `adam`, `adamw` to decay weights."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of `sgd`, 0 to below 1."""

    nesterov: bool = False
    """Nesterov's form of the momentum of `sgd`."""

    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Weight decay, 0 to 1; biases and the scales and shifts of norms are left out."""

    gradient_clipping: float = Field(default=0.0, ge=0, le=1e6)
    """Largest L2 norm of all gradients together; longer ones are scaled down to it. 0 switches it off."""

    scheduler: Literal["auto", "onecycle", "step", "plateau", "cosine", "exponential", "poly", "constant"] = "auto"
    """How `lr` moves: `onecycle`, `step`, `plateau`, `cosine`, `exponential`, `poly`, `constant`, or `auto`."""

    warmup_epochs: int = Field(default=0, ge=0, le=1000)
    """Epochs of a linear rise to `lr` before the schedule, below `epochs`; `onecycle` has it in place of its own."""

    step_size: int = Field(default=20, ge=1)
    """Epochs between two steps of the `step` schedule."""

    gamma: float = Field(default=0.8, gt=0, le=1)
    """Factor of `step` and `plateau` each time, and of `exponential` each epoch, above 0, at most 1."""

    power: float = Field(default=0.9, gt=0, le=10)
    """Exponent of the `poly` schedule, above 0, at most 10; 1 is a straight line."""

    plateau_patience: int = Field(default=5, ge=1, le=1000)
    """Epochs without a better validation Dice until `plateau` lowers the learning rate, 1 to 1000."""

    normalisation: Literal["auto", Normalisation] = Field(
        default="auto",
        description="Intensities: `unit` 0 to 1, `zscore` mean 0, deviation 1, `percentile` 1st to 99th to 0 to 1, "
        "`zscore_nonzero` each channel by itself without the empty space around; `auto`: the last for volumes, for "
        "pictures what their greys ask for.",
    )

    augmentation: Literal["auto", PresetName] = "standard"
    """How much scans are changed at random: `none`, `light`, `standard`, `strong`; `auto`: `strong` below 50 scans."""

    augmentation_overrides: Overrides = None
    """Numbers in place of the preset's, as JSON or as `gamma_probability=0.3,gamma_max=2`; null changes none."""

    patch_size: Annotated[int, Field(ge=32, le=4096)] | Auto = "auto"
    """Side in pixels of the square (or cube) cut from larger scans for training, 32 to 4096, or `auto`."""

    patch_growth: Literal["auto", "on", "off"] = "auto"
    """Begin with patches of half the side, then three quarters, a tenth of the epochs each: `on`, `off` or `auto`."""

    target_shape: TargetShape = "auto"
    """Voxels along D, H and W cut from volumes for training, as `96,96,96`, 8 to 1024, in place of `patch_size`."""

    regions: Regions = None
    """Unions of classes that are scored too, by the masks' values: `{"WT": [1, 2, 4]}`, `brats` or `brats2023`."""

    target: Literal["classes", "regions"] = "classes"
    """What the network learns: `classes` by a softmax, or each of `regions` by a sigmoid, which gives labels again."""

    foreground_oversampling: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    """Share of the patches cut around a foreground pixel, 0 to 1, or `auto`; only for scans larger than a patch."""

    val_fraction: float = Field(default=0.15, gt=0, le=0.5)
    """Share of the training scans kept for validation where the dataset names none, above 0, at most 0.5."""

    folds: int = Field(default=0, ge=0, le=20)
    """Cross-validation: so many trainings, each validated on another part, 2 to 20; 0 is a single training."""

    ema_decay: float = Field(default=0.98, ge=0, lt=1)
    """Decay per step of the running average of the weights that is validated and published; 0 switches it off."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network: `auto` measures; `fp16` needs CUDA. The loss is always float32."""

    patience: int = Field(default=0, ge=0, le=10_000)
    """The run ends after so many epochs without a better validation Dice, up to 10000; 0 switches it off."""

    max_minutes: float = Field(default=0.0, ge=0, le=1e6)
    """The run ends at the next batch after so many minutes, but not before its first epoch is done; 0 is no limit."""

    val_freq: int = Field(default=1, ge=1, le=1000)
    """The first epoch, every so many epochs and the last one are validated, 1 to 1000."""

    save_freq: int = Field(default=1, ge=1, le=1000)
    """Every so many epochs and at the end, a checkpoint to go on from is written, 1 to 1000."""

    keep_last: int = Field(default=1, ge=1, le=100)
    """How many of the latest checkpoints are kept beside the best one, 1 to 100."""

    auto_heal: bool = False
    """Whether the run takes the training doctor's remedy by itself where the verdict is sure, at most 3 times."""

    start_checks: bool = True
    """Whether first loss, learning one batch by heart, and rates are tried first: 5 % of the run, 5 to 20 seconds."""

    tensorboard: bool = True
    """Whether the run's numbers are also written as TensorBoard files."""

    tensorboard_images: int = Field(default=5, ge=0, le=10_000)
    """Every so many epochs, and the first and the last, validation scans are drawn into them; 0 to 10000, 0 none."""

    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    """Seed of weights, order, patches, augmentation and the random split."""

    deterministic: bool = False
    """Only algorithms that give equal bits for equal seeds; what has none on a GPU fails with its name."""

    @property
    def augmentation_options(self) -> Augmentation:
        """The preset with its overrides: every probability and range."""
        assert self.augmentation != "auto", "the plan resolves it"
        return resolve(self.augmentation, self.augmentation_overrides)

    def for_scans(self, spatial_dims: int) -> TrainConfig:
        """The same config for pictures (2) or volumes (3), which have defaults of their own for what was not set."""
        if spatial_dims == 2:
            return self
        return self.model_copy(
            update={name: value for name, value in OF_VOLUMES.items() if name not in self.model_fields_set}
        )

    @field_validator("augmentation_overrides")
    @classmethod
    def _overrides_fit_the_preset(cls, overrides: Overrides, info: ValidationInfo) -> Overrides:
        if "augmentation" in info.data:  # else it is at fault itself
            named = info.data["augmentation"]
            for preset in OPEN_AUGMENTATION if named == "auto" else (named,):
                resolve(preset, overrides)
        return overrides

    @field_validator("folds")
    @classmethod
    def _several_folds(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("a cross-validation has 2 to 20 folds; 0 is a single training")
        return folds

    @model_validator(mode="after")
    def _rises_before_the_end(self) -> Self:
        if self.epochs != "auto" and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} must be below epochs={self.epochs}, or lr is never reached"
            )
        return self

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    @model_validator(mode="after")
    def _one_size_of_a_patch(self) -> Self:
        if isinstance(self.target_shape, tuple) and self.patch_size not in ("auto", patch_size_of(self.target_shape)):
            shape = ",".join(map(str, self.target_shape))
            raise ValueError(f"patch_size={self.patch_size} and target_shape={shape} contradict each other; give one")
        return self

    @model_validator(mode="after")
    def _network_has_the_form(self) -> Self:
        try:
            if self.model != "auto":  # whatever the plan chooses has it
                recomputes = self.activation_checkpointing == "on"
                registry.check_form(self.model, deep_supervision=self.deep_supervision, recomputes=recomputes)
        except InvalidConfig as error:
            raise ValueError(error.message) from error
        return self

    @model_validator(mode="after")
    def _regions_can_be_learned(self) -> Self:
        check_target(self.target, self.regions, self.loss)
        return self

    @model_validator(mode="after")
    def _some_loss_counts(self) -> Self:
        check_weights("dice_bce" if self.loss == "auto" else self.loss, self.__dict__)
        return self
