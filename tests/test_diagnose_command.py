from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.commands.diagnose import SHEET_ROWS, Wishes, diagnose
from octa_backend.data.synthetic import make_scan, write_zip
from octa_backend.inference.pictures import SHEET_SIDE
from octa_backend.settings import Settings
from tests.data.zips import encoded, zip_of

ROOT = Path(__file__).parents[1]
SCANS, SIDE = 4, 64


@pytest.fixture
def octa(tmp_path, monkeypatch):
    """Run `octa diagnose` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["diagnose", *map(str, arguments)])


def files(masks=None, scans=SCANS):
    """Synthetic scans as PNG files; `masks` changes the mask of a scan's number."""
    found = {}
    for number in range(scans):
        scan = make_scan(SIDE, np.random.default_rng([3, number]))
        mask = scan.mask.astype(np.uint8) * np.uint8(255)
        found[f"images/{number}.png"] = encoded(scan.image)
        found[f"masks/{number}.png"] = (masks or {}).get(number, encoded)(mask)
    return found


def smoothed(mask):
    """A mask saved as JPEG under the name of a PNG: some 200 values."""
    return encoded(mask, "JPEG", quality=60)


@pytest.fixture
def scans(tmp_path):
    """A few sound scans."""
    return zip_of(tmp_path / "scans.zip", files())


@pytest.fixture
def faulty(tmp_path):
    """The same, two of them with masks that went through JPEG."""
    return zip_of(tmp_path / "faulty.zip", files({2: smoothed, 3: smoothed}))


