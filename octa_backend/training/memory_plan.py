"""What a plan decides by the memory of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octa_backend.data.store import Manifest
from octa_backend.models import registry
from octa_backend.models.network_shape import NetworkShape
from octa_backend.training.config import TrainConfig
from octa_backend.training.estimate import estimate
from octa_backend.training.fingerprint import Fingerprint
from octa_backend.training.network_plan import network_shape
from octa_backend.training.plan_draft import Draft
from octa_backend.training.precision import Hardware

MEMORY_SHARE = 0.8
"""Of a device's memory that a training may be estimated to take: the rest is for the program and for scratch space."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a plan stands on.

    Attributes:
        manifest: of the dataset, without an ignored class.
        facts: what was seen of it.
        hardware: what the device does best.
    """

    manifest: Manifest
    facts: Fingerprint
    hardware: Hardware

    def network_shape(self, config: TrainConfig, shape: Sequence[int]) -> NetworkShape | None:
        """Of a network that follows the voxels of volumes, for samples of this shape; else None."""
        if self.facts.spatial_dims == 2 or not registry.NETWORKS[config.model].follows_voxels:
            return None
        return network_shape(config.model, shape, self.facts.spacing_mm, small=not self.hardware.on_gpu)

    def holds(self, config: TrainConfig, shape: Sequence[int]) -> bool:
        """Whether the device's memory holds a training on samples of this shape; where it is not known, it does."""
        if self.hardware.memory_mib is None:
            return True
        sample = (1 if config.batch_size == "auto" else config.batch_size, *shape)
        network = self.network_shape(config, shape)
        needed = estimate(config, self.manifest.channels, self.manifest.classes, sample, network)
        return needed.memory_mib <= MEMORY_SHARE * self.hardware.memory_mib


def settle_recomputing(draft: Draft, ground: Ground, shape: Sequence[int]) -> None:
    """Whether activations are computed twice: only where they would not fit otherwise, and where the network can."""

    def choose() -> tuple[str, str]:
        if not registry.NETWORKS[draft.config.model].recomputes:
            return "off", f"{draft.config.model} has no levels that can be computed twice"
        if ground.holds(recomputing(draft.config, "off"), shape):
            return "off", "a training step fits into the memory of this device"
        return "on", "what a training step keeps would not fit into the memory of this device"

    draft.settle("activation_checkpointing", choose)


def recomputing(config: TrainConfig, chosen: str) -> TrainConfig:
    """The config with this way of `activation_checkpointing`."""
    return config.model_copy(update={"activation_checkpointing": chosen})
