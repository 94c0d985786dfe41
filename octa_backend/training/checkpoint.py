"""Checkpoints: written aside, renamed, and only then named in `index.json`, so that a kill never leaves half of one.

A checkpoint folder holds `weights.safetensors` (the network), `average.safetensors` (its running average),
`state.pt` (optimizer, schedule, generators; loaded with `weights_only`), `report.json` (the epoch's numbers) and
`plan.json` (the configuration as resolved, with reasons). The best one has neither `weights.safetensors` nor
`state.pt`. Beside them stands `treatments.json`, where the run was treated.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from octa_backend.errors import IncompatibleCheckpoint
from octa_backend.storage.files import folder_written_aside, remove, sync_folder_files, write_aside
from octa_backend.training.events import EpochFinished
from octa_backend.training.treatment import Treatment

State = dict[str, Any]

TREATMENTS_FILE = "treatments.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The epoch whose weights are published."""

    epoch: int
    val_dice: float

    @classmethod
    def of(cls, report: EpochFinished, before: Best | None) -> Best:
        """The better of an epoch and the best one before it; the earlier one if they are equal."""
        if before is not None and report.val_dice <= before.val_dice:
            return before
        return cls(report.epoch, report.val_dice)


@dataclass(frozen=True, slots=True)
class Index:
    """What the checkpoints hold: the last epoch, 0 where there is none to go on from yet, and the best one."""

    last: int
    best: Best


class Checkpoints:
    """The checkpoints of one job: the last epochs', to go on from, and the best epoch's, to publish."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def index(self) -> Index | None:
        """What there is, or None before the first epoch is finished."""
        path = self.folder / "index.json"
        if not path.exists():
            return None
        content = json.loads(path.read_text("utf-8"))
        return Index(content["last"], Best(**content["best"]))

    @property
    def last(self) -> int:
        """The epoch to go on from; 0 where there is none."""
        index = self.index
        return index.last if index else 0

    @property
    def treatments(self) -> tuple[Treatment, ...]:
        """What the run was given on its way, in order."""
        path = self.folder / TREATMENTS_FILE
        if not path.exists():
            return ()
        return tuple(Treatment.model_validate(one) for one in json.loads(path.read_text("utf-8")))

    def treat(self, treatment: Treatment) -> None:
        """Note one more treatment; the run goes on with it from the last epoch's checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = [one.model_dump(mode="json") for one in (*self.treatments, treatment)]
        write_aside(self.folder / TREATMENTS_FILE, json.dumps(content).encode())

    def save(
        self,
        report: EpochFinished,
        network: nn.Module,
        average: nn.Module,
        state: State | None,
        *,
        keep_last: int = 1,
        plan: Mapping[str, Any] | None = None,
    ) -> Best:
        """Keep an epoch as the last, and as the best where it is; then drop what is not kept any more.

        Args:
            report: the epoch's numbers.
            network: its weights.
            average: their running average.
            state: what it takes to go on, or None to keep the epoch only if it is the best.
            keep_last: how many of the last epochs are kept.
            plan: what is computed, to be read beside the weights.

        Returns:
            The best epoch so far.
        """
        before = self.index
        best = Best.of(report, before.best if before else None)
        is_best = before is None or best != before.best
        if state is None and not is_best:
            return best
        self.folder.mkdir(parents=True, exist_ok=True)
        if state is not None:
            self._write("last", report, {"weights": network, "average": average}, state, plan)
        if is_best:
            self._write("best", report, {"average": average}, None, plan)
        index = Index(report.epoch if state is not None else before.last if before else 0, best)
        write_aside(self.folder / "index.json", json.dumps(asdict(index)).encode())
        self._tidy(index, keep_last)
        return best

    def _write(
        self,
        kind: str,
        report: EpochFinished,
        networks: dict[str, nn.Module],
        state: State | None,
        plan: Mapping[str, Any] | None,
    ) -> None:
        target = self._path(kind, report.epoch)
        with folder_written_aside(target) as aside:
            for name, network in networks.items():
                save_weights(network, aside / f"{name}.safetensors")
            if state is not None:
                torch.save(state, aside / "state.pt")
            (aside / "report.json").write_text(json.dumps(asdict(report)), "utf-8")
            if plan is not None:
                (aside / "plan.json").write_text(json.dumps(plan), "utf-8")
            sync_folder_files(aside)
            remove(target)  # of an attempt that was killed after this epoch; at the end, as it may be the best one

    def _path(self, kind: str, epoch: int) -> Path:
        return self.folder / f"{kind}-{epoch:05d}"

    def _tidy(self, index: Index, keep_last: int) -> None:
        last = self._path("last", index.last).name
        lasts = sorted(path.name for path in self.folder.glob("last-*") if path.name <= last)
        named = {"index.json", TREATMENTS_FILE, self._path("best", index.best.epoch).name, *lasts[-keep_last:]}
        for path in self.folder.iterdir():
            if path.name not in named:
                with contextlib.suppress(PermissionError):  # Windows: another program reads it; after the next epoch
                    remove(path)

    def load_last(self, network: nn.Module, average: nn.Module) -> tuple[State, EpochFinished]:
        """Load the last epoch's weights into `network` and `average`; return the rest of it."""
        index = self.index
        assert index is not None
        folder = self._path("last", index.last)
        load_weights(network, folder / "weights.safetensors")
        load_weights(average, folder / "average.safetensors")
        report = EpochFinished(**json.loads((folder / "report.json").read_text("utf-8")))
        return self.last_state(), report

    def last_state(self) -> State:
        """What it takes to go on from the last epoch, but for the weights."""
        state: State = torch.load(self._path("last", self.last) / "state.pt", map_location="cpu", weights_only=True)
        return state

    def last_plan(self) -> dict[str, Any] | None:
        """What was computed in the last epoch; None where there is none, or an earlier version kept none."""
        return _plan_in(self._path("last", self.last))

    def best_plan(self) -> dict[str, Any] | None:
        """The same of the best epoch."""
        return _plan_in(self.best_weights().parent)

    def best_weights(self) -> Path:
        """The file with the best epoch's weights."""
        index = self.index
        assert index is not None
        return self._path("best", index.best.epoch) / "average.safetensors"


def _plan_in(folder: Path) -> dict[str, Any] | None:
    path = folder / "plan.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights as safetensors."""
    tensors: dict[str, Tensor] = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in network.state_dict().items()
    }
    save_file(tensors, path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load safetensors into a network of the same shape.

    Raises:
        IncompatibleCheckpoint: names or shapes differ.
    """
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError as error:
        raise IncompatibleCheckpoint(f"{path.name} does not fit the network: {error}") from error
