from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.training import precision
from tests.data.zips import encoded
from tests.published import publish, read_card
from tests.tiny import SLOW_CPU, one_thread, synthetic_pairs, tiny_networks, write_store

SHAPES = np.zeros((24, 32), np.uint8)
SHAPES[2:10, 2:10] = 255  # with a hole of 4 pixels
SHAPES[5:7, 5:7] = 0
SHAPES[15:17, 20:23] = 255

PICTURES = ("mask", "overlay", "confidence", "probability", "difference")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the models `bright` (tuned threshold 0.3) and `other`, two scans, and the terminal in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("OCTA_DEVICE", "cpu")
    monkeypatch.setattr(precision, "probe", lambda device: SLOW_CPU)
    store = write_store(tmp_path / "store", synthetic_pairs(3), (0, 255))
    with tiny_networks(), one_thread():
        bright = publish(tmp_path / "bright", store, "f" * 64)
        publish(tmp_path / "runs" / "bright", store, "f" * 64, normalisation="zscore")
        card = read_card(bright) | {"tuned_threshold": {"threshold": 0.3}}
        (bright / "card.json").write_text(json.dumps(card), "utf-8")
        for name, scan in (("a", SHAPES), ("b", SHAPES[::-1])):
            (tmp_path / f"{name}.png").write_bytes(encoded(scan))
        yield tmp_path


def octa(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


def refused(result, *phrases):
    assert result.exit_code != 0, result.output
    for phrase in phrases:
        assert phrase in " ".join(result.output.replace("│", " ").split())


def test_an_output_folder_that_is_a_file_is_refused_in_words(folder):
    refused(octa("bright", "a.png", "--out", "b.png"), "b.png cannot be a folder for results: b.png is a file")


def test_files_beside_the_scans_are_never_replaced(folder):
    (folder / "a_mask.png").write_bytes(b"drawn by hand")
    refused(octa("bright", "a.png", "--out", "."), "a_mask.png is there already", "name another folder")
    refused(octa("bright", ".", "--out", "."), "a_mask.png is there already")
    assert (folder / "a_mask.png").read_bytes() == b"drawn by hand"
    assert not (folder / "a_overlay.png").exists()


def test_results_in_a_folder_of_their_own_are_replaced(folder):
    for _ in range(2):
        assert octa("bright", "a.png", "--out", "out").exit_code == 0


def test_every_option_reaches_the_mask_and_the_pictures(folder):
    options = ("--threshold", "tuned", "--tta", "--min-object-px", 7, "--max-hole-px", 4, "--no-measure")
    maps = ("--confidence-map", "--probability", "--mask", "a.png", "--mask", "b.png", "--out", "out")
    result = octa("bright", "a.png", "b.png", *options, *maps)
    assert result.exit_code == 0, result.output
    assert "threshold 0.300 (tuned), 1 objects removed, 1 holes filled" in result.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(
        [f"{scan}_{kind}.png" for scan in "ab" for kind in PICTURES] + ["evaluation.csv"]
    )
    assert (picture(folder / "out" / "a_mask.png") > 0).sum() == 64
    assert picture(folder / "out" / "a_probability.png").dtype == np.uint16
    assert picture(folder / "out" / "a_confidence.png").dtype == np.uint8
    with (folder / "out" / "evaluation.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [(row["scan"], row["mask"], row["class"]) for row in rows] == [
        ("a.png", "a.png", "mean"),
        ("a.png", "a.png", "class 1"),
        ("b.png", "b.png", "mean"),
        ("b.png", "b.png", "class 1"),
    ]
    assert float(rows[0]["dice"]) == pytest.approx(2 * 60 / (64 + 66))


def test_areas_in_square_micrometres_need_a_scale(folder):
    result = octa("bright", "a.png", "--min-object-um2", 601, "--pixel-size-um", 10)
    assert "1 objects removed, 0 holes filled" in result.output
    refused(octa("bright", "a.png", "--max-hole-um2", 3), "pixel_size_um or field_of_view_mm")
    refused(octa("bright", "a.png", "--max-hole-um2", 0, "--pixel-size-um", 10), "above 0")


def test_models_of_the_same_name_answer_together(folder):
    alone = octa("bright", "a.png", "--probability", "--out", "alone", "--no-measure")
    together = ("--with-model", "runs/bright", "--threshold", "auto")
    both = octa("bright", "a.png", *together, "--probability", "--out", "both", "--no-measure")
    assert (alone.exit_code, both.exit_code) == (0, 0), both.output
    assert "(auto)" in both.output
    one, mean = (picture(folder / out / "a_probability.png") for out in ("alone", "both"))
    assert np.abs(one.astype(int) - mean).max() > 10
    refused(octa("bright", "a.png", "--with-model", "./bright"), "named twice")


def test_a_scan_of_another_kind_is_warned_about(folder):
    result = octa("bright", "a.png", "--no-measure")
    assert "unlike those that model bright was trained on" in " ".join(result.output.split())


def test_what_does_not_fit_is_refused_in_words(folder):
    refused(octa("bright", "a.png", "b.png", "--mask", "a.png"), "1 masks for 2 scans")
    (folder / "small.png").write_bytes(encoded(SHAPES[:, :20]))
    refused(octa("bright", "a.png", "--mask", "small.png"), "mask small.png is 20×24 but scan a.png is 32×24")
    refused(octa("bright", "a.png", "--threshold", "otsu"), "neither a number between 0 and 1 nor 'tuned' or 'auto'")
    refused(octa("bright", "a.png", "--threshold", "1.5"), "neither a number")
    refused(octa("runs/bright", "a.png", "--threshold", "tuned"), "no tuned threshold")
