"""A model as one zip, and its script against the program's own mask."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.normalise import Normalisation, normalise, to_unit
from octa_backend.data.scans import read_image
from octa_backend.errors import ExportFailed, IncompatibleCheckpoint
from octa_backend.inference import standalone
from octa_backend.inference.channels import match_channels
from octa_backend.inference.model_card import ModelCard
from octa_backend.inference.model_folder import read_card
from octa_backend.inference.pictures import mask_picture
from octa_backend.inference.predictor import open_predictor
from octa_backend.service import model_import
from octa_backend.service.card_text import card_text
from octa_backend.service.import_wish import ImportWish
from octa_backend.service.model_package import write_package
from octa_backend.storage.files import Files
from tests.data.zips import encoded, grey
from tests.exports import FakeExporter
from tests.shelf import OnnxHere, an_upload, weights
from tests.tiny import one_thread, tiny_networks
from tests.volume_models import publish_volumes

ALONE = """
import runpy, sys
for name in ("octa_backend", "torch", "scipy", "tests"):
    sys.modules[name] = None  # importing it raises ImportError
script, *scans = sys.argv[1:]
for scan in scans:
    sys.argv = [script, scan, "--out", scan + ".mask.png"]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


@pytest.fixture
def imported(database, settings, tmp_path):
    """Puts weights on the shelf; gives the model's folder and card."""

    def take(network="small_unet", channels=1, classes=2, **said):
        upload = an_upload(tmp_path, weights(network, channels, classes), "w.safetensors")
        wish = ImportWish(network=network, channels=channels, classes=classes, **said)
        model = model_import.take_in(database, settings, upload, wish)
        return Files.of(settings).model(model.id), {**model.card, "name": model.name, "licence": model.licence}

    return take


def unpacked(exporter, model, card, folder):
    folder.mkdir()
    write_package(exporter, model, card, folder / "model.zip")
    with zipfile.ZipFile(folder / "model.zip") as archive:
        archive.extractall(folder)
        return set(archive.namelist())


def test_a_package_holds_weights_card_graphs_and_a_script(imported, tmp_path):
    model, card = imported(name="A *bold* | name")
    names = unpacked(FakeExporter(), model, card, tmp_path / "out")
    assert names == {
        *("weights.safetensors", "card.json", "card.md", "README.md", "predict.py", "requirements.txt"),
        *("onnx/export.json", "onnx/model.onnx", "openvino/export.json", "openvino/model.xml"),
    }
    text = (tmp_path / "out" / "card.md").read_text("utf-8")
    assert text.startswith("# A \\*bold\\* \\| name\n")
    for phrase in ("research use only", "仅供科研使用", "| network | small\\_unet |".replace("\\_", "_"), "not stated"):
        assert phrase in text
    assert json.loads((tmp_path / "out" / "card.json").read_text("utf-8"))["format"] == 1


def test_a_format_that_cannot_be_made_is_left_out_and_named(imported, tmp_path):
    class Unwilling(FakeExporter):
        def ensure(self, model, wanted):
            if wanted == "onnx":
                raise ExportFailed("its graph depends on the scan's size")
            return super().ensure(model, wanted)

    model, card = imported()
    names = unpacked(Unwilling(), model, card, tmp_path / "out")
    assert not {name for name in names if name.startswith("onnx/")} | ({"predict.py", "requirements.txt"} & names)
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "- no `onnx`: its graph depends on the scan's size" in readme
    assert "There is no ONNX graph" in readme


def test_a_model_of_volumes_comes_without_the_script_for_pictures(tmp_path):
    model = publish_volumes(tmp_path / "volumes")
    names = unpacked(FakeExporter(), model, read_card(model), tmp_path / "out")
    assert {"weights.safetensors", "onnx/model.onnx", "openvino/model.xml"} < names
    assert not {"predict.py", "requirements.txt"} & names
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "predict.py" not in readme
    assert "octa predict MODEL CASE.nii.gz" in readme
    assert "- `onnx/`: checked" in readme


def test_a_model_whose_weights_are_gone_is_not_handed_out(imported, tmp_path):
    model, card = imported()
    (model / "weights.safetensors").unlink()
    with pytest.raises(IncompatibleCheckpoint, match="which is not there"):
        write_package(FakeExporter(), model, card, tmp_path / "model.zip")


SCANS = {
    "odd.png": encoded(grey(1, height=37, width=50)),
    "deep.tiff": encoded(Image.fromarray(grey(2, height=40).astype(np.uint16) * 7 + 300), "TIFF"),
    "colour.jpg": encoded(np.stack([grey(3), grey(4), grey(5)], -1), "JPEG"),
    "long.png": encoded(grey(6, height=20, width=900)),
    "index.gif": encoded(grey(7), "GIF"),
    "alpha.png": encoded(Image.merge("LA", [Image.fromarray(grey(8)), Image.fromarray(grey(9))])),
    "real.tiff": encoded(Image.fromarray(grey(10).astype(np.float32) / 9 - 3), "TIFF"),
    "white.tiff": encoded(Image.fromarray(grey(11).astype(np.uint16) * 7 + 300), "TIFF", tiffinfo={262: 0}),
}


