"""The gradient noise scale: how many scans a step would have to see for noise and gradient to weigh the same."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

SAMPLE = 16_384
"""Numbers that are looked at of each parameter, from its first output channels: enough for a mean over thousands of
noisy numbers, and so few that a step of the largest network takes no notice."""

LEAST_PAIRS = 5
"""With fewer pairs of steps the estimate is a ratio of two numbers that are noise themselves."""


class GradientNoise:
    """Estimates the noise scale from pairs of gradients of successive steps, each of other scans.

    For gradients a and b of two batches of B scans, ½|a - b|² is on average tr(Σ)/B, the variance over batches, and a·b
    is |G|², the square of the gradient that all batches have in common. Both are averaged over an epoch's pairs; the
    scale is B times the first over the second. The weights move between the two, and no scan is seen twice in an
    epoch: both make a and b differ more, so the estimate is rather too high, most of all for high learning rates.

    Source:
        S. McCandlish et al., An empirical model of large-batch training, 2018 (arXiv:1812.06162), B_simple = tr(Σ)/|G|²
        of section 2.2; there the two averages come from batches of two sizes.

    Args:
        parameters: whose gradients are looked at, a sample of each.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._previous: Tensor | None = None
        self._previous_scans = 0
        self._pairs: list[Tensor] = []
        self._scans = 0

    @torch.no_grad()
    def see(self, scans: int) -> None:
        """Look at the gradients of a step over so many scans; one of another size begins a new pair."""
        sample = torch.cat([_sample(parameter) for parameter in self._parameters])
        if self._previous is not None and scans == self._previous_scans:
            difference = sample - self._previous
            self._pairs.append(torch.stack([difference.dot(difference) / 2, sample.dot(self._previous)]))
            self._scans += scans
        self._previous, self._previous_scans = sample, scans

    def scale(self) -> float | None:
        """The noise scale in scans; None with too few pairs, or where the gradients have nothing in common."""
        if len(self._pairs) < LEAST_PAIRS:
            return None
        variance, signal = torch.stack(self._pairs).mean(0).tolist()
        return self._scans / len(self._pairs) * variance / signal if signal > 0 else None


def _sample(parameter: nn.Parameter) -> Tensor:
    """Up to `SAMPLE` numbers of the gradient: whole output channels, which lie together in either memory layout."""
    values = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    if values.numel() <= SAMPLE:
        return values.reshape(-1)
    rows = max(1, SAMPLE * values.shape[0] // values.numel())
    return values[:rows].reshape(-1)[:SAMPLE]
