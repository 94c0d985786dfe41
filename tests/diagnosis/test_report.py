from __future__ import annotations

import string

import pytest

from octa_backend.diagnosis.dataset import CHECKS, Check
from octa_backend.diagnosis.findings import Finding, Remedy, Severity
from octa_backend.diagnosis.messages import MESSAGES, describe
from octa_backend.diagnosis.remedies import is_safe
from octa_backend.diagnosis.report import (
    ASCII_GLYPHS,
    GLYPHS,
    SECTION_TITLES,
    SHOWN_SCANS,
    Line,
    Mark,
    first_few,
    glyphs_for,
    in_words,
    printable,
    report,
    text_lines,
)
from octa_backend.diagnosis.text import Text

ERROR, WARNING, INFO = Severity
PAIRED = Check("files", ("images_without_mask", "masks_without_image"), Text("all paired", "全部配对"))
READABLE = Check("files", ("scan_unreadable",), Text("all readable", "全部可读"))
BINARY = Check("encoding", ("masks_not_binary",), Text("masks are binary", "掩码是二值图像"))
ENOUGH = Check("content", ("few_scans",), Text("enough scans", "扫描图像足够"))
FOREGROUND = Check("content", ("foreground_scarce",), Text("enough foreground", "前景足够"))
INVERTED = Check("encoding", ("masks_inverted",), Text("not inverted", "未反转"))
PATIENTS = Check("leakage", ("patient_across_splits",), Text("patients apart", "患者互不重叠"))
ALL = (PAIRED, READABLE, BINARY, ENOUGH, PATIENTS)


def a_finding(code, severity, scans=(), remedy=None, **evidence):
    """A finding whose evidence holds whatever its sentence needs."""
    needed = {field: 7 for _, field, _, _ in string.Formatter().parse(MESSAGES[code].en) if field}
    return Finding(code, severity, needed | evidence, tuple(scans), remedy=remedy)


UNPAIRED = a_finding("images_without_mask", ERROR, ("a.png", "b.png"))
FEW = a_finding("few_scans", WARNING)


def lines(*findings, checks=ALL, language="en", scans=3, path="data.zip"):
    """Section -> its lines."""
    found = report(findings, checks, language, scans=scans, path=path)
    return {section.name: section.lines for section in found.sections}


def test_checks_without_a_finding_are_lines_that_passed_under_their_section():
    assert lines() == {
        "files": (Line(Mark.PASSED, "all paired"), Line(Mark.PASSED, "all readable")),
        "encoding": (Line(Mark.PASSED, "masks are binary"),),
        "content": (Line(Mark.PASSED, "enough scans"),),
        "leakage": (Line(Mark.PASSED, "patients apart"),),
    }


def test_a_finding_stands_in_place_of_the_line_that_would_have_passed():
    found = lines(UNPAIRED, FEW)
    assert [line.mark for line in found["files"]] == [Mark.ERROR, Mark.PASSED]
    assert found["files"][0].text == describe(UNPAIRED, "en")["message"]
    assert [line.mark for line in found["content"]] == [Mark.WARNING]


def test_two_findings_of_one_check_are_two_lines():
    other = a_finding("masks_without_image", ERROR)
    assert [line.mark for line in lines(UNPAIRED, other)["files"]] == [Mark.ERROR, Mark.ERROR, Mark.PASSED]


def test_sections_stand_in_one_order_whatever_the_order_of_the_checks():
    found = report((), ALL[::-1], "en", scans=3)
    assert [section.name for section in found.sections] == ["files", "encoding", "content", "leakage"]
    assert [section.title for section in found.sections] == ["Files", "Encoding", "Content", "Leakage"]


def test_a_finding_that_no_check_names_is_shown_all_the_same():
    assert [line.mark for line in lines(FEW, checks=(PAIRED,))["other"]] == [Mark.WARNING]


def test_nothing_has_passed_where_no_scan_could_be_read():
    found = lines(UNPAIRED, scans=0)
    assert [line.mark for line in found["files"]] == [Mark.ERROR]
    assert found["encoding"] == (Line(Mark.INFO, "not checked: no scan could be read"),)
    assert not any(line.mark is Mark.PASSED for section in found.values() for line in section)