@pytest.mark.parametrize(
    ("network", "channels", "classes", "said"),
    [
        ("small_unet", 1, 2, {}),
        ("pointwise", 3, 4, {"normalisation": "zscore", "ignore_index": 2}),
        ("pointwise", 1, 3, {"normalisation": "percentile"}),
        ("pointwise", 3, 2, {"normalisation": "zscore_nonzero"}),
    ],
)
def test_the_script_alone_draws_the_programs_mask(imported, tmp_path, network, channels, classes, said):
    pytest.importorskip("onnxruntime")
    model, card = imported(network, channels, classes, **said)
    out = tmp_path / "out"
    unpacked(OnnxHere(), model, card, out)
    for name, content in SCANS.items():
        (tmp_path / name).write_bytes(content)
    scans = [str(tmp_path / name) for name in SCANS]
    ran = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(out / "predict.py"), *scans],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    predictor = open_predictor(model, "cpu", "torch")
    for scan in scans:
        found = predictor.predict(read_image(Path(scan), scan, 10**6))
        expected = mask_picture(found.mask, predictor.classes)
        with Image.open(f"{scan}.mask.png") as image:
            mask = np.asarray(image)
        assert mask.shape == expected.shape
        assert (mask == expected).mean() >= 0.999, scan
        either = np.count_nonzero(mask) + np.count_nonzero(expected)
        assert 2 * np.count_nonzero((mask == expected) & (mask > 0)) >= 0.999 * either, scan


@pytest.fixture
def script(monkeypatch):
    """What the script defines, without a graph to run."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    return runpy.run_path(str(Path(standalone.__file__).parent / "predict.py"))


NUMBERS = np.random.default_rng(0)
ODD = {
    "plain": NUMBERS.integers(0, 256, (3, 40, 50), np.uint8),
    "deep": NUMBERS.integers(300, 9000, (1, 40, 50), np.uint16),
    "real": NUMBERS.normal(0, 5, (1, 40, 50)).astype(np.float32),
    "empty space": np.pad(NUMBERS.integers(1, 256, (3, 20, 30), np.uint8), ((0, 0), (20, 0), (20, 0))),
    "sparse": np.pad(NUMBERS.integers(99, 200, (1, 3, 3), np.uint8), ((0, 0), (37, 0), (47, 0))),
    "two values": np.pad(np.full((1, 9, 9), 77, np.uint8), ((0, 0), (9, 9), (9, 9))),
    "constant": np.full((3, 20, 20), 60, np.uint8),
    "flat": np.full((1, 20, 20), 6000, np.uint16),
}


@pytest.mark.parametrize("how", get_args(Normalisation))
@pytest.mark.parametrize("scan", ODD)
def test_the_script_normalises_as_the_program_does(script, how, scan):
    for channels in (1, 3):
        expected = normalise(match_channels(to_unit(ODD[scan]), channels), how)
        found = script["prepare"](ODD[scan], channels, how)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_the_script_refuses_a_normalisation_that_it_does_not_know(script, tmp_path):
    (tmp_path / "export.json").write_text(json.dumps({"channels": 1, "normalisation": "log"}), "utf-8")
    with pytest.raises(SystemExit, match="'log'; this script knows unit, zscore, percentile, zscore_nonzero"):
        script["Network"](tmp_path)


def test_the_script_refuses_what_it_cannot_do(tmp_path):
    script = tmp_path / "predict.py"
    script.write_bytes((Path(standalone.__file__).parent / "predict.py").read_bytes())
    (tmp_path / "small.png").write_bytes(encoded(grey(1, 4, 4)))
    (tmp_path / "card.json").write_text("{}", "utf-8")
    cases = {"both sides need 16 pixels": ["small.png"], "lies between": ["small.png", "--threshold", "2"]}
    for phrase, arguments in cases.items():
        ran = subprocess.run(
            [sys.executable, "-I", str(script), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ran.returncode != 0
        assert phrase in ran.stderr


def test_a_model_with_a_card_of_an_earlier_version_is_handed_out_too(imported, tmp_path):
    model, card = imported()
    old = {name: card[name] for name in ("network", "channels", "classes")}
    assert "card.md" in unpacked(FakeExporter(), model, old, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "card.json").read_text("utf-8")) == {"format": 1, **old}


def test_curves_and_scores_stand_in_the_card_in_words():
    epochs = list(range(1, 121))
    found = ModelCard(
        **{"network": "unet", "channels": 1, "classes": 2},
        common_spacing_mm=[3, 0.5, 0.5],
        best={"epoch": 3, "val_dice": 0.8},
        validation={"dice": 0.8, "loss": None},
        test={"scans": 2, "dice": 0.75, "dice_std": 0.05},
        curves={"epoch": epochs, "val_dice": [None, *[0.5] * 119], "train_loss": [0.25] * 120},
        findings=[{"code": "few_validation_scans", "severity": "warning", "message": "only <1> scan"}],
    )
    text = card_text(found)
    for line in (
        "Epoch 3, the best on the validation scans: Dice 0.8000.",
        "| Dice, 0 to 1 | 0.8 | 0.75 | 0.05 |",
        "| loss | – | – | – |",
        "| size of a voxel, mm | 3×0.5×0.5 |",
        "| epoch | training loss | Dice |",
        "| 1 | 0.25 | – |",
        "| warning | few_validation_scans | only \\<1\\> scan |",
    ):
        assert line in text.splitlines(), line
    assert text.count("| 0.25 |") == 40
