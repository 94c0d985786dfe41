"""One optimizer step: as many scans at once as memory holds, gradients averaged over all, checked, clipped, applied.

B: scans of one step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.errors import InvalidConfig, TrainingDiverged
from octa_backend.training.batches import Batch
from octa_backend.training.compilation import CompilationFailed, compile_network, first_line
from octa_backend.training.losses import Logits, Loss, compute_loss, make_loss
from octa_backend.training.memory import is_exhausted
from octa_backend.training.optim import make_optimizer
from octa_backend.training.plan import Plan
from octa_backend.training.precision import autocast, gradient_scaler
from octa_backend.training.step_hooks import StepHooks

LEAST_SCALE = 1.0
"""A gradient that overflows fp16 although the loss is not scaled up any more has diverged."""

Notice = Callable[[Finding], None]
"""Told of what a user should know; the finding has no epoch yet."""


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The loss's components, and the gradients' norms: of the network's groups, and of all parameters together."""

    components: dict[str, float]
    norms: dict[str, float]
    total_norm: float


@dataclass(frozen=True, slots=True)
class Step:
    """The numbers of one step, and how many scans it saw. The gradient norms are from before clipping."""

    scans: int
    components: dict[str, float]
    gradient_norms: dict[str, float]
    lr: float


class Stepper:
    """Trains a network, batch by batch, as a plan says.

    Attributes:
        optimizer: its learning rate is set at each step.
        loss: the plan's.
        scaler: active in fp16 only.
        micro_batch: how many scans are computed at once; halved when the device's memory runs out.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        notice: Notice,
        *,
        compiled: bool = False,
        hooks: StepHooks | None = None,
    ) -> None:
        """Prepare to train.

        Args:
            network: on the plan's device.
            plan: what to compute.
            notice: told where a step goes on otherwise than the plan says.
            compiled: whether the first step compiles the network. Its parameters stay where they are, so optimizer,
                running average and checkpoints see the network itself.
            hooks: told of the moments of each step; None: nobody is.
        """
        self.network = network
        self._hooks = hooks or StepHooks()
        self._forward: Callable[[Tensor], Logits] = compile_network(network) if compiled else network
        self._compiled = compiled
        self.optimizer = make_optimizer(network, plan.config)
        self.loss: Loss = make_loss(plan.config, plan.region_targets)
        self.scaler = gradient_scaler(plan.device, plan.config.precision)
        self.micro_batch = plan.batch_size
        self._plan = plan
        self._notice = notice
        self._groups: Mapping[str, list[nn.Parameter]] = network.gradient_groups()  # type: ignore[operator]

    def step(self, batch: Batch, lr: float) -> Step:
        """Forward, backward, a check that all is finite, and only then the optimizer's step.

        Args:
            batch: of B scans, on the plan's device.
            lr: the learning rate.

        Raises:
            TrainingDiverged: the loss or a gradient is not finite; the weights are as before.
            InvalidConfig: the memory does not hold a single scan.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        found = self._finite_gradients(batch)
        self._hooks.before_update()
        if self._plan.config.gradient_clipping:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._plan.config.gradient_clipping)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        done = Step(len(batch.image), found.components, found.norms, lr)
        self._hooks.after_step(done)
        return done

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of the mean loss over all B scans, `micro_batch` of them at once.

        Each part's loss, itself a mean over its scans, is weighed by its share of the B scans, so the sum of the parts'
        gradients is that of the whole; but BatchNorm takes its statistics from each part.

        Returns:
            The loss's components, each the mean over all B scans.
        """
        self.optimizer.zero_grad(set_to_none=True)
        self._hooks.before_step()
        sums: dict[str, Tensor] = {}
        for part in batch.split(self.micro_batch):
            share = len(part.image) / len(batch.image)
            with autocast(self._plan.device, self._plan.config.precision):
                logits = self._forward(part.image)
            self._hooks.after_forward(logits, part)
            result = compute_loss(self.loss, logits, part.mask, part.gap)
            torch.autograd.backward(self.scaler.scale(result.total * share))
            for name, value in result.components.items():
                seen = value.detach() * share
                sums[name] = sums[name] + seen if name in sums else seen
        return sums

    def _finite_gradients(self, batch: Batch) -> _Numbers:
        """Components and norms; where fp16 overflows, the loss is scaled less and the batch is computed again."""
        while True:
            found = self._numbers(self._fitting_gradients(batch))
            _require_finite(found.components)
            if math.isfinite(found.total_norm):
                return found
            if not self.scaler.is_enabled() or self.scaler.get_scale() <= LEAST_SCALE:
                _require_finite(found.norms)
                _require_finite({"a gradient": found.total_norm})
            self._hooks.overflowed()
            self.scaler.update()

    def _fitting_gradients(self, batch: Batch) -> dict[str, Tensor]:
        while True:
            try:
                return self.gradients(batch)
            except CompilationFailed as error:
                if not self._compiled:
                    raise
                self._go_on_uncompiled(error)
                continue
            except RuntimeError as error:
                if not is_exhausted(error, surely=self.micro_batch == 1):
                    raise
                if self.micro_batch == 1:
                    raise InvalidConfig(_too_large(self._plan)) from error
            # Here, because until the handler is left the error's traceback holds the activations.
            self._halve(len(batch.image))

    def _go_on_uncompiled(self, error: Exception) -> None:
        self._forward, self._compiled = self.network, False
        evidence = {"device": self._plan.device, "cause": first_line(error)}
        self._notice(Finding("not_compiled", Severity.WARNING, evidence))

    def _halve(self, scans: int) -> None:
        tried = min(self.micro_batch, scans)
        self.micro_batch = max(1, tried // 2)
        self.optimizer.zero_grad(set_to_none=True)
        if self._plan.device.startswith("cuda"):
            torch.cuda.empty_cache()
        evidence = {"scans": tried, "halved": self.micro_batch, "device": self._plan.device}
        self._notice(Finding("out_of_memory", Severity.WARNING, evidence))

    def _numbers(self, components: Mapping[str, Tensor]) -> _Numbers:
        """Components and gradient norms as numbers. One transfer for all: each `.item()` would wait for the GPU."""
        self.scaler.unscale_(self.optimizer)
        norms = {name: _norm(group) for name, group in self._groups.items()}
        everything = [*components.values(), *norms.values(), _norm(self.network.parameters())]
        *numbers, total_norm = torch.stack(everything).tolist()
        return _Numbers(
            dict(zip(components, numbers, strict=False)),
            dict(zip(norms, numbers[len(components) :], strict=True)),
            total_norm,
        )


def _norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def _require_finite(numbers: Mapping[str, float]) -> None:
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        what = ", ".join(broken)
        raise TrainingDiverged(
            f"{what} became NaN or infinite; the last finished epoch is kept. Usual causes: the learning "
            "rate is too high (try a tenth of it), or a scan holds NaN",
            what,
        )


def _too_large(plan: Plan) -> str:
    size = "x".join(str(side) for side in plan.patch_shape)
    return (
        f"the memory of {plan.device} does not hold one patch of {size} at a time with model={plan.config.model}; "
        "choose a smaller patch_size (of volumes target_shape) or a smaller model"
    )
