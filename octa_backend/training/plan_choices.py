"""What a plan takes for a field that was left open: the value, and why. The losses' are in `loss_plan`."""

from __future__ import annotations

import math

from octa_backend.data.normalise import Normalisation
from octa_backend.diagnosis.content import FEW_SCANS
from octa_backend.training.augmentation_options import PresetName
from octa_backend.training.config import TrainConfig
from octa_backend.training.fingerprint import Fingerprint, MeasureGreys
from octa_backend.training.precision import Hardware, is_half

BATCH_ON_CPU = 2
"""What trainings on CPUs were measured with (docs/training.md)."""

USUAL_EPOCHS, FEWEST_EPOCHS, MOST_EPOCHS = 50, 10, 200
FEWEST_STEPS = USUAL_EPOCHS * FEW_SCANS // BATCH_ON_CPU
"""Steps that `USUAL_EPOCHS` of `FEW_SCANS` scans in batches of two have: fewer leave a network half trained."""
MOST_STEPS = 20 * FEWEST_STEPS
"""More take days on a CPU, and a large dataset shows enough in fewer epochs."""

VOLUME_STEPS = 1250
"""Steps of a training on volumes on a CPU, where each takes a second and more: 60 epochs of 41 volumes, two a step."""

DARK_WHITE = 0.5
"""Where the brightest hundredth of a scan begins below it, a few bright pixels have half of the range to themselves."""
MOST_CUT_OFF = 0.5
"""Where more of the light in what masks mark is above that, the few bright pixels are what is looked for, and the range
below holds noise."""
UNLIKE_MEANS = 0.15
"""With a larger spread of their means, scans of the same tissue look unlike to the first convolution."""

LONG_RUN = 50_000
"""Patches that a run on a GPU must see to be compiled. The default network takes some 20 ms for one, so that a tenth of
that earns back a wait of 90 seconds. The tenth is an assumption: compiling was not measured on a GPU."""


def choose_model(facts: Fingerprint) -> tuple[str, str]:
    """The default network, unless the data speak against it."""
    if facts.spatial_dims == 3:
        return "unet3d", "the scans are volumes, which nnU-Net's network, laid out after their voxels, is made for"
    if facts.training_scans < FEW_SCANS:
        return "unet", (
            f"only {facts.training_scans} scans train, and below {FEW_SCANS} the smaller network (8.5 instead of 31.4 "
            "million parameters) generalises better than the default, unet_transformer"
        )
    return "unet_transformer", f"the default; {facts.training_scans} training scans are enough for it"


def choose_optimizer(config: TrainConfig) -> tuple[str, str]:
    """`adam`, unless weights shall decay."""
    if config.weight_decay:
        return "adamw", f"with weight_decay={config.weight_decay:g}; adam would scale the decay by its moments"
    return "adam", "the one that the defaults were measured with; no weight decay asks for adamw"


def choose_scheduler(optimizer: str) -> tuple[str, str]:
    """`onecycle`, unless the optimizer has a partner of its own.

    Source: F. Isensee et al., nnU-Net, Nature Methods 18, 2021 (sgd with `poly`).
    """
    if optimizer == "sgd":
        return "poly", "sgd and a polynomial fall are nnU-Net's pair"
    return "onecycle", f"a rise and a fall over all epochs, what {optimizer} with the default lr was measured with"


def choose_augmentation(facts: Fingerprint) -> tuple[PresetName, str]:
    """`standard`, unless there are so few scans that variety must come from elsewhere."""
    if facts.training_scans < FEW_SCANS:
        return "strong", f"only {facts.training_scans} scans train, so variety must come from augmentation"
    return "standard", f"{facts.training_scans} training scans bring variety of their own"


def choose_normalisation(facts: Fingerprint, measure_greys: MeasureGreys | None) -> tuple[Normalisation, str]:
    """`unit`, unless the scans are volumes, or their greys lie badly in 0..1."""
    if facts.spatial_dims == 3:
        return "zscore_nonzero", (
            "volumes have intensities without a common scale, and much empty space around what they show: each channel "
            "of each volume is cut off at its 0.5 and 99.5 percentiles and standardised by what lies above its least "
            "value"
        )
    if measure_greys is None:
        return "unit", "the scans were not at hand, so that their greys could not be measured"
    greys = measure_greys()
    sparse = greys.cut_off > MOST_CUT_OFF
    if 0 < greys.white < DARK_WHITE and not sparse:
        return "percentile", (
            f"99% of a scan's pixels lie below {greys.white:.2f} of the full range, so a few bright ones darken all"
        )
    if greys.spread > UNLIKE_MEANS:
        return "zscore", (
            f"the scans' mean greys spread by {greys.spread:.2f} of the full range, as from devices that differ"
        )
    if sparse:
        return "unit", (
            f"what the masks mark is among the brightest hundredth of a scan, which begins at {greys.white:.2f} of the "
            f"full range: a stretch to there would cut off {greys.cut_off:.0%} of its light"
        )
    return "unit", f"scans use the range up to {greys.white:.2f}, and their means spread by {greys.spread:.2f} only"