def folder_of(path, content):
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def refused(result, *phrases):
    """Assert that the command ended in words with status 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    for phrase in phrases:
        assert phrase in " ".join(result.output.split())


# --- the report ------------------------------------------------------------------------------------------------------


def test_sound_scans_pass_line_by_line_and_few_of_them_are_a_warning(octa, scans):
    result = octa(scans)
    assert result.exit_code == 1, (result.output, result.exception)
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"{scans}: 4 scans", "Files"]
    assert "  ✓ masks are binary" in lines
    assert any(line.startswith("  ⚠️ ") for line in lines)
    assert lines[-1].startswith("⚠️ usable, with ")
    assert "❌" not in result.stdout
    assert result.stderr == ""


def test_scans_that_nothing_is_wrong_with_end_with_status_0(octa, tmp_path):
    write_zip(tmp_path / "good.zip", 50, size=SIDE, seed=1)
    result = octa("good.zip")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "✓ clean: no errors, no warnings"


def test_an_error_is_shown_with_its_scans_and_the_command_that_repairs_it(octa, faulty):
    result = octa(faulty)
    assert result.exit_code == 2, (result.output, result.exception)
    assert "  ❌ " in result.stdout
    assert f": octa diagnose {faulty} --fix OUT.zip" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("❌ not usable until repaired: 1 error")
    assert "  ✓ masks are binary" not in result.stdout


def test_the_report_is_chinese_when_asked(octa, faulty, monkeypatch):
    asked = octa(faulty, "--lang", "zh").stdout
    assert "❌ 修复前不可用：1 个错误" in asked
    assert "修复：" in asked
    monkeypatch.setenv("OCTA_LANGUAGE", "zh")
    assert octa(faulty).stdout == asked
    assert "not usable" in octa(faulty, "--lang", "en").stdout


def test_a_folder_is_checked_like_a_zip(octa, faulty, tmp_path):
    folder = folder_of(tmp_path / "folder", files({2: smoothed, 3: smoothed}))
    from_zip, from_folder = octa(faulty), octa(folder)
    assert from_folder.exit_code == 2
    assert from_folder.stdout.replace(str(folder), str(faulty)) == from_zip.stdout


def test_scans_without_masks_are_told_and_nothing_else_is_said_to_have_passed(octa, tmp_path):
    zip_of(tmp_path / "bare.zip", {"images/1.png": encoded(np.zeros((32, 32), np.uint8))})
    result = octa("bare.zip")
    assert result.exit_code == 2
    assert "no masks were found" in result.stdout
    assert "✓" not in result.stdout


@pytest.mark.parametrize(
    ("content", "phrases"),
    [(b"text", ("is not a zip archive",)), (b"", ("0 bytes",)), (None, ("does not exist",))],
    ids=["text", "empty", "missing"],
)
def test_a_path_that_cannot_be_read_ends_with_status_2_and_words(octa, tmp_path, content, phrases):
    if content is not None:
        (tmp_path / "scans.zip").write_bytes(content)
    refused(octa("scans.zip"), *phrases)
    refused(octa("scans.zip", "--json"), *phrases)


def test_a_folder_without_files_ends_with_status_2_and_words(octa, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(octa("empty"), "empty")


def test_a_language_that_is_not_spoken_is_refused(octa, scans):
    refused(octa(scans, "--lang", "fr"), "language")


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_holds_the_verdict_the_findings_and_the_sections(octa, faulty):
    result = octa(faulty, "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 2
    assert (answer["path"], answer["scans"], answer["verdict"]) == (str(faulty), SCANS, "errors")
    (error,) = [finding for finding in answer["findings"] if finding["severity"] == "error"]
    assert (error["code"], error["remedy"]["code"]) == ("masks_not_binary", "binarize_masks")
    assert answer["counts"]["error"] == 1
    names = [section["name"] for section in answer["sections"]]
    assert names == ["files", "encoding", "content", "leakage"]
    (line,) = [line for line in answer["sections"][1]["lines"] if line["mark"] == "error"]
    assert line["text"] == error["message"]


def test_json_messages_are_in_the_language_asked_for(octa, faulty):
    answer = json.loads(octa(faulty, "--json", "--lang", "zh").stdout)
    assert "掩" in answer["findings"][0]["message"]
    assert answer["sections"][0]["title"] == "文件"


# --- contact sheet ---------------------------------------------------------------------------------------------------


def test_the_sheet_shows_the_worst_scans_first(octa, faulty, tmp_path):
    result = octa(faulty, "--sheet", "new/sheet.png", "--json")
    assert json.loads(result.stdout)["sheet"] == {"path": str(Path("new/sheet.png")), "scans": ["2", "3", "0", "1"]}
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.size == (3 * 260 + 4, SCANS * 260 + 4)
    assert "its rows: 2, 3, 0, 1" in octa(faulty, "--sheet", "sheet.png").stdout


def test_the_sheet_draws_classes_in_the_colours_of_the_upload(octa, tmp_path):
    def stripes(mask):
        classes = np.zeros_like(mask)
        classes[:, SIDE // 4 :], classes[:, SIDE // 2 :], classes[:, 3 * SIDE // 4 :] = 1, 3, 255
        return encoded(classes)

    table = b"value,name,colour\n1,artery,#102030\n3,vein,#405060\n255,void,#708090\n"
    zip_of(tmp_path / "striped.zip", files(dict.fromkeys(range(SCANS), stripes)) | {"classes.csv": table})
    octa("striped.zip", "--sheet", "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = [sheet.getpixel((264 + 32 + 64 * stripe, 132)) for stripe in range(4)]
    assert colours == [(0, 0, 0), (0x10, 0x20, 0x30), (0x40, 0x50, 0x60), (0x70, 0x80, 0x90)]


def test_the_sheet_leaves_out_what_cannot_be_read_and_ends_after_its_last_row(octa, tmp_path):
    content = files(scans=SHEET_ROWS + 3) | {"masks/0.png": b"no image"}
    zip_of(tmp_path / "many.zip", content)
    rows = json.loads(octa("many.zip", "--sheet", "sheet.png", "--json").stdout)["sheet"]["scans"]
    assert len(rows) == SHEET_ROWS
    assert "0" not in rows


def test_a_sheet_of_large_scans_is_drawn_from_every_other_pixel(octa, tmp_path):
    side = SHEET_SIDE + 88
    image = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[:300] = 2
    content = {f"images/{n}.png": encoded(np.roll(image, 50 * n, 0)) for n in (1, 2)}
    zip_of(tmp_path / "large.zip", content | {f"masks/{n}.png": encoded(mask // n) for n in (1, 2)})
    octa("large.zip", "--sheet", "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 260 + 4, 2 * 260 + 4)


def test_there_is_no_sheet_where_no_scan_can_be_read(octa, tmp_path):
    zip_of(tmp_path / "bare.zip", {"images/1.png": encoded(np.zeros((32, 32), np.uint8))})
    assert "there is no contact sheet" in octa("bare.zip", "--sheet", "sheet.png").stdout
    assert not (tmp_path / "sheet.png").exists()


# --- repair ----------------------------------------------------------------------------------------------------------


def test_the_safe_remedies_write_a_zip_whose_own_verdict_is_shown_last(octa, faulty, tmp_path):
    result = octa(faulty, "--fix", "new/fixed.zip")
    assert result.exit_code == 1, (result.output, result.exception)
    before, after = result.stdout.split("repaired dataset in ")
    assert "❌ not usable until repaired" in before
    assert "  binarize_masks (2): 2 (threshold " in after
    assert "✓ masks are binary" in after
    assert "⚠️ usable, with " in after
    assert octa("new/fixed.zip").exit_code == 1
    with zipfile.ZipFile(tmp_path / "new" / "fixed.zip") as archive:
        assert len([name for name in archive.namelist() if name.startswith("masks/")]) == SCANS
        with archive.open("masks/2.png") as file, Image.open(file) as mask:
            assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_json_of_a_repair_holds_its_steps_and_the_result(octa, faulty):
    answer = json.loads(octa(faulty, "--fix", "fixed.zip", "--json").stdout)
    assert answer["verdict"] == "errors"
    repair = answer["repair"]
    assert (repair["path"], repair["result"]["path"]) == ("fixed.zip", "fixed.zip")
    assert [(step["remedy"], step["scan"]) for step in repair["steps"]] == [
        ("binarize_masks", "2"),
        ("binarize_masks", "3"),
    ]
    assert (repair["result"]["verdict"], repair["result"]["scans"]) == ("warnings", SCANS)


def test_a_named_remedy_is_the_only_one_that_is_applied(octa, tmp_path):
    content = files({2: smoothed}) | {"images/lonely.png": files()["images/1.png"]}
    zip_of(tmp_path / "two.zip", content)
    result = octa("two.zip", "--fix", "fixed.zip", "--remedy", "drop_unusable", "--json")
    repair = json.loads(result.stdout)["repair"]
    assert {step["remedy"] for step in repair["steps"]} == {"drop_unusable"}
    assert result.exit_code == 2
    assert [finding["code"] for finding in repair["result"]["findings"] if finding["severity"] == "error"] == [
        "masks_not_binary"
    ]


def test_data_without_faults_is_not_written_again(octa, scans, tmp_path):
    result = octa(scans, "--fix", "fixed.zip")
    assert result.exit_code == 1
    assert f"nothing to repair: no file was written, use {scans} as it is" in result.stdout
    assert not (tmp_path / "fixed.zip").exists()


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        (("--fix", "out.zip", "--remedy", "polish"), ("no remedy is called 'polish'", "binarize_masks")),
        (("--fix", "out.zip", "--remedy", "pos_weight"), ("pos_weight changes the training", "octa train")),
        (("--remedy", "binarize_masks"), ("--remedy needs --fix OUT.zip",)),
        (("--fix", "scans.zip"), ("is the dataset itself",)),
        (("--sheet", "scans.zip"), ("is the dataset itself",)),
        (("--fix", "one.zip", "--sheet", "./one.zip"), ("is the repaired dataset, too",)),
        (("--fix", "."), ("is a directory",)),
    ],
    ids=["unknown", "config", "without fix", "onto itself", "sheet onto itself", "both onto one", "folder"],
)
def test_a_repair_that_cannot_be_is_refused_before_anything_is_read(octa, scans, tmp_path, arguments, phrases):
    before = scans.read_bytes()
    refused(octa("scans.zip", *arguments), *phrases)
    assert scans.read_bytes() == before
    assert list(tmp_path.iterdir()) == [scans]


def test_a_repair_that_would_leave_no_scan_is_refused(octa, tmp_path):
    zip_of(tmp_path / "bare.zip", {"images/1.png": encoded(np.zeros((32, 32), np.uint8))})
    assert octa("bare.zip", "--fix", "fixed.zip").exit_code == 2
    content = dict.fromkeys(files(), b"no image")
    zip_of(tmp_path / "broken.zip", content)
    refused(octa("broken.zip", "--fix", "fixed.zip"), "all 4 scans would be left out")
    assert not (tmp_path / "fixed.zip").exists()


def test_a_file_that_cannot_be_written_is_told_in_words(octa, faulty, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refused(octa(faulty, "--fix", "file/fixed.zip"), "file")


# --- consoles --------------------------------------------------------------------------------------------------------


def shown_on(encoding, path, language="en"):
    """What the command writes to a stream of this encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    settings = Settings(language=language)
    diagnose(Console(file=stream), Console(file=io.StringIO()), path, settings, Wishes())
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_a_console_without_emoji_gets_marks_in_ascii(encoding, faulty):
    shown = shown_on(encoding, faulty)
    assert "  [ok] " in shown
    assert "  [error] " in shown
    assert "[error] not usable until repaired" in shown.splitlines()[-1]


