"""Networks compiled by torch, which fuses their operations: a step is quicker, the first one takes a minute or more."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from octa_backend.training.losses import Logits

CompilationFailed = TorchDynamoException
"""What a compiled network raises when it cannot be compiled: at its first forward or backward pass, or later for
another size of batch."""

LONGEST_CAUSE = 200
"""Characters of a compiler's message that are shown."""


def compile_network(network: nn.Module) -> Callable[[torch.Tensor], Logits]:
    """What computes the same as the network, on the network's own parameters; it is compiled when first called."""
    compiled: Callable[[torch.Tensor], Logits] = torch.compile(network)
    return compiled


def first_line(error: Exception) -> str:
    """The first line of what a compiler said, which may be pages; of the fault within where it only passed one on."""
    cause = getattr(error, "inner_exception", error)
    lines = (line.strip() for line in str(cause).splitlines())
    return next(filter(None, lines), type(cause).__name__)[:LONGEST_CAUSE]
