"""How a run is changed on its way: it goes back after a divergence, or takes a remedy of the training doctor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.training.loss_plan import with_closed_weight
from octa_backend.training.plan import Plan
from octa_backend.training.plan_draft import Reason
from octa_backend.training.treatment import ANEW, DIVERGED, FURTHER, HALVED, WENT_BACK, Treatment

MOST_SETBACKS = 3
"""So often a run goes back to its last checkpoint: three halvings are nearly a tenth, and what still diverges then has
another cause than a rate that is a little too high."""

MOST_TREATMENTS = 3
"""So many remedies a run takes by itself; each that begins anew costs as many epochs as the run had."""


def treated(plan: Plan, treatments: Sequence[Treatment]) -> Plan:
    """A plan with treatments applied, in order; those that it has had already are left alone.

    A field that was set to something else since, by a user who resumes the run, keeps that value, also where it is one
    that a treatment led to: what was done about that one afterwards is left out, too. The value that a treatment found
    at first cannot be set anew: it is treated as before.
    """
    passed: dict[str, object] = {}
    for treatment in treatments[len(plan.treatments) :]:
        now = _changes(plan, treatment, passed)
        config = plan.suited(with_closed_weight(plan.config.model_copy(update=now)))
        why = f"treatment of {treatment.cause} ({treatment.remedy}) after epoch {treatment.after}"
        told = [Reason(field=name, value=value, reason=why) for name, value in now.items()]
        reasons = (*plan.reasons, *(reason for reason in told if reason not in plan.reasons))
        plan = plan.model_copy(
            update={"config": config, "reasons": reasons, "treatments": (*plan.treatments, treatment)}
        )
        if plan.estimate is not None and "model" in now:
            plan = plan.with_estimate()
    return plan


def _changes(plan: Plan, treatment: Treatment, passed: dict[str, object]) -> dict[str, Any]:
    """What a treatment changes of a plan.

    Args:
        plan: with the earlier treatments.
        treatment: the next one.
        passed: fields whose last treatment was left out, and what it would have led to; is brought up to date.
    """
    now = {}
    for name, (before, after) in treatment.changes.items():
        follows = name in passed and passed[name] == before
        if follows or not _is(plan, name, before):
            passed[name] = after
        else:
            passed.pop(name, None)
            now[name] = after
    return now


def _is(plan: Plan, name: str, value: object) -> bool:
    found: object = getattr(plan.config, name)
    return found == value


def setback(plan: Plan, last: int) -> Treatment | None:
    """Half the learning rate from the last checkpoint on, after a divergence; None where that was tried often enough.

    Args:
        plan: of the run that diverged.
        last: the epoch of the last checkpoint; at 0 the run begins with its first weights again.
    """
    if sum(one.remedy == HALVED for one in plan.treatments) >= MOST_SETBACKS:
        return None
    rate = plan.config.lr
    assert rate != "auto", "complete_plan resolves it"
    return Treatment(
        cause=DIVERGED,
        remedy=HALVED,
        after=last,
        changes={"lr": (rate, rate / 2)},
        from_checkpoint=leads_to(plan, last),
        restarts=False,
    )


def leads_to(plan: Plan, last: int) -> bool:
    """Whether the run comes from the checkpoint of an epoch: no treatment after that epoch began with fresh weights."""
    return last > 0 and all(one.from_checkpoint for one in plan.treatments if one.after == last)


def remedy_taken(plan: Plan, finding: Finding, last: int) -> Treatment | None:
    """The finding's remedy as a treatment: with it the run has all its epochs again, as a job of its own would have, or
    as many as the remedy asks for.

    Args:
        plan: of the run.
        finding: the doctor's, with a remedy.
        last: the epoch of the last checkpoint.

    Returns:
        None where the run has taken `MOST_TREATMENTS`, the remedy changes nothing, or it would give a fold another
        network than the other folds have: they could not answer together.
    """
    assert finding.remedy is not None
    if sum(one.remedy != HALVED for one in plan.treatments) >= MOST_TREATMENTS:
        return None
    if plan.config.folds and "model" in finding.remedy.changes:
        return None
    changes = {name: (getattr(plan.config, name), value) for name, value in finding.remedy.changes.items()}
    if all(before == after for before, after in changes.values()):
        return None
    own_epochs = finding.remedy.changes.get("epochs", plan.epochs - plan.begun_after)
    return Treatment(
        cause=finding.code,
        remedy=finding.remedy.code,
        after=last,
        changes={**changes, "epochs": (plan.epochs, last + own_epochs)},
        from_checkpoint=bool(finding.remedy.from_checkpoint) and leads_to(plan, last),
        restarts=True,
    )


def notice(plan: Plan) -> Finding:
    """What a run's last treatment is told as; its code is one of `treatment.TREATED`."""
    treatment = plan.treatments[-1]
    is_setback = treatment.remedy == HALVED
    number = sum((one.remedy == HALVED) == is_setback for one in plan.treatments)
    changes = {name: pair for name, pair in treatment.changes.items() if name != "epochs"}
    evidence = {
        "cause": treatment.cause,
        "remedy": treatment.remedy,
        "after": treatment.after,
        "changes": ", ".join(f"{name} {_short(before)} → {_short(after)}" for name, (before, after) in changes.items()),
        "number": number,
        "most": MOST_SETBACKS if is_setback else MOST_TREATMENTS,
        "epochs": plan.epochs,
    }
    code = WENT_BACK if is_setback else FURTHER if treatment.from_checkpoint else ANEW
    return Finding(code, Severity.WARNING, evidence, epoch=treatment.after or None)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