def test_no_repair_is_proposed_where_it_would_leave_no_scan():
    unreadable = a_finding("scan_unreadable", ERROR, ("a.png", "b.png"), remedy=Remedy("drop_unusable"))
    assert lines(unreadable, scans=0)["files"][0].details == ("a.png, b.png and 5 more",)
    assert "fix: " in lines(unreadable, scans=1)["files"][-1].details[-1]


def test_masks_of_several_classes_are_not_called_binary():
    found = report((), (BINARY,), "en", scans=3, mask_values=(0, 1, 4))
    assert found.sections[0].lines == (Line(Mark.PASSED, "masks hold 3 classes: 0, 1, 4"),)


def test_masks_whose_values_make_no_sense_are_not_called_anything():
    coloured = Check("encoding", ("masks_coloured",), Text("no colours", "无颜色"))
    found = report((a_finding("masks_coloured", ERROR),), (BINARY, coloured), "en", scans=3, mask_values=())
    assert [line.mark for line in found.sections[0].lines] == [Mark.ERROR]


# --- verdict ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "verdict", "status", "summary"),
    [
        ((), "clean", 0, "clean: no errors, no warnings"),
        ((a_finding("files_ignored", INFO),), "clean", 0, "clean: no errors, no warnings"),
        ((FEW,), "warnings", 1, "usable, with 1 warning"),
        ((UNPAIRED,), "errors", 2, "not usable until repaired: 1 error, no warnings"),
        ((UNPAIRED, FEW, FEW), "errors", 2, "not usable until repaired: 1 error, 2 warnings"),
    ],
    ids=["clean", "infos", "warnings", "errors", "both"],
)
def test_the_gravest_finding_decides_the_verdict_and_the_exit_status(findings, verdict, status, summary):
    found = report(findings, ALL, "en", scans=3)
    assert (found.verdict, found.exit_status, found.summary) == (verdict, status, summary)


def test_findings_are_counted_per_severity():
    found = report((UNPAIRED, FEW, FEW), ALL, "en", scans=3)
    assert found.counts == {"error": 1, "warning": 2, "info": 0}


# --- scans and remedies ----------------------------------------------------------------------------------------------


def test_the_first_scans_are_named_below_a_finding_and_the_others_counted():
    scans = [f"{number:02d}" for number in range(20)]
    (line,) = lines(a_finding("scan_unreadable", ERROR, scans, count=31), checks=(READABLE,))["files"]
    assert line.details == ("00, 01, 02, 03, 04 and 26 more",)


def test_what_was_found_in_each_file_stands_behind_its_name():
    files = {"a.png": "damaged", "b.png": ""}
    (line,) = lines(a_finding("scan_unreadable", ERROR, files, files=files, count=2), checks=(READABLE,))["files"]
    assert line.details == ("a.png (damaged), b.png",)


def test_a_single_scan_that_the_message_names_is_not_named_again():
    one = a_finding(
        "scan_unreadable", ERROR, ("a.png",), count=1, example="a.png (damaged)", files={"a.png": "damaged"}
    )
    assert lines(one, checks=(READABLE,))["files"][0].details == ()


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "s0"), (5, "s0, s1, s2, s3, s4"), (6, "s0, s1, s2, s3, s4 and 1 more")]
)
def test_first_few_says_how_many_there_are_besides(count, shown):
    assert first_few([f"s{number}" for number in range(count)], count, "en") == shown


def test_first_few_in_chinese_gives_the_whole_number():
    assert first_few(["a"] * 6, 20, "zh") == "、".join(["a"] * SHOWN_SCANS) + " 等 20 个"


def test_a_safe_remedy_is_proposed_as_the_command_that_applies_it():
    found = a_finding("masks_not_binary", ERROR, remedy=Remedy("binarize_masks"))
    (line,) = lines(found, checks=(BINARY,))["encoding"]
    assert line.details[-1].startswith("fix: ")
    assert line.details[-1].endswith(": octa diagnose data.zip --fix OUT.zip")


