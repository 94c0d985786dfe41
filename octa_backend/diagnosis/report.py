"""What the checks say of a dataset, as sections of lines that can be printed. No console here: lines are plain text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from octa_backend.diagnosis.findings import Finding, Severity, verdict_of
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.remedies import DATASET_REMEDIES, is_safe
from octa_backend.diagnosis.text import Language, Text, render

if TYPE_CHECKING:
    from octa_backend.diagnosis.checks import Check

SHOWN_SCANS = 5
"""How many scans a line of the report names; the finding itself names more."""


class Mark(StrEnum):
    """How a check went."""

    PASSED = "passed"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


GLYPHS: Mapping[Mark, str] = {Mark.PASSED: "✓", Mark.INFO: "ℹ️", Mark.WARNING: "⚠️", Mark.ERROR: "❌"}
ASCII_GLYPHS: Mapping[Mark, str] = {mark: f"[{'ok' if mark is Mark.PASSED else mark.value}]" for mark in Mark}


EXIT_STATUS: Mapping[str, int] = {"clean": 0, "warnings": 1, "errors": 2}
VERDICT_MARKS: Mapping[str, Mark] = {"clean": Mark.PASSED, "warnings": Mark.WARNING, "errors": Mark.ERROR}


@dataclass(frozen=True, slots=True)
class Line:
    """One check that passed or one finding; the details stand below it."""

    mark: Mark
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """The lines of one group of checks."""

    name: str
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks say of a dataset.

    Attributes:
        sections: in the order of `SECTION_TITLES`; those without a line are left out.
        verdict: `clean`, `warnings` (usable) or `errors` (not usable until repaired).
        summary: the verdict in words, with the number of errors and warnings.
        counts: findings per severity.
    """

    sections: tuple[Section, ...]
    verdict: str
    summary: str
    counts: Mapping[str, int]

    @property
    def exit_status(self) -> int:
        """Of the command: 0 clean, 1 warnings, 2 errors."""
        return EXIT_STATUS[self.verdict]


SECTION_TITLES: Mapping[str, Text] = {
    "files": Text("Files", "文件"),
    "encoding": Text("Encoding", "编码"),
    "content": Text("Content", "内容"),
    "leakage": Text("Leakage", "数据泄漏"),
    "labels": Text("Labels", "标注"),
    "other": Text("Other", "其他"),
}

_SUMMARIES: Mapping[str, Text] = {
    "clean": Text("clean: no errors, no warnings", "合格：没有错误，没有警告"),
    "warnings": Text("usable, with {warnings}", "可用，但有 {warnings}"),
    "errors": Text("not usable until repaired: {errors}, {warnings}", "修复前不可用：{errors}，{warnings}"),
}
_NOT_CHECKED = Text("not checked: no scan could be read", "未检查：没有可读取的扫描图像")
_CLASSES = Text("masks hold {count} classes: {values}", "掩码包含 {count} 个类别：{values}")
_FIX = Text("fix: {title}: {how}", "修复：{title}：{how}")
_MORE = Text("{names} and {more} more", "{names} 等 {count} 个")


def report(
    findings: Sequence[Finding],
    checks: Sequence[Check],
    language: Language,
    *,
    scans: int,
    mask_values: Sequence[int] = (0, 255),
    path: str = "…",
) -> Report:
    """Lay out what was found and what was not.

    Args:
        findings: all that the checks say, errors first.
        checks: what was checked, in the order of the lines. One none of whose codes was found is a line that passed.
        language: of all texts.
        scans: how many scans could be read. With none of them no check has passed: there was nothing to check.
        mask_values: the value of class 0, 1, … in the masks; empty where they make no sense together.
        path: the dataset, as a command that repairs it names it.
    """
    repairable = path if scans else None
    known = {code for check in checks for code in check.codes}
    passable = [_as_passed(check, mask_values) for check in checks] if scans else [None] * len(checks)
    sections = []
    for name, title in SECTION_TITLES.items():
        mine = [(check, passed) for check, passed in zip(checks, passable, strict=True) if check.section == name]
        lines = [line for check, passed in mine for line in _lines(check, passed, findings, language, repairable)]
        if name == "other":
            lines = [_line(finding, language, repairable) for finding in findings if finding.code not in known]
        if mine and not lines:
            lines = [Line(Mark.INFO, render(_NOT_CHECKED, {}, language))]
        if lines:
            sections.append(Section(name, render(title, {}, language), tuple(lines)))
    return Report(tuple(sections), *_verdict(findings, language))


