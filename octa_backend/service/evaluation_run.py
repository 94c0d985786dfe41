"""The evaluation of a published model on a prepared dataset: no database, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.normalise import to_unit
from octa_backend.errors import ModelDoesNotFit, OctaError
from octa_backend.inference.comparison_picture import comparison
from octa_backend.inference.difference_picture import INVENTED, MISSED, MIXED_UP, RIGHT
from octa_backend.inference.pictures import png
from octa_backend.service.evaluation_data import Division, EvaluatedZip, divide
from octa_backend.service.evaluation_model import EvaluatedModel, decide
from octa_backend.service.model_fit import other_scans
from octa_backend.service.model_service import versions
from octa_backend.training.evaluation_html import Picture
from octa_backend.training.evaluation_report import WORST, EvaluationReport, ScanResult, Subject, make_report
from octa_backend.training.ignored import IGNORED, ignored_class, network_classes
from octa_backend.training.run_facts import RunFacts
from octa_backend.training.scan_metrics import Scale, measure_scan
from octa_backend.training.spacings import scale_of, scale_of_scan
from octa_backend.training.threshold import USUAL, ProbabilityHistogram, TunedThreshold, tune_threshold


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        split: "test", "val", "train" or "all". None is the test split where there is one; else the validation scans
            of the model's own dataset, or all scans of another one.
        threshold: a pixel is foreground from this probability on (binary models only).
        pixel_size_um: side of a pixel, one for all axes or one for each; empty measures lengths in mm where the scans
            say how large their voxels are, else in pixels.
        tolerance: of the surface Dice, in µm, mm or pixels; None is one pixel.
        tune_threshold: also find the threshold of the highest mean Dice on the validation scans.
        use_tuned_threshold: and score the scans with it.
    """

    split: str | None = None
    threshold: float = USUAL
    pixel_size_um: tuple[float, ...] = ()
    tolerance: float | None = None
    tune_threshold: bool = False
    use_tuned_threshold: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The report, and pictures of its worst scans."""

    report: EvaluationReport
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """A model, a dataset and how to compare them; `total` scans are computed.

    Pixels of the class `ignore_index` of the dataset are left out. `known` are notes beside the usual ones.
    """

    model: EvaluatedModel
    data: EvaluatedZip
    division: Division
    split: str
    indices: tuple[int, ...]
    tuning: tuple[int, ...]
    threshold: float
    use_tuned: bool
    scale: Scale
    ignore_index: int | None
    known: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How often `on_scan` will be called."""
        return len(self.tuning) + len(self.indices)

    def run(
        self,
        on_scan: Callable[[str], None],
        history: Sequence[Mapping[str, Any]] = (),
        training: RunFacts | None = None,
    ) -> Evaluation:
        """Compute every scan and sum up.

        Args:
            on_scan: is told the name of every scan that is done.
            history: the epochs of the training, for its curves.
            training: how the model was trained.
        """
        tuned = tune_threshold([self._histogram(index, on_scan) for index in self.tuning]) if self.tuning else None
        threshold = tuned.threshold if tuned and self.use_tuned else self.threshold
        results: list[ScanResult] = []
        pictures: list[tuple[float, Picture]] = []
        for index in self.indices:
            result, predicted = self._measure(index, threshold)
            results.append(result)
            self._keep_if_bad(pictures, result, index, predicted)
            on_scan(result.name)
        report = make_report(
            self._subject(threshold),
            results,
            notes=self._notes(tuned),
            tuned=tuned,
            history=history,
            training=training,
        )
        return Evaluation(report, tuple(picture for _, picture in pictures))

    def _histogram(self, index: int, on_scan: Callable[[str], None]) -> ProbabilityHistogram:
        store = self.data.store
        probability, target = self._probabilities(index)[1], self._target(index)
        counted = target != IGNORED
        histogram = ProbabilityHistogram.of(probability[counted], target[counted] > 0)
        on_scan(store.manifest.scans[index].name)
        return histogram

    def _probabilities(self, index: int) -> NDArray[np.float32]:
        store = self.data.store
        return self.model.probabilities(store.image(index), store.manifest.scans[index].spacing_mm)

    def _target(self, index: int) -> NDArray[np.int64]:
        """A mask with the network's classes, `IGNORED` where a pixel does not count."""
        return network_classes(self.data.store.mask(index), self.ignore_index)

    def _measure(self, index: int, threshold: float) -> tuple[ScanResult, NDArray[np.uint8]]:
        target = self._target(index)
        counted = target != IGNORED
        scan = self.data.store.manifest.scans[index]
        scale = scale_of_scan(self.scale, scan)
        probability = self._probabilities(index)
        predicted = decide(probability, threshold) * counted.view(np.uint8)
        result = ScanResult(
            name=scan.name,
            split=self.division.split_of(index),
            metrics=measure_scan(predicted, target, probability, scale, self.model.plan.regions),
            true_fraction=float(np.count_nonzero(target > 0) / max(1, counted.sum())),
            found_fraction=float(np.count_nonzero(predicted) / max(1, counted.sum())),
            spacing=scan.known_spacing_mm,
        )
        return result, predicted

    def _keep_if_bad(
        self, kept: list[tuple[float, Picture]], result: ScanResult, index: int, predicted: NDArray[np.uint8]
    ) -> None:
        """Keep pictures of the worst scans so far, so that not all predictions must stay in memory."""
        dice = result.metrics.overall.dice
        if dice is None or (len(kept) == WORST and dice >= kept[-1][0]):
            return
        store = self.data.store
        target = self._target(index).clip(min=0)
        picture = comparison(to_unit(store.image(index)), predicted, target, (RIGHT, INVENTED, MISSED, MIXED_UP))
        kept.append((dice, Picture(result.name, png(picture))))
        kept.sort(key=lambda one: one[0])
        del kept[WORST:]

    def _subject(self, threshold: float) -> Subject:
        plan = self.model.plan
        return Subject(
            model=self.model.name,
            network=plan.config.model,
            dataset=self.data.name,
            sha256=self.data.sha256,
            split=self.split,
            classes=plan.classes,
            threshold=threshold if plan.classes == 2 else None,
            scale=self.scale,
            device=plan.device,
            precision=plan.config.precision,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
            ignore_index=plan.config.ignore_index,
            tta=self.model.tta,
            views=self.model.views,
        )

    def _notes(self, tuned: TunedThreshold | None) -> list[str]:
        seen, splits = set(self.indices), self.division.splits
        facts = {
            "trained_on_these_scans": self.division.own and bool(seen & set(splits["train"])),
            "epoch_chosen_on_these_scans": self.division.own and bool(seen & set(splits["val"])),
            "threshold_tuned_on_these_scans": tuned is not None and self.use_tuned and bool(seen & set(self.tuning)),
            "other_dataset": not self.division.own,
        }
        return [*self.known, *(code for code, applies in facts.items() if applies)]