def choose_epochs(steps: int, warmup_epochs: int) -> tuple[int, str]:
    """As many as give a run enough steps, but not more than it needs.

    Args:
        steps: optimizer steps of an epoch.
        warmup_epochs: of the config; at least as many epochs follow them.
    """
    epochs, reason = _enough_epochs(steps)
    if epochs > warmup_epochs:
        return epochs, reason
    return 2 * warmup_epochs, f"twice warmup_epochs={warmup_epochs}, so that half of the run follows the rise"


def choose_volume_epochs(steps: int, warmup_epochs: int) -> tuple[int, str]:
    """As many as a CPU trains on volumes in reasonable time; see `choose_epochs`."""
    wanted = math.ceil(VOLUME_STEPS / steps)
    bounded = min(MOST_EPOCHS, max(FEWEST_EPOCHS, wanted))
    epochs = max(bounded, 2 * warmup_epochs)
    bound = ""
    if epochs > bounded:
        bound = f", but at least twice {warmup_epochs=}"
    elif bounded != wanted:
        bound = f", at most {MOST_EPOCHS} epochs" if bounded < wanted else f", at least {FEWEST_EPOCHS} epochs"
    why = f"as many epochs as make {VOLUME_STEPS} steps{bound}, as a CPU is slow here"
    return epochs, f"an epoch has {_steps(steps)}: {why}"


def _enough_epochs(steps: int) -> tuple[int, str]:
    usual = USUAL_EPOCHS * steps
    if usual < FEWEST_STEPS:
        epochs = min(MOST_EPOCHS, math.ceil(FEWEST_STEPS / steps))
        bound = f", at most {MOST_EPOCHS} epochs" if epochs == MOST_EPOCHS else ""
        return epochs, (
            f"an epoch has {_steps(steps)}, and {USUAL_EPOCHS} epochs would train too little: as many as make "
            f"{FEWEST_STEPS} steps{bound}"
        )
    if usual > MOST_STEPS:
        epochs = max(FEWEST_EPOCHS, MOST_STEPS // steps)
        bound = f", at least {FEWEST_EPOCHS} epochs" if epochs == FEWEST_EPOCHS else ""
        return epochs, f"an epoch has {_steps(steps)}: as many epochs as make {MOST_STEPS} steps{bound}"
    return USUAL_EPOCHS, f"an epoch has {_steps(steps)}, {usual} in all, within {FEWEST_STEPS} to {MOST_STEPS}"


def _steps(steps: int) -> str:
    return f"{steps} step{'s' if steps > 1 else ''}"


def choose_batch_size_on_cpu() -> tuple[int, str]:
    """A GPU's is found by trial; see `batch_size`."""
    return BATCH_ON_CPU, f"on a CPU batches of {BATCH_ON_CPU} are what was measured"


def choose_precision(hardware: Hardware) -> tuple[str, str]:
    """The faster arithmetic, as measured."""
    if hardware.on_gpu:
        return ("bf16", "this GPU computes in bf16") if hardware.bf16_pays else ("fp32", "this GPU has no bf16")
    figure = f"a bf16 step is {hardware.bf16_speedup:g} times as fast as an fp32 step here, as measured"
    return ("bf16" if hardware.bf16_pays else "fp32"), figure


def choose_layout(precision: str, hardware: Hardware, spatial_dims: int) -> tuple[bool, str]:
    """Whether channels lie innermost in memory."""
    if is_half(precision):
        return True, f"the faster memory layout with {precision}"
    if spatial_dims == 3 and not hardware.on_gpu:
        return True, "the faster memory layout for volumes: 1.0 instead of 1.6 s a step, as measured on a CPU"
    return hardware.channels_last, "the faster memory layout measured on this device"


def choose_compile(device: str, patches: int) -> tuple[str, str]:
    """`on` only for runs that are long enough to earn back the wait.

    Args:
        device: as torch names it.
        patches: that the whole run sees.
    """
    if not device.startswith("cuda"):
        return "off", "on a CPU it was measured: 2.8 instead of 2.7 scans per second, after a wait of 77 to 96 seconds"
    if patches < LONG_RUN:
        return "off", f"{patches} patches are too few to earn back the wait ({LONG_RUN} do)"
    return "on", f"{patches} patches earn back a wait of a minute or two ({LONG_RUN} do)"