def text_lines(found: Report, glyphs: Mapping[Mark, str] = GLYPHS) -> Iterator[tuple[Mark | None, str]]:
    """The report line by line, each with the mark that colours it; titles and details have none."""
    for section in found.sections:
        yield None, section.title
        for line in section.lines:
            yield line.mark, f"  {glyphs[line.mark]} {line.text}"
            yield from ((None, f"      {detail}") for detail in line.details)
    mark = VERDICT_MARKS[found.verdict]
    yield mark, f"{glyphs[mark]} {found.summary}"


def glyphs_for(encoding: str) -> Mapping[Mark, str]:
    """The marks that a stream of this encoding can show."""
    try:
        "".join(GLYPHS.values()).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII_GLYPHS
    return GLYPHS


def printable(text: str, encoding: str) -> str:
    """The text as a stream of this encoding can show it: `×` becomes `x`, what has no likeness becomes `?`.

    Control and direction characters, which a file's name may hold to deceive a terminal, are replaced too.
    """
    text = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in ("Cc", "Cf") else letter for letter in text
    )
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        likeness = str.maketrans({"×": "x", "…": "...", "–": "-", "≥": ">=", "≤": "<=", "→": "->"})
        return text.translate(likeness).encode(encoding, "replace").decode(encoding)
    return text


def first_few(names: Sequence[str], count: int, language: Language) -> str:
    """The first names, and how many there are besides."""
    shown = ("、" if language == "zh" else ", ").join(names[:SHOWN_SCANS])
    more = count - min(len(names), SHOWN_SCANS)
    return render(_MORE, {"names": shown, "more": more, "count": count}, language) if more > 0 else shown


def in_words(details: Mapping[str, object]) -> str:
    """What a step of a repair changed: "threshold 127, pixels 12"; a mapping as "#ff0000 → 255"."""
    words = []
    for name, value in details.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} → {what}" for key, what in value.items())  # noqa: PLW2901
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))  # noqa: PLW2901
        words.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(words)


def _as_passed(check: Check, mask_values: Sequence[int]) -> Text | None:
    """What may be said where the check found nothing; None where that would say too much."""
    if "masks_not_binary" not in check.codes or len(mask_values) == 2:
        return check.passed
    values = {"count": len(mask_values), "values": ", ".join(map(str, mask_values))}
    return Text(*(sentence.format_map(values) for sentence in _CLASSES)) if mask_values else None


def _lines(
    check: Check, passed: Text | None, findings: Sequence[Finding], language: Language, path: str | None
) -> list[Line]:
    found = [_line(finding, language, path) for finding in findings if finding.code in check.codes]
    return found if found or passed is None else [Line(Mark.PASSED, render(passed, {}, language))]


def _line(finding: Finding, language: Language, path: str | None) -> Line:
    message = describe(finding, language)["message"]
    details = [*_scans(finding, message, language), *_fix(finding, language, path)]
    return Line(Mark(finding.severity.value), message, tuple(details))


def _scans(finding: Finding, message: str, language: Language) -> Iterator[str]:
    """The first scans or files with what was found in each, unless the message says all of it."""
    found = finding.evidence.get("files") or dict.fromkeys(finding.scans, "")
    named = [f"{name} ({what})" if what else name for name, what in found.items()]
    if not named or (len(named) == 1 and named[0] in message):
        return
    count = finding.evidence.get("count", 0)
    yield first_few(named, max(len(named), count if isinstance(count, int) else 0), language)


def _fix(finding: Finding, language: Language, path: str | None) -> Iterator[str]:
    """The command that applies the remedy; nothing where no scan would be left to repair (`path` is None)."""
    remedy = describe(finding, language)["remedy"]
    if remedy is None or path is None:
        return
    if remedy["code"] in DATASET_REMEDIES:
        chosen = "" if is_safe(finding) else f" --remedy {remedy['code']}"
        how = f"octa diagnose {path} --fix OUT.zip{chosen}"
    else:
        how = f"octa train … {train_options(remedy['changes'])}"
    yield render(_FIX, {"title": remedy["title"], "how": how}, language)


def train_options(changes: Mapping[str, object]) -> str:
    """Changes of a `TrainConfig` as options of the command line: `--pos-weight 13.2`."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in changes.items())


def _verdict(findings: Sequence[Finding], language: Language) -> tuple[str, str, Mapping[str, int]]:
    found = Counter(finding.severity for finding in findings)
    counts = {severity.value: found[severity] for severity in Severity}
    verdict = verdict_of(findings)
    words = {"errors": _counted(counts["error"], "error", "错误", language)}
    words["warnings"] = _counted(counts["warning"], "warning", "警告", language)
    return verdict, render(_SUMMARIES[verdict], words, language), counts


def _counted(count: int, noun: str, noun_zh: str, language: Language) -> str:
    if language == "zh":
        return f"{count} 个{noun_zh}"
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