def design_evaluation(model: EvaluatedModel, data: EvaluatedZip, options: EvaluationOptions) -> EvaluationRun:
    """Check that model, dataset and options fit together.

    Raises:
        OctaError: they do not; the message says what would.
    """
    manifest, plan = data.store.manifest, model.plan
    if differs := other_scans(model.card, manifest.spatial_dims, manifest.channels):
        raise ModelDoesNotFit(f"model {model.name} {differs}")
    ignore_index = ignored_class(manifest.classes, plan.dataset_classes, plan.config.ignore_index)
    tune = options.tune_threshold or options.use_tuned_threshold
    if tune and plan.classes != 2:
        raise OctaError(f"the model has {plan.classes} classes, of which the likeliest wins: there is no threshold")
    try:
        scale = scale_of(manifest, options.pixel_size_um, options.tolerance)
    except ValueError as error:
        raise OctaError(str(error)) from error
    if model.common_spacing_mm and (unknown := [scan.name for scan in manifest.scans if not scan.known_spacing_mm]):
        sides = "×".join(f"{side:g}" for side in model.common_spacing_mm)
        raise OctaError(
            f"{unknown[0]} does not say how large its voxels are, but the model was trained on voxels of {sides} mm; "
            "evaluate it on NIfTI files"
        )
    division = divide(data, model.card)
    split, indices = division.choose(options.split)
    return EvaluationRun(
        model=model,
        data=data,
        division=division,
        split=split,
        indices=indices,
        tuning=division.validation() if tune else (),
        threshold=options.threshold,
        use_tuned=options.use_tuned_threshold,
        scale=scale,
        ignore_index=ignore_index,
    )
