"""What only a trial on data and device can tell: the batch size, then the learning rate."""

from __future__ import annotations

from torch import nn

from octa_backend.training.batch_size import choose_batch_size
from octa_backend.training.batches import TrainingData
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation import ShouldStop
from octa_backend.training.initial_weights import InitialWeights, take_weights
from octa_backend.training.lr_finder import HIGHEST, LOWEST, RangeTest, range_test
from octa_backend.training.network import build_network
from octa_backend.training.plan import Plan


def complete_plan(
    plan: Plan, data: TrainingData, should_stop: ShouldStop, initial: InitialWeights | None = None
) -> Plan:
    """Resolve what is still `auto` after `make_plan`, and size it up; a complete plan comes back as it is.

    Args:
        plan: from `make_plan`, or of an earlier attempt.
        data: the scans.
        should_stop: asked between the steps of the range test. Once it says so, `lr` is left open: the run that
            follows is asked the same before its first batch.
        initial: weights that the training begins with.
    """
    plan = settled(plan, data)
    if plan.config.lr != "auto":
        return plan
    found = find_learning_rate(plan, data, should_stop, initial)
    return plan if found is None else plan.decided("lr", *_choose_rate(found, len(plan.patch_shape)))


def settled(plan: Plan, data: TrainingData) -> Plan:
    """Resolve all but the learning rate, whose range test trains."""
    if plan.config.batch_size == "auto":
        samples = len(data.train) * plan.patches_per_scan
        plan = plan.decided("batch_size", *choose_batch_size(plan, samples)).with_epochs().with_compile()
    return plan if plan.estimate else plan.with_estimate()


def find_learning_rate(
    plan: Plan, data: TrainingData, should_stop: ShouldStop, initial: InitialWeights | None = None
) -> RangeTest | None:
    """The range test on the network that the training would begin with; None if asked to stop."""
    return range_test(first_network(plan, initial), data, plan, should_stop)


def first_network(plan: Plan, initial: InitialWeights | None = None) -> nn.Module:
    """The network that the training begins with, on the plan's device.

    Raises:
        ModelNotFound, IncompatibleCheckpoint: the initial weights are not there, or none of them fits.
    """
    network = build_network(plan)
    if initial is not None:
        take_weights(network, initial)
    return network


def _choose_rate(found: RangeTest, spatial_dims: int) -> tuple[float, str]:
    span = f"a range test from {LOWEST:g} to {HIGHEST:g} over {len(found.losses)} steps"
    if found.suggestion is None:
        default = TrainConfig().for_scans(spatial_dims).lr
        assert isinstance(default, float), "the default is a number"
        return default, f"the default, because in {span} the loss did not fall"
    best = found.rates[found.smoothed.index(min(found.smoothed))]
    return found.suggestion, f"a tenth of {best:.2g}, where the loss was least in {span}"
