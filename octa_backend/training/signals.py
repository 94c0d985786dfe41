"""What a training looks at in each step beside losses and scores, for the training doctor.

It draws no random numbers and changes no gradient and no weight: a run that is watched gives the same numbers as one
that is not. All that is measured stays on the device until the epoch's end; the hooks never wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean, pstdev

import torch
from torch import Tensor, nn

from octa_backend.diagnosis.run_history import EpochSignals
from octa_backend.models.regions import class_logits
from octa_backend.training.batch_times import BatchTimes
from octa_backend.training.batches import Batch
from octa_backend.training.dead_channels import DeadChannels
from octa_backend.training.gradient_noise import GradientNoise
from octa_backend.training.losses import make_loss
from octa_backend.training.output_signals import component_products, foreground_counts, norms_and_cosine
from octa_backend.training.plan import Plan
from octa_backend.training.step import Step
from octa_backend.training.step_hooks import Logits, StepHooks, finest
from octa_backend.training.weight_changes import WeightChanges

LAYERS_EVERY = 50
"""Steps from one look at every layer to the next; the first step of an epoch is always looked at. A look copies all
weights and reads every activation, which takes a noticeable part of a step; layers change over epochs, not steps."""

CHANGES_EVERY = 5
"""Steps from one measurement of the groups' changes to the next. In the largest network the groups hold half of all
weights; their ratio follows the learning rate, which moves little in five steps."""


@dataclass(slots=True)
class _Try:
    """What was seen of one batch so far; dropped if it has to be computed again."""

    scans: int = 0
    counts: list[Tensor] = field(default_factory=list)
    products: list[Tensor] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """What was seen of an epoch so far."""

    losses: list[float] = field(default_factory=list)
    norms: list[Mapping[str, float]] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)
    products: list[Tensor] = field(default_factory=list)
    lengths: list[Tensor] = field(default_factory=list)
    times: BatchTimes = field(default_factory=BatchTimes)
    overflows: int = 0


class Signals(StepHooks):
    """Watches the steps of a training and sums each epoch up.

    Args:
        network: that is trained, as it was before any compilation.
        plan: of the run.
        compiled: whether a compiled form of the network computes. Activations are then not looked at: hooks that come
            and go would have it compiled anew.
    """

    def __init__(self, network: nn.Module, plan: Plan, *, compiled: bool = False) -> None:
        self._loss = make_loss(plan.config, plan.region_targets)
        self._region_order = plan.region_order
        self._clipping = plan.config.gradient_clipping
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        groups: Mapping[str, list[nn.Parameter]] = network.gradient_groups()  # type: ignore[operator]
        self._changes = WeightChanges(network)
        self._noise = GradientNoise(parameter for group in groups.values() for parameter in group)
        self._dead = None if compiled else DeadChannels(network)
        self._try = _Try()
        self._seen = _Seen()

    @property
    def _looks_closer(self) -> bool:
        return len(self._seen.losses) % LAYERS_EVERY == 0

    def batches(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """An epoch's batches as they are, timed."""
        return self._seen.times.over(batches)

    def before_step(self) -> None:
        """Forget an earlier try at this batch."""
        self._try = _Try()
        if self._dead and self._looks_closer:
            self._dead.watch()

    def after_forward(self, logits: Logits, part: Batch) -> None:
        """Count foreground, and now and then compare the components' gradients, at the finest level's logits."""
        logits_BK = finest(logits)
        scans = logits_BK.shape[0]
        self._try.scans += scans
        self._try.counts.append(foreground_counts(class_logits(logits_BK.detach(), self._region_order), part.mask))
        if self._looks_closer:
            # The loss is a mean over the part's scans: times their number, parts of all sizes add up.
            self._try.products.append(component_products(self._loss, logits_BK, part.mask, part.gap) * scans**2)

    def overflowed(self) -> None:
        """Count it."""
        self._seen.overflows += 1

    def before_update(self) -> None:
        """Look at the gradients, and at the weights that are about to change."""
        if self._dead:
            self._dead.stop()
        self._noise.see(self._try.scans)
        if self._clipping:
            gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
            self._seen.lengths.append(torch.nn.utils.get_total_norm(gradients))
        if len(self._seen.losses) % CHANGES_EVERY == 0:
            self._changes.before_update(every_layer=self._looks_closer)

    def after_step(self, step: Step) -> None:
        """Keep what was seen of this batch."""
        self._changes.after_update()
        seen, tried = self._seen, self._try
        if tried.products:
            seen.products.append(torch.stack(tried.products).sum(0) / tried.scans**2)
        seen.counts.extend(tried.counts)
        seen.losses.append(sum(self._loss.weights[name] * value for name, value in step.components.items()))
        seen.norms.append(step.gradient_norms)

    def epoch(self) -> EpochSignals:
        """Sum up the steps since the last call, of which there must be one, and begin anew."""
        seen = self._seen
        found, true, counted = torch.stack(seen.counts).sum(0).tolist()
        norms, cosine = self._components()
        summary = EpochSignals(
            gradient_norms={name: fmean(step[name] for step in seen.norms) for name in seen.norms[0]},
            weight_norms=self._changes.group_norms(),
            update_ratios=self._changes.group_ratios(),
            layer_ratios=self._changes.layer_ratios(),
            layer_norms=self._changes.layer_gradients(),
            dead_fraction=self._dead.fractions() if self._dead else {},
            predicted_foreground=found / counted if counted else None,
            true_foreground=true / counted if counted else None,
            component_cosine=cosine,
            component_gradients=norms,
            loss_spread=pstdev(seen.losses),
            noise_scale=self._noise.scale(),
            data_seconds=sum(seen.times.waited),
            step_seconds=sum(seen.times.steps),
            stalls=seen.times.stalls(),
            clipped_share=self._clipped_share(),
            overflows=seen.overflows,
        )
        self._changes.forget()
        self._noise.forget()
        self._seen = _Seen()
        return summary

    def _components(self) -> tuple[dict[str, float], float | None]:
        """Mean norms of the components' gradients, and their mean cosine, over the steps that were looked at."""
        steps = [norms_and_cosine(products) for products in torch.stack(self._seen.products).tolist()]
        norms = {name: fmean(step[index] for step, _ in steps) for index, name in enumerate(self._loss.weights)}
        cosines = [cosine for _, cosine in steps if cosine is not None]
        return norms, fmean(cosines) if cosines else None

    def _clipped_share(self) -> float:
        if not self._seen.lengths:
            return 0.0
        return float((torch.stack(self._seen.lengths) > self._clipping).float().mean())
