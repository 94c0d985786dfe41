from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from octa_backend.data.archive import Archive
from octa_backend.data.intake import examine as examine_source
from octa_backend.data.intake import opened_archive
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.synthetic import write_zip
from octa_backend.diagnosis.dataset import CHECKS, checks_for, examine
from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.messages import MESSAGES, describe
from octa_backend.diagnosis.messages_dataset import DATASET_MESSAGES
from octa_backend.diagnosis.messages_files import FILE_MESSAGES
from tests.diagnosis.scans import mask_values, sound

DATA = Path(__file__).parents[3] / "shared" / "data"
LIMITS = IntakeLimits(max_files=1000, max_unpacked_bytes=2**32, max_ratio=1000.0, max_scan_pixels=2**26)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ERROR, WARNING, INFO = Severity


def found_in(path: Path):
    """Severity -> codes."""
    with opened_archive(path, LIMITS) as source:
        assert isinstance(source, Archive)
        findings = examine_source(source, LIMITS).findings
    return {severity: {found.code for found in findings if found.severity is severity} for severity in Severity}


# --- what is checked -------------------------------------------------------------------------------------------------


def test_every_code_about_a_dataset_belongs_to_exactly_one_check():
    codes = Counter(code for check in CHECKS for code in check.codes)
    assert set(codes.values()) == {1}
    assert set(FILE_MESSAGES) | set(DATASET_MESSAGES) == set(codes)
    assert set(codes) <= set(MESSAGES)


def test_checks_are_grouped_by_section():
    sections = [check.section for check in CHECKS]
    assert list(dict.fromkeys(sections)) == ["files", "encoding", "content", "leakage"]
    assert sections == sorted(sections, key=["files", "encoding", "content", "leakage"].index)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.codes[0])
def test_what_passed_is_told_in_both_languages_without_placeholders(check):
    assert not CHINESE.search(check.passed.en)
    assert CHINESE.search(check.passed.zh)
    assert "{" not in check.passed.en + check.passed.zh


def test_masks_that_passed_are_binary_or_hold_class_numbers():
    def line(values):
        return next(check.passed for check in checks_for(values) if "masks_not_binary" in check.codes)

    assert line((0, 255)) == line(()) == ("masks are binary", "掩码是二值图像")
    assert line((0, 1, 2)) == ("masks hold the numbers of 3 classes", "掩码包含 3 个类别的编号")
    assert [check.codes for check in checks_for((0, 1, 2))] == [check.codes for check in CHECKS]


# --- all checks together ---------------------------------------------------------------------------------------------


def test_nothing_is_said_of_no_scans():
    assert examine([], ()) == []


def test_many_sound_scans_have_no_finding():
    scans = sound(50)
    assert examine(scans, mask_values(scans)) == []


@pytest.mark.parametrize("split", [None, "train"])
def test_findings_can_be_told_in_both_languages(split):
    scans = [replace(scan, split=split) for scan in [*sound(3), replace(sound(1)[0], name="copy")]]
    for found in examine(scans, mask_values(scans)):
        for language in ("en", "zh"):
            assert "{" not in describe(found, language)["message"]


def test_synthetic_scans_are_clean(tmp_path):
    write_zip(tmp_path / "scans.zip", 50, size=64, seed=1)
    assert found_in(tmp_path / "scans.zip") == {ERROR: set(), WARNING: set(), INFO: set()}


@pytest.mark.parametrize(
    ("name", "warnings", "infos"),
    [
        ("rossa", set(), set()),
        ("nuclei", set(), {"alpha_constant", "sizes_vary"}),
        ("fundus4", {"few_scans"}, set()),
    ],
)
def test_sound_datasets_have_no_needless_finding(name, warnings, infos):
    path = DATA / f"{name}.zip"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    assert found_in(path) == {ERROR: set(), WARNING: warnings, INFO: infos}
