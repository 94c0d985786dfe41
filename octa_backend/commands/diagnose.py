"""`octa diagnose`: check a zip or a folder of scans and masks, show what is wrong, and repair what can be repaired."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text as Styled

from octa_backend.commands.terminal import lacks_letters
from octa_backend.data.class_table import in_order
from octa_backend.data.examination import Examination, Source
from octa_backend.data.intake import examine, opened_source, read_pair
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.pairing import Pair
from octa_backend.data.volume_intake import read_slices
from octa_backend.diagnosis.dataset import CHECKS, LABEL_CHECK
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.remedies import CONFIG_REMEDIES, DATASET_REMEDIES, config_changes, plan_repair
from octa_backend.diagnosis.report import (
    Mark,
    Report,
    first_few,
    glyphs_for,
    in_words,
    printable,
    report,
    text_lines,
    train_options,
)
from octa_backend.diagnosis.text import Language, Text, render
from octa_backend.diagnosis.volumes import VOLUME_CHECKS
from octa_backend.errors import RemedyNotApplicable, ScanTooLarge, UnreadableScan
from octa_backend.service.dataset_service import limits
from octa_backend.service.repair_service import Choose, automatic, idle_remedies, write_repaired_copy
from octa_backend.settings import Settings
from octa_backend.storage.outputs import keep_apart

if TYPE_CHECKING:  # torch is imported with --model only
    from octa_backend.inference.label_review import LabelReview

SHEET_ROWS = 24

STYLES: Mapping[Mark, str] = {Mark.PASSED: "green", Mark.INFO: "cyan", Mark.WARNING: "yellow", Mark.ERROR: "red"}

_HEAD = Text("{path}: {scans} scans", "{path}：{scans} 个扫描图像")
_SHEET = Text("contact sheet in {path}; its rows: {rows}", "对照图：{path}；各行为：{rows}")
_NO_SHEET = Text("no scan could be read, so there is no contact sheet", "没有可读取的扫描图像，未生成对照图")
_REPAIRED = Text("repaired dataset in {path}", "修复后的数据集：{path}")
_CHANGED = Text("  {remedy} ({count}): {scans}", "  {remedy}（{count}）：{scans}")
_NOTHING = Text(
    "nothing to repair: no file was written, use {path} as it is",
    "无需修复：未写入文件，请直接使用 {path}",
)
_NOT_SAFE = Text(
    "no safe remedy mends this: no file was written; see the findings",
    "没有可安全应用的修复：未写入文件；请查看上述结果",
)
_TRAIN = Text("train it with: octa train {path} {options}", "训练命令：octa train {path} {options}")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What to do besides checking.

    Attributes:
        as_json: print one JSON object instead of lines.
        sheet: PNG to write, or None.
        fix: zip to write, or None.
        remedies: exactly these; empty takes the safe ones that the findings propose.
        model: a model's folder or id that the masks are held against, or None.
    """

    as_json: bool = False
    sheet: Path | None = None
    fix: Path | None = None
    remedies: tuple[str, ...] = ()
    model: str | None = None


def diagnose(console: Console, errors: Console, path: Path, settings: Settings, wishes: Wishes) -> int:
    """Check a dataset and print what was found; a bar on `errors` shows how far it is.

    Returns:
        0 clean, 1 warnings, 2 errors: of the repaired zip where one was written.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip or the folder cannot be read.
        RemedyNotApplicable: a remedy is unknown, is one of the training, or changes nothing here.
        InvalidDataset: the repair would leave no scan.
        ModelNotFound, ModelDoesNotFit: there is no such model, or it ignores a class that the masks do not have.
        OctaError: the zip or the sheet to write is the dataset that is read.
    """
    _check_wishes(path, wishes)
    paper = _Paper(console, settings.language, silent=wishes.as_json)
    allowed = limits(settings)
    with opened_source(path, allowed) as source:
        examination = _examined(errors, source, allowed)
        reviews: list[LabelReview] = []
        if wishes.model is not None:
            from octa_backend.commands.label_review import review_labels  # noqa: PLC0415 - imports torch

            examination, reviews = review_labels(errors, source, examination, allowed, settings, wishes.model)
        found = paper.show(path, examination, reviewed=bool(reviews))
        answer = _answer(path, examination, found, settings.language)
        if reviews:
            answer["label_review"] = [asdict(one) | {"disagreement": one.disagreement} for one in reviews]
        if wishes.sheet is not None:
            answer["sheet"] = _sheet(paper, source, examination, allowed, wishes.sheet)
        if wishes.fix is not None:
            answer["repair"] = _repaired(paper, source, path, examination, allowed, wishes.fix, wishes.remedies)
    if answer.get("repair") and wishes.fix is not None:
        with opened_source(wishes.fix, allowed) as source:
            examination = _examined(errors, source, allowed)
        found = paper.show(wishes.fix, examination)
        paper.training(wishes.fix, examination)
        answer["repair"]["result"] = _answer(wishes.fix, examination, found, settings.language)
    if wishes.as_json:
        shown = json.dumps(answer, ensure_ascii=lacks_letters(console), indent=1)
        console.print(Styled(shown), soft_wrap=True)
    return found.exit_status


