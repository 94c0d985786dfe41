"""What the networks share: any size of input, several logits for deep supervision, groups for gradient norms.

Shapes: B scans, C channels, K output channels (1 for binary, else one per class), *spatial: H x W pixels or
D x H x W voxels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

GradientGroups = dict[str, list[nn.Parameter]]
GroupModules = tuple[nn.Module, nn.Module, nn.Module, nn.Module]
AUXILIARY = "auxiliary."


PerAxis = int | Sequence[int]
"""One number for all axes, or one for each."""


def along_each(number: PerAxis, axes: int) -> tuple[int, ...]:
    """A number for each of so many axes."""
    return (number,) * axes if isinstance(number, int) else tuple(number)


def pad_to_multiple(x: Tensor, multiple: PerAxis) -> Tensor:
    """Repeat the border at the end of each axis of `x` (B, C, *spatial), so that its sides fit a network.

    Sides become multiples of `multiple`, one number or one for each axis. Where each of them would be its `multiple`
    itself, the last becomes twice that: the deepest level, smaller by `multiple`, then has two cells, and a
    normalisation there has a variance.
    """
    multiples = along_each(multiple, x.ndim - 2)
    return pad_sides(x, multiples, (*multiples[:-1], 2 * multiples[-1]) if _one_cell(x, multiples) else multiples)


def _one_cell(x: Tensor, multiples: Sequence[int]) -> bool:
    """Whether the deepest level would have a single cell."""
    return all(side <= one for side, one in zip(x.shape[2:], multiples, strict=True))


def pad_sides(x: Tensor, multiple: PerAxis, smallest: PerAxis) -> Tensor:
    """Repeat the border at the end of each axis of `x` (B, C, *spatial), up to the next multiple of `multiple`, and up
    to `smallest` at least.
    """
    numbers = (along_each(number, x.ndim - 2) for number in (multiple, smallest))
    missing = [max(least, -(-side // one) * one) - side for side, one, least in zip(x.shape[2:], *numbers, strict=True)]
    if not any(missing):
        return x
    # `F.pad` begins with the last axis.
    return F.pad(x, [end for more in reversed(missing) for end in (0, more)], mode="replicate")


def resize(logits: Tensor, sides: Sequence[int]) -> Tensor:
    """Bring logits (B, K, *spatial) to other sides by (bi- or tri-)linear interpolation."""
    if tuple(logits.shape[2:]) == tuple(sides):
        return logits
    mode = "bilinear" if len(sides) == 2 else "trilinear"
    return F.interpolate(logits, size=tuple(sides), mode=mode, align_corners=False)


def crop(logits: Tensor, sides: Sequence[int]) -> Tensor:
    """The first `sides` cells of logits (B, K, *spatial), as a view."""
    for axis, side in enumerate(sides, start=2):
        logits = logits.narrow(axis, 0, side)
    return logits


class PaddedNetwork(nn.Module, ABC):
    """A network that takes any size: it pads its input to what `levels` needs and crops the logits back.

    Attributes:
        multiple: by how much the deepest level is smaller than the input, along all axes or along each; `levels` gets
            multiples of it.
        deep_supervision: whether training mode gives the logits of several levels.
    """

    multiple: PerAxis
    deep_supervision: bool = False

    @abstractmethod
    def levels(self, x: Tensor) -> list[Tensor]:
        """Logits of a padded input, finest first; coarser ones may be smaller, and only `gives_levels` needs them."""

    @abstractmethod
    def group_modules(self) -> GroupModules:
        """First convolution, deepest encoder level, first decoder level, output: none shares a parameter."""

    @property
    def gives_levels(self) -> bool:
        """Whether `forward` returns a list now: in training mode, with deep supervision."""
        return self.training and self.deep_supervision

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map (B, C, *spatial) to logits (B, K, *spatial); to a list of them, finest first, where `gives_levels`."""
        padded = pad_to_multiple(x, self.multiple)
        logits = [crop(resize(level, padded.shape[2:]), x.shape[2:]) for level in self.levels(padded)]
        return logits if self.gives_levels else logits[0]

    def gradient_groups(self) -> GradientGroups:
        """The parameters whose gradient norms tell how well the gradient reaches each depth."""
        names = ("encoder_conv1", "encoder_last", "decoder_first", "decoder_output")
        return {name: list(module.parameters()) for name, module in zip(names, self.group_modules(), strict=True)}


class EncoderDecoder(PaddedNetwork):
    """A network of an encoder, a decoder and a head, with a head for further decoder levels where asked.

    Attributes:
        decoder: levels from the coarsest.
        head: makes logits of the last decoder level.
        auxiliary: heads of the levels before it, finest first. The first decoder level never has one: of all
            resolutions the two lowest are left out (F. Isensee et al., nnU-Net, Nature Methods 18, 2021).
        recomputes: whether a training step keeps the levels' inputs alone and computes what is inside them once more
            for its backward pass: less memory for about a third more time.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Module
    auxiliary: nn.ModuleList
    recomputes: bool = False

    def run(self, level: nn.Module, *inputs: Tensor) -> Tensor:
        """What a level makes of its inputs; see `recomputes`."""
        if self.recomputes and self.training and torch.is_grad_enabled():
            # A compiled step keeps running statistics by itself, and takes no contexts of ours.
            twice = partial(checkpoint, level, use_reentrant=False)
            if not torch.compiler.is_compiling():
                twice = partial(twice, context_fn=partial(_contexts, level))
            computed: Tensor = twice(*inputs)
            return computed
        plain: Tensor = level(*inputs)
        return plain

    def classify(self, decoded: Sequence[Tensor]) -> list[Tensor]:
        """Make logits, finest first, of what the decoder levels gave, coarsest first."""
        heads = [self.head, *self.auxiliary] if self.gives_levels else [self.head]
        return [head(level) for head, level in zip(heads, reversed(decoded), strict=False)]

    def group_modules(self) -> GroupModules:
        """The ends of encoder and decoder, and the head."""
        return self.encoder[0], self.encoder[-1], self.decoder[0], self.head

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; a network without deep supervision leaves out the heads that only training needed."""
        if not self.deep_supervision:
            state_dict = {name: value for name, value in state_dict.items() if not name.startswith(AUXILIARY)}
        return super().load_state_dict(state_dict, strict=strict, assign=assign)


def _contexts(level: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first and the second time that a level is computed."""
    return nullcontext(), _statistics_kept(level)


@contextmanager
def _statistics_kept(level: nn.Module) -> Iterator[None]:
    """A level that is computed again moves its norms' running statistics once only."""
    norms = [norm for norm in level.modules() if isinstance(norm, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [count for norm in norms if (count := norm.num_batches_tracked) is not None]
    before = [count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, number in zip(counts, before, strict=True):
            count.copy_(number)
