"""What is to be seen of a dataset beyond its row: the contact sheet, and its masks against a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.slices import three_slices
from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.labels import label_findings
from octa_backend.diagnosis.messages import ordered
from octa_backend.errors import DatasetNotFound
from octa_backend.service.dataset_service import findings_of
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Dataset

if TYPE_CHECKING:  # torch is imported with the first picture, not with the server
    from octa_backend.inference.label_review import Labelled, LabelReview
    from octa_backend.inference.predictor import Predictor


@dataclass(frozen=True, slots=True)
class LabelDiagnosis:
    """Scans by how much their masks contradict a model, the most suspicious first; and what that means."""

    reviews: Sequence[LabelReview]
    findings: Sequence[Finding]


def contact_sheet(files: Files, dataset: Dataset, rows: int) -> bytes:
    """PNG with image, mask and overlay of up to `rows` scans, those that the findings name first.

    Of a volume three slices are shown, see `slices.three_slices`.

    Raises:
        DatasetNotFound: it is deleted meanwhile.
    """
    from octa_backend.inference import pictures  # noqa: PLC0415 - imports torch

    with _opened(files, dataset) as store:
        order = worst_first([scan.name for scan in store.manifest.scans], findings_of(dataset))[:rows]
        pairs = [pictures.sheet_row(*_as_picture(store, index)) for index in order]
        return pictures.png(pictures.contact_sheet(pairs, store.manifest.classes, store.manifest.labels))


@contextmanager
def _opened(files: Files, dataset: Dataset) -> Iterator[DatasetStore]:
    """The scans of a dataset; a file that is missing means that it is being deleted."""
    try:
        yield DatasetStore(files.dataset(dataset.id))
    except FileNotFoundError as error:
        raise DatasetNotFound(f"dataset {dataset.id} was deleted while it was read") from error


def _as_picture(store: DatasetStore, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """A scan and its mask, (C, H, W) and (H, W)."""
    image, mask = store.image(index), store.mask(index)
    return (image, mask) if mask.ndim == 2 else three_slices(image, mask, store.manifest.scans[index].spacing_mm)


def worst_first(names: Sequence[str], findings: Sequence[Finding]) -> list[int]:
    """Indices of scans, those named by the gravest findings first, then the others in order."""
    rank: dict[str, int] = {}
    for position, finding in enumerate(ordered(findings)):
        for scan in finding.scans:
            rank.setdefault(scan, position)
    return sorted(range(len(names)), key=lambda index: (rank.get(names[index], len(findings)), index))


def review_labels(files: Files, dataset: Dataset, predictor: Predictor) -> LabelDiagnosis:
    """Compare a dataset's masks with a model's confident predictions; the official test split is left alone.

    Raises:
        DatasetNotFound: it is deleted meanwhile.
        ModelDoesNotFit: see `judge_labels`.
    """
    from octa_backend.inference.label_review import Labelled  # noqa: PLC0415 - imports torch

    with _opened(files, dataset) as store:
        entries = enumerate(store.manifest.scans)
        scans = (
            Labelled(scan.name, store.image(at), store.mask(at), scan.known_spacing_mm)
            for at, scan in entries
            if scan.split != "test"
        )
        return judge_labels(predictor, scans, store.manifest.classes)


def judge_labels(
    predictor: Predictor, scans: Iterable[Labelled], classes: int, progress: Callable[[], None] = lambda: None
) -> LabelDiagnosis:
    """Compare masks of so many classes with a model's confident predictions; those that it ignores do not count.

    Raises:
        ModelDoesNotFit: the model ignores a class, but was trained on masks with other classes; or see
            `label_review.review`.
    """
    from octa_backend.inference.label_review import review  # noqa: PLC0415 - imports torch
    from octa_backend.training.ignored import ignored_class  # noqa: PLC0415 - imports torch

    ignored = predictor.ignore_index
    if ignored is not None:
        ignored = ignored_class(classes, predictor.classes, ignored)
    reviews = review(predictor, scans, ignored, progress)
    findings = label_findings(
        {found.scan: found.disagreement for found in reviews}, {found.scan: found.dice for found in reviews}
    )
    return LabelDiagnosis(reviews, findings)
