"""The training doctor: from the numbers of a run to a verdict, what else is suspected, and what was ruled out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from octa_backend.diagnosis import run_checks_balance as balance
from octa_backend.diagnosis import run_checks_data as data
from octa_backend.diagnosis import run_checks_fit as fit
from octa_backend.diagnosis import run_checks_gradients as gradients
from octa_backend.diagnosis import run_checks_rate as rate
from octa_backend.diagnosis.config_remedies import remedy_for
from octa_backend.diagnosis.curves import WINDOW, Approach, Shape, approach, classic_plateau
from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.matrix import Resemblance, nearest_row
from octa_backend.diagnosis.run_history import RunHistory
from octa_backend.diagnosis.run_view import RunView, Suspicion

REPORTED = 0.5
"""Confidence from which a suspicion is told: more likely than not."""

RULED_OUT = 0.25
"""Confidence up to which a cause counts as ruled out."""

OUTRANKS = 0.25
"""An earlier cause gives way to a later one that is surer by more than this."""

CALLED_STUCK = 10
"""Epochs from which a loss that stands still for no known reason is called stuck: some runs are slow to begin."""

SYMPTOMS = frozenset({"collapse_to_background", "collapse_to_foreground"})
"""What most faults look like: where an earlier cause is the verdict, these are told as its consequence."""

BEFORE_THE_FIRST = frozenset({"loss_not_finite", "input_ignored", "one_batch_not_learnt", "initial_loss_off"})
"""Checks that need no epoch."""


@dataclass(frozen=True, slots=True)
class Check:
    """One possible cause: how it is looked for, and how grave it is."""

    look: Callable[[RunView], Suspicion | None]
    severity: Severity
    is_cause: bool = True

    @property
    def code(self) -> str:
        """Of the finding: a check is called like it."""
        return self.look.__name__


CHECKS: tuple[Check, ...] = (
    Check(data.data_at_fault, Severity.ERROR),
    Check(data.input_ignored, Severity.ERROR),
    Check(data.one_batch_not_learnt, Severity.ERROR),
    Check(gradients.loss_not_finite, Severity.ERROR),
    Check(gradients.gradients_exploding, Severity.ERROR),
    Check(gradients.channels_dead, Severity.WARNING),
    Check(gradients.layers_frozen, Severity.WARNING),
    Check(gradients.gradients_vanishing, Severity.WARNING),
    Check(rate.lr_decayed_early, Severity.WARNING),
    Check(rate.lr_too_low, Severity.WARNING),
    Check(rate.lr_too_high, Severity.WARNING),
    Check(data.masks_unpredictable, Severity.ERROR),
    Check(balance.collapse_to_background, Severity.WARNING),
    Check(balance.collapse_to_foreground, Severity.WARNING),
    Check(balance.loss_weights_wrong, Severity.WARNING),
    Check(rate.batch_too_noisy, Severity.WARNING),
    Check(fit.network_too_large, Severity.WARNING),
    Check(fit.overfitting, Severity.WARNING),
    Check(data.labels_noisy, Severity.WARNING),
    Check(fit.train_scans_few, Severity.WARNING),
    Check(data.initial_loss_off, Severity.WARNING, is_cause=False),
    Check(rate.data_loading_slow, Severity.INFO, is_cause=False),
)
"""In the order of the verdict: a cause comes before what it causes. `masks_unpredictable` concludes from a run that did
nothing wrong, so it stands behind the settings that could have been wrong."""


class RunState(StrEnum):
    """How the run is."""

    TOO_EARLY = "too_early"
    STILL_LEARNING = "still_learning"
    CONVERGED = "converged"
    STUCK_UNEXPLAINED = "stuck_unexplained"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor says of a run.

    Attributes:
        state: fault, or how a run without one is.
        verdict: one finding, always; an info where nothing is wrong. Its evidence has `confidence`, 0..1.
        others: further findings, surest first.
        ruled_out: causes that were looked for and not found.
        doubtful: cause -> confidence of those that are neither told nor ruled out.
        not_judged: causes that the kept numbers do not allow to look for (yet).
        plateau: as in the epoch report, see `plateau_report`; None before the first epoch.
        resembles: the nearest row of the diagnosis matrix: supporting evidence only.
        outlook: where the loss leads if it goes on like this.
    """

    state: RunState
    verdict: Finding
    others: tuple[Finding, ...] = ()
    ruled_out: tuple[str, ...] = ()
    doubtful: Mapping[str, float] = field(default_factory=dict)
    not_judged: tuple[str, ...] = ()
    plateau: Mapping[str, Any] | None = None
    resembles: Resemblance | None = None
    outlook: Approach | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The verdict and the others."""
        return (self.verdict, *self.others)


def examine_run(history: RunHistory) -> Diagnosis:
    """Say why a run is stuck, or that it is not.

    Args:
        history: any number of epochs, none included.

    Returns:
        The verdict is the earliest cause in the order of `CHECKS` among those that are at least `REPORTED` sure and at
        most `OUTRANKS` less sure than the surest: a surer later cause outranks a doubtful earlier one.
    """
    view = RunView(history)
    suspicions, not_judged = _suspicions(view)
    told = [one for one in suspicions if one.confidence >= REPORTED]
    causes = [one for one in told if _CHECK[one.code].is_cause]
    cause = first_cause(causes)
    state = RunState.FAULT if cause is not None else _state(view)
    verdict = _finding(cause, view) if cause is not None else _without_fault(state, view)
    others = sorted((one for one in told if one is not cause), key=lambda one: -one.confidence)
    findings = (_finding(one, view) for one in others)
    doubtful = {one.code: round(one.confidence, 2) for one in suspicions if RULED_OUT < one.confidence < REPORTED}
    return Diagnosis(
        state=state,
        verdict=verdict,
        others=tuple(_explained(one, verdict) if one.code in SYMPTOMS and cause else one for one in findings),
        ruled_out=tuple(one.code for one in suspicions if one.confidence <= RULED_OUT),
        doubtful=doubtful,
        not_judged=not_judged,
        plateau=plateau_report(view) if view.epochs else None,
        resembles=nearest_row(view),
        outlook=_outlook(view),
    )


def first_cause(causes: Sequence[Suspicion]) -> Suspicion | None:
    """The earliest of those, in their order, that are at most `OUTRANKS` less sure than the surest."""
    surest = max((one.confidence for one in causes), default=0.0)
    return next((one for one in causes if one.confidence >= surest - OUTRANKS), None)


def plateau_report(view: RunView) -> dict[str, Any]:
    """The plateau check of the last epoch, JSON-serialisable: the classic rule's numbers beside the doctor's own shape.

    Args:
        view: with at least one epoch of finite loss.
    """
    classic = asdict(classic_plateau([epoch.train_loss for epoch in view.every]))
    return {**classic, "last_losses": list(classic["last_losses"]), "verdict": view.shape.value}


_CHECK: Mapping[str, Check] = {check.code: check for check in CHECKS}


def _suspicions(view: RunView) -> tuple[list[Suspicion], tuple[str, ...]]:
    """What each check says, in order, and the codes of those that could not judge."""
    suspicions, silent = [], []
    for check in CHECKS:
        found = check.look(view) if view.epochs or check.code in BEFORE_THE_FIRST else None
        if found is None:
            silent.append(check.code)
        else:
            suspicions.append(found)
    return suspicions, tuple(silent)


def _finding(suspicion: Suspicion, view: RunView) -> Finding:
    evidence = {**suspicion.evidence, "confidence": round(suspicion.confidence, 2)}
    epoch = view.epochs[-1].epoch if view.epochs else None
    remedy = remedy_for(suspicion.code, view)
    return Finding(suspicion.code, _CHECK[suspicion.code].severity, evidence, epoch=epoch, remedy=remedy)


def _explained(symptom: Finding, verdict: Finding) -> Finding:
    """For information alone, and without a remedy: the verdict's is the one that helps."""
    evidence = {**symptom.evidence, "explained_by": verdict.code}
    return replace(symptom, severity=Severity.INFO, evidence=evidence, remedy=None)


