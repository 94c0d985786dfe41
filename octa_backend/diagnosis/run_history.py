"""What the training doctor looks at: the numbers of a run, as plain data. It knows no network and no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run before its first step.

    Attributes:
        config: the resolved `TrainConfig` as JSON (no `auto` left but in options that have no effect).
        train_scans, val_scans: how many there are.
        patients: how many different ones the training scans' names show, or None.
        parameters: of the network.
        classes: with background; 2 is binary.
        foreground_fraction: mean share of foreground in the training masks, 0..1.
        steps_per_epoch: optimizer steps.
        data_findings: code -> severity ("error", "warning", "info") of what the data checks said of the dataset.
        data_shares: code -> share of the dataset's scans that such a finding is about, 0..1, as far as it is known.
    """

    config: Mapping[str, object]
    train_scans: int
    val_scans: int
    patients: int | None
    parameters: int
    classes: int
    foreground_fraction: float
    steps_per_epoch: int
    data_findings: Mapping[str, str] = field(default_factory=dict)
    data_shares: Mapping[str, float] = field(default_factory=dict)


TRIALS = ("initial_loss", "overfit", "rates")
"""What is tried before the first step: the untrained network, one batch again and again, rising learning rates."""


@dataclass(frozen=True, slots=True)
class StartChecks:
    """What was tried in the seconds before the first step. None: not tried (switched off, or not defined).

    Attributes:
        lr: the run's learning rate, which the batch was tried at.
        initial_loss, expected_initial_loss: of untrained weights, and what theory says for logits that are 0, both on
            the same batch of small patches. The second is None for losses that have no such value.
        overfit_dice: best Dice that a copy of the network reached on that batch, seen again and again; None where the
            time was over before it could be told.
        overfit_steps: after how many steps it stopped.
        loss, zeroed_input_loss: of that trained copy on its batch, and on the same batch with all intensities 0; None
            where it is not finite.
        lr_found, lr_diverges: learning rates of a range test: the suggested one, and the least above it from which the
            loss is worse than untrained; None where the loss never fell, or stayed below.
        not_tried: of `TRIALS` those that were left out, and why: `no_batch` (no batch of an epoch has both foreground
            and background), `time` (the time was over, or would not have sufficed), `memory` (too little).
    """

    lr: float | None = None
    initial_loss: float | None = None
    expected_initial_loss: float | None = None
    overfit_dice: float | None = None
    overfit_steps: int | None = None
    loss: float | None = None
    zeroed_input_loss: float | None = None
    lr_found: float | None = None
    lr_diverges: float | None = None
    not_tried: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EpochSignals:
    """What the trainer saw inside one epoch, beside the losses and scores of its report. Group names as in events.

    Attributes:
        gradient_norms: mean L2 norm per gradient group, before clipping.
        weight_norms: L2 norm of the group's weights at the epoch's end.
        update_ratios: |change of the weights| / |weights after it| per group, mean over the steps measured (the first
            and every fifth); 0 for weights that are 0 and stay so.
        layer_ratios: the same per layer (module path), at the last step at which layers were looked at (the first of
            the epoch, and every fiftieth after it).
        layer_norms: gradient norm per layer at that step, before clipping; 0 for a layer without gradients.
        dead_fraction: per activation layer (module path), the share of channels that gave 0 everywhere in the batch of
            that step. Layers behind a global pooling are left out; empty for a compiled network.
        predicted_foreground, true_foreground: mean share of training pixels that are predicted as, and are, foreground.
        component_cosine: cosine between the gradients of the two loss components at the output, mean over the steps
            looked at; None where the loss has one component, or one of the two gradients is 0.
        component_gradients: component -> mean L2 norm of its weighted gradient at the output, over those steps.
        loss_spread: standard deviation over the epoch's steps of the loss of a batch.
        noise_scale: gradient noise scale in scans (S. McCandlish et al., An empirical model of large-batch training,
            2018), estimated from successive steps; None with fewer than five pairs of them, or where their gradients
            have nothing in common.
        data_seconds, step_seconds: time in which the step waited for data, and in all, summed over the epoch.
        stalls: batches that took over five times the median to come, and longer than a whole step usually takes.
        clipped_share: share of steps whose gradient was clipped.
        overflows: steps computed again because fp16 overflowed.
    """

    gradient_norms: Mapping[str, float]
    weight_norms: Mapping[str, float]
    update_ratios: Mapping[str, float]
    layer_ratios: Mapping[str, float] = field(default_factory=dict)
    layer_norms: Mapping[str, float] = field(default_factory=dict)
    dead_fraction: Mapping[str, float] = field(default_factory=dict)
    predicted_foreground: float | None = None
    true_foreground: float | None = None
    component_cosine: float | None = None
    component_gradients: Mapping[str, float] = field(default_factory=dict)
    loss_spread: float = 0.0
    noise_scale: float | None = None
    data_seconds: float = 0.0
    step_seconds: float = 0.0
    stalls: int = 0
    clipped_share: float = 0.0
    overflows: int = 0


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of the history: the report's numbers and the signals (None for runs that kept none)."""

    epoch: int
    lr: float
    train_loss: float
    loss_components: Mapping[str, float]
    val_loss: float
    val_dice: float
    val_precision: float
    val_recall: float
    signals: EpochSignals | None = None


@dataclass(frozen=True, slots=True)
class RunHistory:
    """A run so far.

    Attributes:
        epochs: rising, without gaps.
        epochs_planned: how many the run is to have.
        non_finite: what became NaN or infinite (component or gradient group), and in which epoch, or None.
        non_finite_lr: the learning rate that the run was configured with then; None where it still is.
    """

    facts: RunFacts
    epochs: tuple[EpochRecord, ...]
    epochs_planned: int
    start: StartChecks = field(default_factory=StartChecks)
    non_finite: tuple[str, int] | None = None
    non_finite_lr: float | None = None