class _Paper:
    """Prints what the console can show, in its language; nothing where the answer is JSON."""

    def __init__(self, console: Console, language: Language, *, silent: bool) -> None:
        self._console, self.language, self._silent = console, language, silent
        self._encoding = console.encoding
        self._glyphs = glyphs_for("ascii" if console.legacy_windows else console.encoding)  # its font has no emoji

    def line(self, text: str, style: str = "") -> None:
        """Print a line, without what the console cannot show; nothing where it is silent."""
        if not self._silent:
            self._console.print(Styled(printable(text, self._encoding), style), soft_wrap=True)

    def say(self, text: Text, **facts: object) -> None:
        """Print a text in the reader's language, with its facts filled in."""
        self.line(render(text, facts, self.language))

    def show(self, path: Path, examination: Examination, *, reviewed: bool = False) -> Report:
        """Print the report of a dataset; `reviewed` where its labels were held against a model."""
        scans = examination.readable
        checks = VOLUME_CHECKS if examination.spatial_dims == 3 else CHECKS
        found = report(
            examination.findings,
            (*checks, LABEL_CHECK) if reviewed else checks,
            self.language,
            scans=scans,
            mask_values=examination.mask_values,
            path=_quoted(path),
        )
        self.say(_HEAD, path=path, scans=scans)
        for mark, text in text_lines(found, self._glyphs):
            self.line(text, STYLES[mark] if mark else "" if text.startswith(" ") else "bold")
        return found

    def training(self, path: Path, examination: Examination) -> None:
        """Print how to train on a repaired dataset, where its findings change the configuration."""
        if changes := config_changes(examination.findings):
            self.say(_TRAIN, path=_quoted(path), options=train_options(changes))


def _quoted(path: Path) -> str:
    """A path as the system's command line wants it."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


def _examined(errors: Console, source: Source, allowed: IntakeLimits) -> Examination:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("reading scans", total=None)
        return examine(source, allowed, lambda done, total: bar.update(task, completed=done, total=total))


def _answer(path: Path, examination: Examination, found: Report, language: Language) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "path": str(path),
        "scans": examination.readable,
        "verdict": found.verdict,
        "summary": found.summary,
        "counts": dict(found.counts),
        "findings": [describe(finding, language) for finding in examination.findings],
        "sections": [asdict(section) for section in found.sections],
    }


# --- contact sheet ------------------------------------------------------------------------------------------------


def _sheet(
    paper: _Paper, source: Source, examination: Examination, allowed: IntakeLimits, target: Path
) -> dict[str, Any]:
    """Draw the worst scans; says which stand in which row."""
    from octa_backend.inference import pictures  # noqa: PLC0415 - imports torch

    rows: dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]] = {}
    for pair in worst_first(examination):
        if len(rows) == SHEET_ROWS:
            break
        try:
            read = read_slices if examination.spatial_dims == 3 else read_pair
            rows[pair.name] = pictures.sheet_row(*read(source, pair, allowed, examination.mask_values))
        except (UnreadableScan, ScanTooLarge):
            continue  # its finding says so
    if not rows:
        paper.say(_NO_SHEET)
        return {"path": None, "scans": []}
    values = examination.mask_values or range(max(2, *(int(mask.max()) + 1 for _, mask in rows.values())))
    drawn = pictures.contact_sheet(list(rows.values()), len(values), in_order(examination.labels, values))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(pictures.png(drawn))
    paper.say(_SHEET, path=target, rows=", ".join(rows))
    return {"path": str(target), "scans": list(rows)}


def worst_first(examination: Examination) -> list[Pair]:
    """The scans that findings name, those of errors first; then the others by name."""
    by_name = {name: pair for pair in examination.pairs for name in (pair.name, pair.image, pair.mask)}
    named = [by_name[name] for finding in examination.findings for name in finding.scans if name in by_name]
    return list(dict.fromkeys([*named, *examination.pairs]))


# --- repair -------------------------------------------------------------------------------------------------------


def _check_wishes(path: Path, wishes: Wishes) -> None:
    for code in wishes.remedies:
        if code in CONFIG_REMEDIES:
            raise RemedyNotApplicable(f"{code} changes the training, not the data; give it to octa train as an option")
        if code not in DATASET_REMEDIES:
            raise RemedyNotApplicable(f"no remedy is called {code!r}; there are {', '.join(DATASET_REMEDIES)}")
    if wishes.remedies and wishes.fix is None:
        raise RemedyNotApplicable("--remedy needs --fix OUT.zip: the repaired dataset is written there")
    for written in (wishes.fix, wishes.sheet):
        keep_apart(written, path, "the dataset itself")
    keep_apart(wishes.sheet, wishes.fix, "the repaired dataset, too")


def _repaired(
    paper: _Paper,
    source: Source,
    path: Path,
    examination: Examination,
    allowed: IntakeLimits,
    target: Path,
    remedies: Sequence[str],
) -> dict[str, Any] | None:
    """Write the repaired zip and say what changed; None where there was nothing to change."""
    steps = plan_repair(examination, remedies or automatic(examination))
    if idle := idle_remedies(remedies, steps, examination):
        raise RemedyNotApplicable(f"{', '.join(sorted(idle))} changes nothing in {path}; its findings name what would")
    if not steps:
        paper.say(_NOT_SAFE if examination.errors else _NOTHING, path=path)
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    choose: Choose = (lambda _: remedies) if remedies else automatic
    changed = write_repaired_copy(source, examination, choose, target, allowed)
    paper.say(_REPAIRED, path=target)
    for remedy in DATASET_REMEDIES:
        scans = [f"{step.scan} ({in_words(step.details)})" for step in changed if step.remedy == remedy]
        if scans:
            shown = first_few(scans, len(scans), paper.language)
            paper.say(_CHANGED, remedy=remedy, count=len(scans), scans=shown)
    return {"path": str(target), "steps": [asdict(step) for step in changed]}