def _state(view: RunView) -> RunState:
    """Of a run without a fault."""
    if len(view.epochs) < WINDOW[0]:
        return RunState.TOO_EARLY
    if view.shape is Shape.IMPROVING or view.is_warming_up:
        return RunState.STILL_LEARNING
    if fit.converged(view) >= REPORTED:
        return RunState.CONVERGED
    return RunState.STUCK_UNEXPLAINED if len(view.epochs) >= CALLED_STUCK else RunState.TOO_EARLY


def _without_fault(state: RunState, view: RunView) -> Finding:
    evidence: dict[str, Any] = {
        "epochs": len(view.every),
        "awaited": (WINDOW[0] if len(view.epochs) < WINDOW[0] else CALLED_STUCK) * view.at_once,
        "best_dice": round(view.best_dice, 4),
        "shape": view.shape.value if view.epochs else Shape.UNCLEAR.value,
    }
    if state is RunState.CONVERGED:
        evidence["confidence"] = round(fit.converged(view), 2)
    elif state is RunState.STILL_LEARNING:
        ahead = _outlook(view)
        evidence["gain_percent"] = None if ahead is None else round(100 * ahead.gain / max(view.loss_now, 1e-9), 1)
    severity = Severity.WARNING if state is RunState.STUCK_UNEXPLAINED else Severity.INFO
    epoch = view.epochs[-1].epoch if view.epochs else None
    return Finding(state.value, severity, evidence, epoch=epoch, remedy=remedy_for(state.value, view))


def _outlook(view: RunView) -> Approach | None:
    if len(view.epochs) < WINDOW[0] or view.shape is not Shape.IMPROVING:
        return None
    left = max(0, view.history.epochs_planned - view.epochs[-1].epoch)
    found = approach(view.losses, -(-left // view.at_once))
    if found is None:
        return None
    return replace(found, pace=found.pace * view.at_once, epochs_to_plateau=found.epochs_to_plateau * view.at_once)
