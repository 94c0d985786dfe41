"""The end of a cross-validation: its folds' networks become an ensemble, which is scored on the test split once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from octa_backend.data.store import DatasetStore
from octa_backend.inference.model_card import CARD_FORMAT
from octa_backend.inference.model_folder import CARD_FILE
from octa_backend.service import model_service
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.service.evaluation_model import load_model
from octa_backend.service.evaluation_run import Evaluation, EvaluationOptions, design_evaluation
from octa_backend.service.experiment import Source, dice_per_scan, scan_statistics, summarise
from octa_backend.service.job_report import in_short
from octa_backend.service.report_service import read_report, write_report
from octa_backend.training.cross_validation import CrossValidation, FoldResult
from octa_backend.training.cross_validation_html import to_html
from octa_backend.training.evaluation_report import (
    EvaluationReport,
    ScanResult,
    make_report,
    read_scans,
    read_subject,
)
from octa_backend.training.threshold import pool

SHARED = (
    *("network", "spatial_dims", "residual", "network_shape", "patch_shape", "modalities", "channels", "classes"),
    *("region_order", "ignore_index", "labels", "mask_values", "normalisation", "common_spacing_mm", "dataset", "plan"),
    "notice",
)
"""Fields in which the cards of all folds agree."""


@dataclass(frozen=True, slots=True)
class Member:
    """One fold's outcome.

    Attributes:
        fold: 1, 2, …
        model: the folder of its published model.
        report: what its job found on the scans that it left out.
    """

    fold: int
    model: Path
    report: Mapping[str, Any]

    @property
    def card(self) -> dict[str, Any]:
        """Of its model."""
        content: dict[str, Any] = json.loads((self.model / CARD_FILE).read_text("utf-8"))
        return content

    @property
    def result(self) -> FoldResult:
        """Its line in the summary."""
        scans = read_scans(self.report)
        dices = dice_per_scan(scans).values() or [0.0]
        return FoldResult(self.fold, self.model.name, self.report["training"]["best_epoch"], len(scans), fmean(dices))


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A cross-validation whose folds are all done.

    Attributes:
        store: the dataset.
        source: its zip.
        members: one for each fold, in order.
        models: the folder in which, or below which, the members' folders lie; it gets the ensemble's.
        prefix: the ensemble's name begins with it.
        reports: gets `report.json` and `report.html`.
        device: the `device` setting.
    """

    store: DatasetStore
    source: Source
    members: Sequence[Member]
    models: Path
    prefix: str
    reports: Path
    device: str

    @property
    def name(self) -> str:
        """The ensemble's name: another one as soon as one of its members is another one."""
        names = "\n".join(map(self._folder, self.members))
        digest = hashlib.sha256(names.encode()).hexdigest()
        return f"{self.prefix}{digest[:8]}"

    def _folder(self, member: Member) -> str:
        return member.model.relative_to(self.models).as_posix()

    def make(self, on_scan: Callable[[str], None]) -> dict[str, Any]:
        """Score the test split, write the report and publish the ensemble; return its card.

        A test split that was scored with the same members is not scored again.

        Args:
            on_scan: is told the name of every test scan that is done; what it raises breaks off.

        Raises:
            IncompatibleCheckpoint: a member's model is gone, or does not fit.
        """
        card = self._card()
        kept = read_report(self.reports)
        if kept is not None and kept.get("model") == self.name:
            tested = read_scans(kept["test"]) if kept["test"] else []
        else:
            test = self._score(card, on_scan) if card["splits"]["test"] else None
            self._report(card, test)
            tested = list(test.report.scans) if test else []
        card |= {
            "test": summarise(tested),
            "test_dice_per_scan": dice_per_scan(tested),
        }
        model_service.write_model(self.models / self.name, None, card)
        return card

    def _card(self) -> dict[str, Any]:
        """The first member's card, with what is the ensemble's own."""
        cards = [member.card for member in self.members]
        splits = cards[0]["splits"]
        findings = {json.dumps(finding): finding for card in cards for finding in card.get("findings", ())}
        members = [
            {
                "fold": member.fold,
                "model_id": member.model.name,
                "folder": self._folder(member),
                "best": card["best"],
            }
            for member, card in zip(self.members, cards, strict=True)
        ]
        seen = {*splits["train"], *splits["val"]}
        indices = [index for index, entry in enumerate(self.store.manifest.scans) if entry.name in seen]
        return {
            "format": CARD_FORMAT,
            "model_id": self.name,
            **{name: cards[0][name] for name in SHARED if name in cards[0]},
            "members": members,
            "splits": {**splits, "train": [self.store.manifest.scans[index].name for index in indices], "val": []},
            "best": None,
            "tuned_threshold": self._tuned(),
            "scan_statistics": scan_statistics(self.store, indices, cards[0]["normalisation"]),
            "findings": list(findings.values()),
            "versions": model_service.versions(),
            "licence": None,
        }

    def _tuned(self) -> dict[str, Any] | None:
        """The threshold that is best for the members, each on the scans that it left out; None with several classes."""
        found = [member.report["tuned"] for member in self.members]
        if not all(found):
            return None
        return in_short(asdict(pool([(list(tuned["curve"].values()), tuned["scans"]) for tuned in found])))

    def _score(self, card: Mapping[str, Any], on_scan: Callable[[str], None]) -> Evaluation:
        model = load_model(self.models / self.name, card, self.device)
        data = EvaluatedZip(self.store, self.source.name, self.source.sha256)
        return design_evaluation(model, data, EvaluationOptions(split="test")).run(on_scan)

    def _report(self, card: Mapping[str, Any], test: Evaluation | None) -> None:
        found = CrossValidation(
            model=self.name,
            folds=tuple(member.result for member in self.members),
            out_of_fold=self._out_of_fold(),
            test=test.report if test else None,
            config=card["plan"]["config"],
        )
        write_report(self.reports, found.to_json(), to_html(found, test.pictures if test else ()))

    def _out_of_fold(self) -> EvaluationReport:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        subject = read_subject(self.members[0].report)
        subject = replace(subject, model=self.name, split="out_of_fold", created_at=now)
        scans = [scan for member in self.members for scan in read_scans(member.report)]
        return make_report(subject, self._in_order(scans), notes=("out_of_fold", "epoch_chosen_on_these_scans"))

    def _in_order(self, scans: Iterable[ScanResult]) -> list[ScanResult]:
        place = {scan.name: number for number, scan in enumerate(self.store.manifest.scans)}
        return sorted(scans, key=lambda scan: place[scan.name])