def test_a_remedy_that_is_not_safe_must_be_named():
    found = a_finding("patient_across_splits", ERROR, remedy=Remedy("regroup_splits"))
    (line,) = lines(found, checks=(PATIENTS,))["leakage"]
    assert line.details[-1].endswith("octa diagnose data.zip --fix OUT.zip --remedy regroup_splits")


def test_inverting_masks_is_safe_only_where_the_finding_is_sure():
    remedy = Remedy("invert_masks")
    assert is_safe(a_finding("masks_inverted", ERROR, remedy=remedy))
    assert not is_safe(a_finding("masks_inverted", WARNING, remedy=remedy))
    assert not is_safe(FEW)


def test_what_is_only_good_to_know_is_not_mended_unasked():
    found = a_finding("alpha_constant", INFO, remedy=Remedy("drop_alpha"))
    assert not is_safe(found)
    alpha = Check("encoding", ("alpha_constant",), Text("no alpha", "无透明通道"))
    assert lines(found, checks=(alpha,))["encoding"][0].details[-1].endswith("--remedy drop_alpha")


def test_a_remedy_of_the_training_is_proposed_as_its_option():
    found = a_finding("foreground_scarce", WARNING, remedy=Remedy("pos_weight", {"pos_weight": 49.0}))
    (line,) = lines(found, checks=(FOREGROUND,))["content"]
    assert line.details[-1].endswith("octa train … --pos-weight 49.0")


def test_what_a_step_changed_is_told_in_words():
    details = {"threshold": 127, "values_before": 83, "files": ["a.png", "b.png"], "colours": {"#ff0000": 1}}
    assert in_words(details) == "threshold 127, values before 83, files a.png, b.png, colours #ff0000 → 1"


# --- languages and consoles ------------------------------------------------------------------------------------------


def test_a_chinese_report_is_chinese_throughout():
    found = report((UNPAIRED, FEW), ALL, "zh", scans=3)
    assert [section.title for section in found.sections] == ["文件", "编码", "内容", "数据泄漏"]
    assert found.summary == "修复前不可用：1 个错误，1 个警告"
    assert found.sections[1].lines == (Line(Mark.PASSED, "掩码是二值图像"),)
    assert found.sections[0].lines[0].text == describe(UNPAIRED, "zh")["message"]
    assert report((FEW,), ALL, "zh", scans=3).summary == "可用，但有 1 个警告"


def test_the_report_is_printed_with_marks_details_indented_and_the_verdict_last():
    found = report((UNPAIRED,), (PAIRED, READABLE), "en", scans=3)
    assert list(text_lines(found)) == [
        (None, "Files"),
        (Mark.ERROR, f"  ❌ {describe(UNPAIRED, 'en')['message']}"),
        (None, "      a.png, b.png and 5 more"),
        (Mark.PASSED, "  ✓ all readable"),
        (Mark.ERROR, "❌ not usable until repaired: 1 error, no warnings"),
    ]


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [
        ("utf-8", GLYPHS),
        ("cp1252", ASCII_GLYPHS),
        ("cp936", ASCII_GLYPHS),
        ("ascii", ASCII_GLYPHS),
        ("x", ASCII_GLYPHS),
    ],
)
def test_marks_are_ascii_where_the_stream_has_no_others(encoding, glyphs):
    assert glyphs_for(encoding) == glyphs


def test_ascii_marks_are_words():
    assert list(ASCII_GLYPHS.values()) == ["[ok]", "[info]", "[warning]", "[error]"]


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("304×304 … 掩码", "utf-8", "304×304 … 掩码"),
        ("304×304 掩码", "cp936", "304×304 掩码"),
        ("304×304 … 掩码", "ascii", "304x304 ... ??"),
        ("a\x1b[2Jb\u202e.png", "utf-8", "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}.png"),
        ("a\x1bb", "ascii", "a?b"),
    ],
)
def test_what_a_stream_cannot_show_is_written_otherwise(text, encoding, shown):
    assert printable(text, encoding) == shown


def test_every_check_belongs_to_a_section_of_the_report():
    assert {check.section for check in CHECKS} <= set(SECTION_TITLES)
