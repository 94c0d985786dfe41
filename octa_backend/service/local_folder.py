"""The folder of a training without a server: what lies where, and what the training was begun with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from octa_backend.errors import NoModelYet, OctaError
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.config import OF_VOLUMES, TrainConfig
from octa_backend.training.plan import Plan

DATASET_FOLDER = "dataset"
PLAN_FILE = "plan.json"
MARK_FILE = "dataset.sha256"
CHECKPOINTS = "checkpoints"
LATEST = "latest"
"""How a training's last checkpoint may be named, below the training's folder; there is no such file."""

CHANGEABLE = (
    *("epochs", "lr", "patience", "max_minutes", "val_freq", "save_freq", "keep_last"),
    *("pretrained", "start_checks", "tensorboard", "tensorboard_images"),
)
"""Fields that a run may go on with changed under the plan it was begun with."""


def fold_folder(out: Path, fold: int, folds: int) -> Path:
    """Where one fold of a cross-validation keeps everything."""
    return out / f"fold-{fold}-of-{folds}"


def checkpoints_of(out: Path) -> Checkpoints:
    """Those of a training, or of one fold, that has a folder."""
    return Checkpoints(out / CHECKPOINTS)


def kept(folder: Path) -> dict[str, Any] | None:
    """What the training, or the fold, in a folder was begun with; None if it was not begun."""
    path = folder / PLAN_FILE
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def last_begun(out: Path) -> dict[str, Any] | None:
    """The same, whether `out` holds a training or a cross-validation; where it holds several, of the latest one."""
    plans = [path / PLAN_FILE for path in _trainings(out) if (path / PLAN_FILE).exists()]
    return kept(max(plans, key=lambda path: path.stat().st_mtime_ns).parent) if plans else None


def is_begun(out: Path) -> bool:
    """Whether `out` holds a training, or a fold of one, that was begun."""
    return last_begun(out) is not None or any(checkpoints_of(folder).last for folder in _trainings(out))


def begun(out: Path) -> dict[str, Any]:
    """The same.

    Raises:
        NoModelYet: no training was begun there.
    """
    found = last_begun(out)
    if found is None:
        raise NoModelYet(f"{out} holds no training; name the scans to begin one")
    return found


def values_of(out: Path) -> dict[str, Any]:
    """The fields that the user set for the training in a folder, and those that volumes have another default for.

    Raises:
        NoModelYet: no training was begun there.
    """
    found = begun(out)
    defaults = TrainConfig().model_dump(mode="json")
    by_user = {name: value for name, value in found["config"].items() if name not in found["config_changes"]}
    return {name: value for name, value in by_user.items() if value != defaults.get(name) or name in OF_VOLUMES}


def earlier_plan(folder: Path, config: TrainConfig) -> Plan | None:
    """The plan that a training was begun with, unless the configuration is now another one."""
    found = kept(folder)
    if found is None:
        return None
    changes = {name: getattr(config, name) for name in CHANGEABLE}
    same = TrainConfig.model_validate(found["config"]).model_copy(update=changes) == config
    return Plan.model_validate(found["plan"]) if same else None


def plan_of_weights(folder: Path) -> Plan | None:
    """The plan that the weights which a training goes on from were trained with; None if there are none."""
    found = checkpoints_of(folder).last_plan()
    return Plan.model_validate(found) if found is not None else None


def folder_to_resume(path: Path) -> Path:
    """The folder of the training that a path names: the folder itself, `latest` in it, its last checkpoint, or a file.

    A fold of a cross-validation stands for all of it.

    Raises:
        OctaError: it names none, or another checkpoint than the last one.
    """
    if not path.exists() and path.name != LATEST:
        raise OctaError(f"{path} is not there; name a training's folder, {LATEST} in it, or its last checkpoint")
    path = path.resolve()
    out = next((folder for folder in (path, *path.parents) if (folder / MARK_FILE).is_file()), None)
    if out is None:
        raise OctaError(f"{path} is no training's folder and in none; begin with its weights by --pretrained {path}")
    if not any(checkpoints_of(folder).last for folder in _trainings(out)):
        raise OctaError(f"{out} holds no checkpoint to go on from; run the training without --resume")
    _refuse_earlier_checkpoint(path, out)
    return out


def _trainings(out: Path) -> list[Path]:
    """The folder itself and those of folds in it."""
    return [out, *sorted(out.glob("fold-*-of-*"))]


def _refuse_earlier_checkpoint(path: Path, out: Path) -> None:
    inside = (folder for folder in (path, *path.parents) if folder.is_relative_to(out) and folder != out)
    named = next((folder for folder in inside if folder.name.startswith(("last-", "best-"))), None)
    if named is None:
        return
    last = f"last-{Checkpoints(named.parent).last:05d}"
    if named.name != last:
        raise OctaError(
            f"a training goes on from its last checkpoint, {last}, not from {named.name}; begin another one with "
            f"its weights by --pretrained {path}"
        )
