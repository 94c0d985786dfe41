"""The part of `octa diagnose` that holds masks against a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from octa_backend.commands.model_argument import find_model
from octa_backend.data.examination import Examination, Source
from octa_backend.data.intake import TWO_CLASSES, read_pair
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.pairing import Pair
from octa_backend.data.volume_intake import read_labelled
from octa_backend.data.volume_survey import survey_volumes
from octa_backend.diagnosis.messages import ordered
from octa_backend.inference.label_review import Labelled, LabelReview
from octa_backend.service.diagnosis_service import judge_labels
from octa_backend.service.predict_service import load_predictor
from octa_backend.settings import Settings


def review_labels(
    errors: Console, source: Source, examination: Examination, allowed: IntakeLimits, settings: Settings, model: str
) -> tuple[Examination, list[LabelReview]]:
    """Compare the masks with a model's confident predictions; the official test split is left alone.

    Returns:
        The examination with the finding about labels, if there is one; and the scans, the most suspicious first.

    Raises:
        ModelNotFound: there is no such model.
        ModelDoesNotFit: see `judge_labels`.
    """
    predictor = load_predictor(find_model(settings, model), settings.device, settings.engine)
    measured = {scan.name for scan in (*examination.statistics, *examination.volumes) if scan.split != "test"}
    pairs = [pair for pair in examination.pairs if pair.name in measured]
    read = _volumes if examination.spatial_dims == 3 else _pictures
    scans = read(source, pairs, allowed, examination.mask_values)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("predicting", total=len(pairs))
        classes = len(examination.mask_values or TWO_CLASSES)
        labels = judge_labels(predictor, scans, classes, lambda: bar.advance(task))
    findings = ordered([*examination.findings, *labels.findings])
    return replace(examination, findings=findings), list(labels.reviews)


def _pictures(
    source: Source, pairs: Sequence[Pair], allowed: IntakeLimits, mask_values: Sequence[int]
) -> Iterator[Labelled]:
    for pair in pairs:
        yield Labelled(pair.name, *read_pair(source, pair, allowed, mask_values))


def _volumes(
    source: Source, pairs: Sequence[Pair], allowed: IntakeLimits, mask_values: Sequence[int]
) -> Iterator[Labelled]:
    surveyed = survey_volumes(source, allowed.max_scan_voxels)
    for pair in pairs:
        yield Labelled(pair.name, *read_labelled(source, surveyed, pair, allowed, mask_values))
