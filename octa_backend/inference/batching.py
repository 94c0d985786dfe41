"""Scans of several threads computed together.

There is no thread and no timer: whoever comes while a batch is computed waits for its end, and the first of those who
waited then computes for those whose scans are of its size. An idle engine answers at once; the busier it is, the
fuller its batches.

Shapes: B scans, C channels, H x W pixels, K output channels.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor

from octa_backend.inference.engines import Engine

BATCH_PIXELS = 768 * 768
"""Most pixels of a batch of several scans: beyond it a batch takes more memory and gains nothing."""


class _Ticket:
    """Scans that wait, and their logits once they are there."""

    def __init__(self, x_BCHW: Tensor) -> None:
        self.x_BCHW = x_BCHW
        self.logits_BKHW: Tensor | None = None


class BatchingEngine:
    """An engine that several threads may call."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self._engine = engine
        self._waiting: list[_Ticket] = []
        self._list = threading.Lock()
        self._computing = threading.Lock()

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Logits (B, K, H, W)."""
        ticket = _Ticket(x_BCHW)
        with self._list:
            self._waiting.append(ticket)
        with self._computing:
            if ticket.logits_BKHW is None:
                self._compute(self._batch_of(ticket))
        assert ticket.logits_BKHW is not None
        return ticket.logits_BKHW

    def _batch_of(self, ticket: _Ticket) -> list[_Ticket]:
        """Take a ticket, and those of its size that fit beside it, off the list; a failed batch leaves none there."""
        with self._list:
            others = [one for one in self._waiting if one is not ticket and one.x_BCHW.shape == ticket.x_BCHW.shape]
            room = BATCH_PIXELS // (len(ticket.x_BCHW) * math.prod(ticket.x_BCHW.shape[2:]))
            batch = [ticket, *others][: power_of_two(min(room, 1 + len(others)))]
            self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    def _compute(self, batch: list[_Ticket]) -> None:
        if len(batch) == 1:
            batch[0].logits_BKHW = self._engine(batch[0].x_BCHW)
            return
        logits_BKHW = self._engine(torch.cat([ticket.x_BCHW for ticket in batch]))
        for ticket, part in zip(batch, torch.split(logits_BKHW, len(batch[0].x_BCHW)), strict=True):
            ticket.logits_BKHW = part


def power_of_two(count: int) -> int:
    """The largest one up to `count`, 1 at least: an engine prepares each size of batch once, and few of them."""
    return 1 << max(0, count.bit_length() - 1)
