"""The training loop. `emit`, `should_stop` and `advise` are its whole outside world; it stops between batches only.

Shapes: B scans, C channels, K output channels, *spatial pixels or voxels.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.errors import IncompatibleCheckpoint, ModelNotFound, TrainingDiverged
from octa_backend.training import healing
from octa_backend.training.batches import TrainingData, training_batches
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.determinism import reproducible
from octa_backend.training.epoch_report import report_of, weighted_sum
from octa_backend.training.evaluation import ShouldStop, evaluate
from octa_backend.training.events import EpochFinished, FindingNoticed, RunTreated, StepFinished
from octa_backend.training.initial_weights import InitialWeights, take_weights
from octa_backend.training.network import build_network
from octa_backend.training.norm_statistics import measure_statistics
from octa_backend.training.optim import WeightAverage
from octa_backend.training.plan import Plan
from octa_backend.training.precision import autocast
from octa_backend.training.run import Emit, Run, Show, Validation
from octa_backend.training.schedules import Schedule
from octa_backend.training.signals import Signals
from octa_backend.training.step import Step, Stepper
from octa_backend.training.stopping import Limits
from octa_backend.training.treatment import DIVERGED, Treatment

Advise = Callable[[], Finding | None]
"""Asked after each epoch and after a divergence, once `emit` was told: a finding whose remedy the run takes now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        finished: whether it came to its end; False if it was asked to stop.
        best: the epoch to publish; None if no epoch was finished.
        ended_early: why it came to its end before its last epoch (`patience`, `max_minutes`), else None.
    """

    finished: bool
    best: Best | None
    ended_early: Finding | None = None


def fit(
    data: TrainingData,
    plan: Plan,
    *,
    checkpoints: Checkpoints,
    emit: Emit,
    should_stop: ShouldStop,
    initial: InitialWeights | None = None,
    show: Show | None = None,
    advise: Advise | None = None,
) -> Outcome:
    """Train until the plan's last epoch, or until asked to stop; go on from the last checkpoint where there is one.

    A run that diverges goes back to its last checkpoint with half the learning rate, at most `healing.MOST_SETBACKS`
    times. Its treatments are kept with the checkpoints, so a run that goes on has them again.

    Args:
        data: the scans.
        plan: what to compute.
        checkpoints: keeps the last and the best epoch.
        emit: is told of every step, every epoch and every finding. The last epoch of an earlier attempt is told again.
        should_stop: asked between batches.
        initial: weights to begin with in place of fresh ones, also after a remedy by which the run begins anew; a run
            that goes on has its own and does not read them.
        show: given the network after each epoch.
        advise: whose findings the run answers by itself, at most `healing.MOST_TREATMENTS` times.

    Raises:
        TrainingDiverged: the loss is not finite, and neither going back nor advice helped.
        InvalidConfig: the device's memory does not hold a single scan.
        IncompatibleCheckpoint: the checkpoint is of another network or another version, or no initial weight fits.
        ModelNotFound: the initial weights are not there.
    """
    is_first, spent = True, 0.0
    while True:
        now = healing.treated(plan, checkpoints.treatments)
        with reproducible(plan.config.seed, plan.device, deterministic=plan.config.deterministic):
            run = _start(data, now, checkpoints, emit, should_stop, initial, show, spent)
            ended = _train_until(run, is_first, advise)
        if isinstance(ended, Outcome):
            return ended
        checkpoints.treat(ended)
        is_first, spent = False, run.limits.elapsed()


def _start(
    data: TrainingData,
    plan: Plan,
    checkpoints: Checkpoints,
    emit: Emit,
    should_stop: ShouldStop,
    initial: InitialWeights | None,
    show: Show | None,
    spent: float,
) -> Run:
    network = build_network(plan)
    if initial is not None and not healing.leads_to(plan, checkpoints.last):
        _begin_with(network, initial, plan, emit)
    averaged = copy.deepcopy(network).eval()

    def notice(finding: Finding) -> None:
        emit(FindingNoticed(replace(finding, epoch=run.epoch)))

    compiled = plan.config.compile == "on"
    signals = Signals(network, plan, compiled=compiled)
    run = Run(
        plan=plan,
        data=data,
        network=network,
        average=WeightAverage(network, averaged, plan.config.ema_decay),
        stepper=Stepper(network, plan, notice, compiled=compiled, hooks=signals),
        signals=signals,
        schedule=Schedule(plan.config, plan.begun_after),
        limits=Limits(plan.config, seconds=spent),
        generator=torch.Generator().manual_seed(plan.config.seed),
        checkpoints=checkpoints,
        emit=emit,
        should_stop=should_stop,
        show=show,
    )
    return run


def _begin_with(network: nn.Module, initial: InitialWeights, plan: Plan, emit: Emit) -> None:
    """Take the first weights, and tell of it once.

    A run that begins anew does without where they do not fit the network that its remedy brought, or are gone by now.
    """
    try:
        taken = take_weights(network, initial)
    except (IncompatibleCheckpoint, ModelNotFound):
        if plan.treatments:
            return
        raise
    if not plan.treatments:
        emit(FindingNoticed(taken))


def _go_on(run: Run, *, tell_again: bool) -> int:
    """Load the last checkpoint where there is one, tell of a treatment that holds from it; return the next epoch."""
    index = run.checkpoints.index
    run.best = index.best if index else None
    last, spent = index.last if index else 0, run.limits.seconds
    treatment = next((one for one in run.plan.treatments[-1:] if one.after == last), None)
    if treatment is not None:
        run.emit(RunTreated(last, run.plan.model_dump(mode="json"), healing.notice(run.plan)))
    if last == 0:
        return 1
    if treatment is None or treatment.from_checkpoint:
        state, report = run.checkpoints.load_last(run.network, run.average.averaged)
        run.restore(state, last)
        run.validation = Validation.told_in(report)
        if tell_again:
            run.emit(report)  # its attempt may have died after the checkpoint, before it could tell
    if treatment is not None:
        run.limits.begin_anew(max(spent, run.checkpoints.last_state()["limits"]["seconds"]), last)
        run.schedule = Schedule(run.plan.config, run.plan.begun_after) if treatment.restarts else run.schedule
    return last + 1


def _train_until(run: Run, is_first: bool, advise: Advise | None) -> Outcome | Treatment:
    """Train to the last epoch; how the run ended, or what it is to go on with."""
    for epoch in range(_go_on(run, tell_again=is_first), run.plan.epochs + 1):
        ended = run.limits.out_of_patience(epoch - 1, run.best)
        try:
            outcome = _end_early(run, ended) if ended else _one_epoch(run, epoch)
        except TrainingDiverged as error:
            return _after_divergence(run, error, advise)
        if outcome is not None:
            return outcome
        treatment = _advised(run, advise)
        if treatment is not None:
            return treatment
    return Outcome(finished=True, best=run.best)


def _after_divergence(run: Run, error: TrainingDiverged, advise: Advise | None) -> Treatment:
    """Go back; where that was done often enough, do what is advised.

    Raises:
        TrainingDiverged: nothing is advised.
    """
    treatment = healing.setback(run.plan, run.checkpoints.last)
    if treatment is not None:
        return treatment
    evidence = {"what": error.what, "epoch": run.epoch, "lr": run.plan.config.lr, "confidence": 1.0}
    run.emit(FindingNoticed(Finding(DIVERGED, Severity.ERROR, evidence, epoch=run.epoch)))
    treatment = _advised(run, advise)
    if treatment is None:
        raise error
    return treatment


def _advised(run: Run, advise: Advise | None) -> Treatment | None:
    finding = advise() if advise is not None else None
    return healing.remedy_taken(run.plan, finding, run.checkpoints.last) if finding is not None else None


def _one_epoch(run: Run, epoch: int) -> Outcome | None:
    """Train, validate and save; None if the run goes on."""
    run.epoch = epoch
    start, begun = time.perf_counter(), run.limits.elapsed()
    steps = _train(run)
    if isinstance(steps, Outcome):
        return steps
    trained = time.perf_counter() - start
    is_due = _is_due(epoch, run.plan.config.val_freq, run.plan) or run.limits.is_nearly_over(begun)
    if run.validation is None or is_due:
        _settle_norms(run)
        scans = evaluate(run.average.averaged, run.data, run.plan, run.stepper.loss, run.data.val, run.should_stop)
        if scans is None:
            return Outcome(finished=False, best=run.best)
        run.validation = Validation.of(scans, run.plan)
        run.schedule.see(epoch, run.validation.score.dice)
    report = report_of(run, steps, run.validation, trained, time.perf_counter() - start)
    run.best = Best.of(report, run.best)
    _save(run, report, begun)
    if run.show is not None:
        run.show(epoch, run.average.averaged)
    run.emit(report)
    return None


def _settle_norms(run: Run) -> None:
    """Give the average of the weights statistics of its own, where the running ones lag behind."""
    if run.is_young:
        parts = (part.image for batch in run.recent for part in batch.split(run.stepper.micro_batch))
        with autocast(run.plan.device, run.plan.config.precision):
            measure_statistics(run.average.averaged, parts)


def _is_due(epoch: int, every: int, plan: Plan) -> bool:
    return epoch % every == 0 or epoch == plan.epochs


def _train(run: Run) -> list[Step] | Outcome:
    """Every training scan once, or how the run ended on the way."""
    run.network.train()
    run.recent.clear()
    done = []
    batches = run.signals.batches(training_batches(run.data, run.plan.in_epoch(run.epoch), run.generator))
    for number, batch in enumerate(batches, start=1):
        if run.should_stop():
            return Outcome(finished=False, best=run.best)
        out_of_time = run.limits.out_of_time(run.epoch, run.best)
        if out_of_time:
            return _end_early(run, out_of_time)
        step = run.stepper.step(batch, run.schedule.rate(run.epoch, number, run.steps))
        run.average.update()
        if run.is_young:
            run.recent.append(batch)
        loss = weighted_sum(run, step.components)
        run.emit(StepFinished(run.epoch, number, run.steps, loss, step.components, step.lr, step.gradient_norms))
        done.append(step)
    return done


def _end_early(run: Run, finding: Finding) -> Outcome:
    run.emit(FindingNoticed(finding))
    return Outcome(finished=True, best=run.best, ended_early=finding)


def _save(run: Run, report: EpochFinished, begun: float) -> None:
    config, epoch = run.plan.config, report.epoch
    may_end = run.limits.out_of_patience(epoch, run.best) is not None or run.limits.is_nearly_over(begun)
    state = run.state() if may_end or _is_due(epoch, config.save_freq, run.plan) else None
    plan = run.plan.model_dump(mode="json")
    run.checkpoints.save(report, run.network, run.average.averaged, state, keep_last=config.keep_last, plan=plan)
