"""Does the fault lie in the data? Checks of what the data checks, the start checks and a run without skill say."""

from __future__ import annotations

import math
from collections.abc import Mapping

from octa_backend.diagnosis.curves import Shape
from octa_backend.diagnosis.run_view import MEMORISED, RunView, Suspicion, memorises, ramp

EXPLAINS: Mapping[str, str | None] = {
    "masks_inverted": "invert_masks",
    "masks_not_binary": "binarize_masks",
    "masks_grey_levels": "map_colours",
    "masks_coloured": "map_colours",
    "mask_unrelated": None,
    "mask_misaligned": None,
    "masks_full": "drop_unusable",
    "scans_blank": "drop_unusable",
    "range_compressed": None,
    "depths_mixed": None,
    "duplicates_two_masks": None,
}
"""Findings of the data checks that can keep a loss high, gravest first, each with the remedy of the dataset."""

LISTED = {"error": 0.9, "warning": 0.65}
"""How sure such a finding is as the cause of a run that does badly, a warning where it is about many scans."""

MANY_SCANS = (0.1, 0.4)
"""Share of the scans that a warning is about: up to the first it explains no run, at the second it counts in full."""

DOES_WELL = (0.7, 0.4)
"""Skill at which nothing needs explaining, and at which something certainly does."""

NO_SKILL = (0.25, 0.10)
"""Skill between which a run has learnt something, and hardly more than to call everything foreground."""

EPOCHS_WITHOUT_SKILL = (6, 12)
"""Epochs without skill that begin to count, and that count in full. Healthy runs have a skill of 0.3 by epoch 4."""

NOT_MEMORISED = 0.4
"""Dice on one batch seen again and again that no working set-up stays below."""

FULL_TRIAL_STEPS = 50
"""A trial on one batch that was broken off earlier proves nothing."""

SAME_LOSS = (1.3, 1.05)
"""Loss with zeroed input over loss with input: from the first on the network looks at the image, at the second it does
not. Trained copies that work have ratios over 2."""

LEARNT = (0.98, 0.9)
"""Loss of the trained copy over its first: at the first value it has learnt nothing, and what it sees is not known."""

NEAR_FOUND_LR = 10.0
"""A rate within this factor of the range test's is not what keeps a network from learning one batch."""


RATES_UNKNOWN = 0.65
"""What is left of such a suspicion where no range test was made: enough to be told while nothing surer is known."""

SAME_RATE = 2.0
"""A trial on one batch at a rate that differs by more than this factor is no trial of the run's own rate."""

FIRST_LOSS_OFF = (1.8, 3.0)
"""First loss over that of a network that is undecided everywhere. Fresh networks of all kinds have at most 1.8 with
cross-entropies and Dice losses; logits of a spread of 10 give `bce` 6 times and `dice_bce` 3 times as much."""

STEEP_LOSSES = ("focal",)
"""Fresh networks have up to 4.3 times the loss of an undecided one: what is wrong weighs the more the surer it is."""


def data_at_fault(view: RunView) -> Suspicion | None:
    """The data checks found what explains a run that does badly."""
    found = explaining(view)
    if not found:
        return None
    told = ", ".join(_told(code, view) for code, sure in found.items() if sure > 0)
    badly = ramp(view.skill, *DOES_WELL) if len(view.epochs) >= 3 else 0.0
    return Suspicion("data_at_fault", max(found.values()) * badly, {"findings": told, "skill": round(view.skill, 3)})


def explaining(view: RunView) -> dict[str, float]:
    """How sure each of `EXPLAINS` that is an error or a warning is as the cause of a run that does badly."""
    found = view.facts.data_findings
    return {code: LISTED[found[code]] * _extent(code, view) for code in EXPLAINS if found.get(code) in LISTED}


def _extent(code: str, view: RunView) -> float:
    """How far a finding counts, 0..1. One of unknown share may be about all scans, and an error counts anyway."""
    is_error = view.facts.data_findings[code] == "error"
    return 1.0 if is_error else ramp(view.facts.data_shares.get(code, 1.0), *MANY_SCANS)


def _told(code: str, view: RunView) -> str:
    """The code with its severity, and with the percentage of the scans where that is known."""
    severity, share = view.facts.data_findings[code], view.facts.data_shares.get(code)
    return f"{code} ({severity})" if share is None else f"{code} ({severity}, {round(100 * share, 1):g} %)"


def input_ignored(view: RunView) -> Suspicion | None:
    """A copy trained on one batch does no worse on it when all intensities are 0."""
    start = view.start
    if start.loss is None or start.zeroed_input_loss is None:
        return None
    ratio = start.zeroed_input_loss / max(start.loss, 1e-9)
    tried_enough = (start.overfit_steps or 0) >= FULL_TRIAL_STEPS
    confidence = 0.9 * ramp(ratio, *SAME_LOSS) * (1.0 if tried_enough else 0.5) * _not_disproved(view)
    if start.initial_loss is not None:
        confidence *= ramp(start.loss / max(start.initial_loss, 1e-9), *LEARNT)
    confidence *= _not_for_the_rate(view)
    evidence = {"loss": round(start.loss, 4), "zeroed_input_loss": round(start.zeroed_input_loss, 4)}
    return Suspicion("input_ignored", confidence, evidence)


