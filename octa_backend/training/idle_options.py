"""Options that were changed although the optimizer, the schedule, the network or the division does not look at them."""

from __future__ import annotations

from octa_backend.models.registry import NETWORKS
from octa_backend.training.config import TrainConfig
from octa_backend.training.loss_plan import Decide

RESIDUAL = tuple(name for name, entry in NETWORKS.items() if entry.residual)

BELONGS_TO = {
    "momentum": ("optimizer", ("sgd",)),
    "nesterov": ("optimizer", ("sgd",)),
    "step_size": ("scheduler", ("step",)),
    "gamma": ("scheduler", ("step", "plateau", "exponential")),
    "power": ("scheduler", ("poly",)),
    "plateau_patience": ("scheduler", ("plateau",)),
    "residual": ("model", RESIDUAL),
}
"""Options that only some optimizers, schedules or networks look at: the field that names them, and which they are."""


def name_idle_options(config: TrainConfig, decide: Decide) -> None:
    """Say which they are; optimizer, schedule and network are resolved."""
    for name, (field, users) in BELONGS_TO.items():
        value, named = getattr(config, name), getattr(config, field)
        if named not in users and value != TrainConfig.model_fields[name].default:
            decide(name, value, f"this has no effect on {field}={named}; it belongs to {', '.join(users)}")
    share = config.val_fraction
    if config.folds and share != TrainConfig.model_fields["val_fraction"].default:
        why = f"this has no effect with folds={config.folds}: each fold is validated on its own part of the scans"
        decide("val_fraction", share, why)
