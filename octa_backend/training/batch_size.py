"""How many scans to compute at once on a GPU: tried."""

from __future__ import annotations

from collections.abc import Callable

import torch

from octa_backend.training.batches import Batch
from octa_backend.training.memory import is_exhausted
from octa_backend.training.network import build_network
from octa_backend.training.plan import Plan
from octa_backend.training.precision import memory_format
from octa_backend.training.step import Stepper

MOST = 16
"""Larger batches take fewer steps per epoch, and so learn less from a dataset of some hundred scans."""

LEAST_STEPS = 10
"""Steps that an epoch keeps, where the dataset has so many scans."""


def choose_batch_size(plan: Plan, samples: int) -> tuple[int, str]:
    """A batch size and the reason for it.

    Args:
        plan: for a GPU, with all resolved but the batch size, the epochs and the learning rate.
        samples: training patches per epoch.
    """
    limit = max(1, min(MOST, samples // (LEAST_STEPS * plan.config.accumulation_steps)))
    found = largest_that_fits(lambda count: fits(plan, count), limit)
    torch.cuda.reset_peak_memory_stats(plan.device)
    return found, (
        f"the largest power of two that was tried with success on {plan.device}, up to {MOST}, that leaves an epoch "
        f"of {samples} patches {LEAST_STEPS} steps where it has as many"
    )


def largest_that_fits(does_fit: Callable[[int], bool], limit: int) -> int:
    """The largest power of two up to `limit` that fits; 1 where even that does not."""
    size = 1
    while 2 * size <= limit and does_fit(2 * size):
        size *= 2
    return size


def fits(plan: Plan, count: int) -> bool:
    """Whether one training step with so many scans at once stays within the device's memory.

    The network is a fresh one, on empty scans: the memory that a step takes depends on the shapes alone.
    """
    trial = plan.decided("batch_size", count, "tried").decided("lr", 1e-4, "tried").with_epochs()
    try:
        _one_step(trial)
    except RuntimeError as error:
        if not is_exhausted(error):
            raise
        return False
    finally:
        if plan.device.startswith("cuda"):
            torch.cuda.empty_cache()
    return True


def _one_step(plan: Plan) -> None:
    stepper = Stepper(build_network(plan).train(), plan, lambda _finding: None)
    shape = (plan.batch_size, plan.channels, *plan.patch_shape)
    image = torch.zeros(shape, device=plan.device)
    layout = memory_format(plan.channels_last, len(plan.patch_shape))
    mask = torch.zeros((plan.batch_size, *plan.patch_shape), dtype=torch.int64, device=plan.device)
    stepper.gradients(Batch(image.contiguous(memory_format=layout), mask))
    stepper.optimizer.step()