def test_a_chinese_console_gets_chinese_with_marks_in_ascii(faulty):
    assert "[error] 修复前不可用：1 个错误" in shown_on("cp936", faulty, "zh")


def test_names_that_a_console_cannot_show_do_not_end_the_command(tmp_path):
    content = {name.replace("/1.", "/眼底:warning:[red]."): data for name, data in files({1: smoothed}).items()}
    path = zip_of(tmp_path / "names.zip", content)
    assert "??:warning:[red]" in shown_on("cp1252", path)
    assert "眼底:warning:[red]" in shown_on("utf-8", path)


# --- processes -------------------------------------------------------------------------------------------------------

WITHOUT_TORCH = """
import sys
from octa_backend.cli import app
try:
    app(["diagnose", sys.argv[1]])
finally:
    assert not {"torch", "torchvision"} & set(sys.modules), "torch was imported"
"""


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", env=ENVIRONMENT, check=False)


ENVIRONMENT = {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT), "SYSTEMROOT": r"C:\Windows"}


def test_a_check_does_not_wait_for_torch(scans):
    result = run("-c", WITHOUT_TORCH, scans)
    assert result.returncode == 1, result.stderr
    assert "usable, with" in result.stdout
    assert result.stderr == ""


def test_the_script_does_the_same_as_the_command(octa, faulty):
    result = run("diagnose_dataset.py", faulty, "--lang", "zh")
    assert result.returncode == 2, result.stderr
    assert result.stdout == octa(faulty, "--lang", "zh").stdout