def one_batch_not_learnt(view: RunView) -> Suspicion | None:
    """A copy of the network could not learn one batch by heart."""
    start = view.start
    if start.overfit_dice is None or (start.overfit_steps or 0) < FULL_TRIAL_STEPS or _tried_otherwise(view):
        return None
    confidence = 0.9 * ramp(start.overfit_dice, MEMORISED, NOT_MEMORISED) * _not_disproved(view)
    confidence *= _not_for_the_rate(view)
    evidence = {"overfit_dice": round(start.overfit_dice, 3), "overfit_steps": start.overfit_steps}
    return Suspicion("one_batch_not_learnt", confidence, evidence)


def _not_for_the_rate(view: RunView) -> float:
    """How much is left of a suspicion that a learning rate far from the range test's would explain better.

    Where there was no time for that test, the rate may be the reason.
    """
    found = view.start.lr_found
    if "rates" in view.start.not_tried:
        return RATES_UNKNOWN
    return 1.0 if found is None or 1 / NEAR_FOUND_LR <= view.lr / found <= NEAR_FOUND_LR else 0.5


def _tried_otherwise(view: RunView) -> bool:
    tried = view.start.lr
    return tried is not None and not 1 / SAME_RATE <= view.lr / tried <= SAME_RATE


def initial_loss_off(view: RunView) -> Suspicion | None:
    """Before the first step the loss is far above that of a network that is undecided everywhere.

    Weights from elsewhere are not judged: they may be sure of something.
    """
    first, expected = view.start.initial_loss, view.start.expected_initial_loss
    if first is None or not expected or view.option("pretrained") or view.option("loss") in STEEP_LOSSES:
        return None
    confidence = 0.9 * ramp(first / expected, *FIRST_LOSS_OFF) * _not_disproved(view)
    evidence = {"initial_loss": round(first, 4), "expected_initial_loss": round(expected, 4)}
    return Suspicion("initial_loss_off", confidence, evidence)


def masks_unpredictable(view: RunView) -> Suspicion | None:
    """Nothing that the network sees predicts the masks: it learns, yet stays as good as no look at the image."""
    skillless = ramp(view.skill, *NO_SKILL) * ramp(len(view.epochs), *EPOCHS_WITHOUT_SKILL)
    surest = 0.7 if view.start.overfit_dice is None else 0.8 if memorises(view) else 0.55
    confidence = skillless * (surest + (0.1 if _answers_the_mean(view) else 0.0))
    if view.dice_rises:
        confidence *= 0.6  # it may only be slow
    evidence = {
        "best_dice": round(view.best_dice, 3),
        "trivial_dice": round(view.trivial_dice, 3),
        "epochs": len(view.every),
    }
    return Suspicion("masks_unpredictable", confidence * _set_up_well(view), evidence)


LABEL_SKILL = ((0.15, 0.3), (0.8, 0.65))
"""Wrong labels let a network learn something, but not well: skill must be above the first pair and below the second."""

SMALL_GAP = (1.35, 1.1)
"""Validation over training loss: labels that are wrong everywhere make both alike."""


def labels_noisy(view: RunView) -> Suspicion | None:
    """The training loss stands still high although one batch can be learnt by heart, and validation is no worse."""
    if view.shape not in (Shape.FLAT, Shape.RISING) or not len(view.val_losses):
        return None
    gap = float(view.val_losses[-1]) / max(view.loss_now, 1e-9)
    middling = ramp(view.skill, *LABEL_SKILL[0]) * ramp(view.skill, *LABEL_SKILL[1])
    surest = 0.75 if memorises(view) else 0.55
    if "labels_suspicious" in view.facts.data_findings:
        surest += 0.2
    if not view.rate_is_up:
        surest *= 0.6  # small steps explain a standstill as well
    evidence = {"train_loss": round(view.loss_now, 4), "val_loss": round(float(view.val_losses[-1]), 4)}
    return Suspicion("labels_noisy", surest * middling * ramp(gap, *SMALL_GAP) * _set_up_well(view), evidence)


def _not_disproved(view: RunView) -> float:
    """A trial before the first step says nothing any more once the run itself has learnt well."""
    return ramp(view.skill, *DOES_WELL) if len(view.epochs) >= 3 else 1.0


STEPS_THAT_LEARN = (1e-4, 0.1)
"""Change of the weights per step, relative to them, between which a network learns; see `run_checks_rate`."""

SAME_ENTROPY = 0.1
"""Distance of the cross-entropy from that of the mean answer, as a share of it."""


def _set_up_well(view: RunView) -> float:
    """How far the run's own settings can be ruled out as the cause: only then the data are to blame."""
    ratio, least = view.update_ratio, STEPS_THAT_LEARN
    rate = 1.0 if ratio is not None and least[0] <= ratio <= least[1] else 0.7 if ratio is None else 0.3
    return rate * (0.5 if view.asks_for_one_side else 1.0)


def _answers_the_mean(view: RunView) -> bool:
    """Whether the cross-entropy is that of giving every pixel the same probability, the share of foreground."""
    found, share = view.epochs[-1].loss_components.get("bce"), view.facts.foreground_fraction
    if found is None or not 0 < share < 1:
        return False
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    return abs(found / entropy - 1) < SAME_ENTROPY
