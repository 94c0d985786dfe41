"""A run as TensorBoard files. Three folders, one per meaning of a step:

`steps` (optimizer steps of the whole run), `epochs` (epochs; also configuration and plan as text) and `scans` (epochs;
pictures). Each attempt adds a file to each, and has TensorBoard drop what an earlier attempt wrote of steps that come
again.

Shapes: C channels, K output channels, *spatial pixels or voxels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from octa_backend.data.normalise import to_unit
from octa_backend.inference.pictures import contact_sheet
from octa_backend.inference.probability import predicted_classes
from octa_backend.models.regions import class_logits
from octa_backend.service.experiment import Experiment
from octa_backend.training.batches import steps_per_epoch
from octa_backend.training.checkpoint import Checkpoints
from octa_backend.training.evaluation import ShouldStop, whole_logits
from octa_backend.training.events import EpochFinished, Event, StepFinished, seconds_per_batch
from octa_backend.training.ignored import dataset_classes
from octa_backend.training.initial_weights import InitialWeights
from octa_backend.training.run import Emit
from octa_backend.training.trainer import Advise, Outcome, fit

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SCANS_DRAWN = 4
"""How many validation scans are drawn, the first ones, so that they are the same in every epoch."""

QUEUE_LENGTH, FLUSH_SECONDS = 1000, 30
"""The writer's own thread puts numbers on the disk after so many of them or so many seconds, and after every epoch."""


@contextmanager
def tensorboard(run: Experiment, folder: Path, last: int) -> Iterator[TensorBoardSink | None]:
    """A sink for one attempt, or None where the configuration wants none.

    Args:
        run: what is computed.
        folder: for the files; an earlier attempt's stay.
        last: the epoch after which this attempt goes on, 0 for the first one.
    """
    if not run.plan.config.tensorboard:
        yield None
        return
    sink = TensorBoardSink(run, folder, last)
    try:
        yield sink
    finally:
        sink.close()


def fit_with_board(
    run: Experiment,
    folder: Path,
    *,
    checkpoints: Checkpoints,
    emit: Emit,
    should_stop: ShouldStop,
    initial: InitialWeights | None,
    advise: Advise | None,
) -> Outcome:
    """`trainer.fit`; what it tells and shows goes into TensorBoard files in `folder` as well, where they are wanted."""
    with tensorboard(run, folder, checkpoints.last) as board:

        def tell(event: Event) -> None:
            emit(event)
            if board is not None:
                board(event)

        return fit(
            run.data,
            run.plan,
            checkpoints=checkpoints,
            emit=tell,
            should_stop=should_stop,
            initial=initial,
            show=board.show if board else None,
            advise=advise,
        )


class TensorBoardSink:
    """Takes the trainer's events and, after each epoch, the network; see `tensorboard`."""

    def __init__(self, run: Experiment, folder: Path, last: int) -> None:
        self._run = run
        steps = steps_per_epoch(run.data.train, run.plan)
        self._steps = _writer(folder / "steps", last * steps + 1)
        self._epochs = _writer(folder / "epochs", max(last, 1))  # the last epoch is told again
        self._scans = _writer(folder / "scans", last + 1)
        config, *rest = _as_text(run.plan.model_dump(mode="json"))
        self._epochs.add_text("config", config, last)
        self._epochs.add_text("plan", "\n".join(rest), last)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case StepFinished():
                self._add_step(event)
            case EpochFinished():
                self._add_epoch(event)

    def show(self, epoch: int, network: nn.Module) -> None:
        """Draw validation scans beside the grader's mask and the network's, where it is their turn."""
        config = self._run.plan.config
        every = config.tensorboard_images
        if every and (epoch % every == 0 or epoch in (1, self._run.plan.epochs)):
            for index in self._run.data.val[:SCANS_DRAWN]:
                name = self._run.data.store.manifest.scans[index].name
                picture = _picture(self._run, network, index)
                self._scans.add_image(f"scan/{name}", picture, epoch, dataformats="HWC")

    def close(self) -> None:
        """Put everything on the disk."""
        for writer in (self._steps, self._epochs, self._scans):
            writer.close()

    def _add_step(self, event: StepFinished) -> None:
        number = (event.epoch - 1) * event.steps + event.step
        for name, value in {"total": event.loss, **event.loss_components}.items():
            self._steps.add_scalar(f"loss_per_step/{name}", value, number)
        for name, value in event.gradient_norms.items():
            self._steps.add_scalar(f"gradient_norm_per_step/{name}", value, number)
        self._steps.add_scalar("lr/step", event.lr, number)

    def _add_epoch(self, event: EpochFinished) -> None:
        batch_size = self._run.plan.batch_size
        numbers = {
            "loss/train": event.train_loss,
            "loss/val": event.val_loss,
            **{f"loss_component/{name}": value for name, value in event.loss_components.items()},
            **{f"val/{name}": getattr(event, f"val_{name}") for name in ("dice", "iou", "precision", "recall")},
            **{f"gradient_norm/{name}": value for name, value in event.gradient_norms.items()},
            "lr/epoch": event.lr,
            "speed/scans_per_second": event.scans_per_second,
            "speed/seconds_per_epoch": event.seconds,
            "speed/seconds_per_batch": seconds_per_batch(event.scans_per_second, batch_size),
            "memory/peak_mb": event.peak_memory_mb,
        }
        for name, value in numbers.items():
            self._epochs.add_scalar(name, value, event.epoch)
        for writer in (self._steps, self._epochs, self._scans):
            writer.flush()


def _writer(folder: Path, first: int) -> SummaryWriter:
    """A writer that goes on in a folder; what is there from step `first` on is dropped."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes a second; a run may do without

    return SummaryWriter(str(folder), purge_step=first, max_queue=QUEUE_LENGTH, flush_secs=FLUSH_SECONDS)


def _as_text(plan: dict[str, Any]) -> Iterator[str]:
    """The configuration as a Markdown block of JSON, then the plan's lines: its other values and its reasons."""
    yield _block(plan.pop("config"))
    reasons = plan.pop("reasons")
    yield _block(plan)
    for reason in reasons:
        yield f"- **{reason['field']}** = {json.dumps(reason['value'])}: {reason['reason']}"


def _block(values: dict[str, Any]) -> str:
    """Markdown shows what is indented by four as it stands."""
    return "\n".join(f"    {line}" for line in json.dumps(values, indent=1, ensure_ascii=False).splitlines()) + "\n"


@torch.inference_mode()
def _picture(run: Experiment, network: nn.Module, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Two rows, uint8 (H, W, 3): the scan with the grader's mask, then with the network's; of a volume its middle."""
    image = to_unit(run.data.store.image(index))
    mask = run.data.store.mask(index).astype(np.uint8)
    logits, _ = whole_logits(network, run.data, run.plan, index)
    answer = predicted_classes(class_logits(logits, run.plan.region_order))[0].to("cpu", torch.uint8).numpy()
    found = dataset_classes(answer, run.plan.config.ignore_index)
    if mask.ndim == 3:
        middle = mask.shape[0] // 2
        image, mask, found = image[:, middle], mask[middle], found[middle]
    return contact_sheet([(image, mask), (image, found)], run.plan.dataset_classes, run.data.store.manifest.labels)
