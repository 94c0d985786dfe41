from __future__ import annotations

import csv

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.inference.export_record import find_export
from octa_backend.inference.volume_predictor import open_volume_predictor
from octa_backend.inference.warm_up import warm_up
from octa_backend.models import registry
from octa_backend.service.export_child import make_export
from octa_backend.training import precision
from octa_backend.training.checkpoint import save_weights
from tests.data.zips import encoded, grey
from tests.tiny import SLOW_CPU, one_thread
from tests.volume_models import publish_volumes
from tests.volumes import SHAPE, affine_of, case, nifti, zip_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the models `one` (three classes) and `two` (two channels), a case, and the terminal in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("OCTA_DEVICE", "cpu")
    monkeypatch.setattr(precision, "probe", lambda device: SLOW_CPU)
    publish_volumes(tmp_path / "one", classes=3, mask_values=[0, 1, 4])
    publish_volumes(tmp_path / "two", channels=2, mask_values=[0, 7])
    image, mask = case()
    (tmp_path / "a.nii.gz").write_bytes(nifti(image, affine_of("LPS", (0.5, 1, 2))))
    (tmp_path / "a_mask.nii.gz").write_bytes(nifti(mask, affine_of("LPS", (0.5, 1, 2))))
    with one_thread():
        yield tmp_path


def octa(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def refused(result, *phrases):
    assert result.exit_code != 0, result.output
    for phrase in phrases:
        assert phrase in " ".join(result.output.replace("│", " ").split())


def rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_case_becomes_a_mask_and_rows(folder):
    result = octa("one", "a.nii.gz", "--mask", "a_mask.nii.gz", "--probability", "--out", "out")
    assert result.exit_code == 0, result.output
    mask, sent = nib.load(folder / "out" / "a.nii.gz"), nib.load(folder / "a.nii.gz")
    np.testing.assert_array_equal(mask.affine, sent.affine)
    values = np.asarray(mask.dataobj)
    assert values.shape == sent.shape
    assert set(np.unique(values)) <= {0, 1, 4}
    table = rows(folder / "out" / "volumes.csv")
    assert [(row["case"], row["class"], row["value"]) for row in table] == [("a", "1", "1"), ("a", "2", "4")]
    for row in table:
        assert int(row["voxels"]) == (values == int(row["value"])).sum()
        assert float(row["ml"]) == pytest.approx(int(row["voxels"]) / 1000)
    assert nib.load(folder / "out" / "a_probability.nii.gz").shape == (*SHAPE, 3)
    evaluation = rows(folder / "out" / "evaluation.csv")
    assert [(row["case"], row["mask"], row["class"]) for row in evaluation] == [
        ("a", "a_mask.nii.gz", "1"),
        ("a", "a_mask.nii.gz", "2"),
    ]
    known = np.asarray(nib.load(folder / "a_mask.nii.gz").dataobj)
    overlap = 2 * ((values == 1) & (known == 1)).sum() / ((values == 1).sum() + (known == 1).sum())
    assert float(evaluation[0]["dice"]) == pytest.approx(overlap)


def test_a_model_of_other_voxels_answers_on_the_grid_of_the_case(folder):
    publish_volumes(folder / "coarse", classes=3, mask_values=[0, 1, 4], common_spacing_mm=[2.0, 2.0, 2.0])
    result = octa("coarse", "a.nii.gz", "--mask", "a_mask.nii.gz", "--probability", "--out", "out")
    assert result.exit_code == 0, result.output
    mask, sent = nib.load(folder / "out" / "a.nii.gz"), nib.load(folder / "a.nii.gz")
    np.testing.assert_array_equal(mask.affine, sent.affine)
    assert mask.shape == sent.shape
    values = np.asarray(mask.dataobj)
    for row in rows(folder / "out" / "volumes.csv"):
        assert int(row["voxels"]) == (values == int(row["value"])).sum()
        assert float(row["ml"]) == pytest.approx(int(row["voxels"]) / 1000)
    assert nib.load(folder / "out" / "a_probability.nii.gz").shape == (*SHAPE, 3)
    known = np.asarray(nib.load(folder / "a_mask.nii.gz").dataobj)
    overlap = 2 * ((values == 1) & (known == 1)).sum() / ((values == 1).sum() + (known == 1).sum())
    assert float(rows(folder / "out" / "evaluation.csv")[0]["dice"]) == pytest.approx(overlap)


def test_a_folder_of_volumes_becomes_masks_and_a_table_in_ml(folder):
    (folder / "cases").mkdir()
    affines = {"b": affine_of("LPS", (0.5, 1, 2)), "c": affine_of("RAS", (2, 2, 2))}
    for seed, (name, affine) in enumerate(affines.items()):
        (folder / "cases" / f"{name}.nii.gz").write_bytes(nifti(case(seed)[0], affine))
    result = octa("one", "cases", "--out", "out", "--confidence-map")
    assert result.exit_code == 0, result.output
    made = {f"{name}{kind}.nii.gz" for name in "bc" for kind in ("", "_confidence")}
    assert {path.name for path in (folder / "out").iterdir()} == {"volumes.csv", *made}
    table = rows(folder / "out" / "volumes.csv")
    assert [(row["case"], row["value"]) for row in table] == [("b", "1"), ("b", "4"), ("c", "1"), ("c", "4")]
    for row in table:
        mask = nib.load(folder / "out" / f"{row['case']}.nii.gz")
        np.testing.assert_array_equal(mask.affine, affines[row["case"]])
        found = (np.asarray(mask.dataobj) == int(row["value"])).sum()
        assert int(row["voxels"]) == found
        assert float(row["ml"]) == pytest.approx(found * {"b": 1, "c": 8}[row["case"]] / 1000)
    confidence = nib.load(folder / "out" / "b_confidence.nii.gz").get_fdata()
    assert ((confidence >= 1 / 3 - 0.01) & (confidence <= 1 + 1e-6)).all()


def test_a_mask_never_replaces_a_file_beside_the_case(folder):
    before = (folder / "a.nii.gz").read_bytes()
    refused(octa("one", "a.nii.gz", "--out", "."), "a.nii.gz is there already", "name another folder")
    assert (folder / "a.nii.gz").read_bytes() == before
    assert not (folder / "volumes.csv").exists()


def test_an_empty_folder_or_zip_is_asked_for_cases_alone(folder):
    (folder / "nothing").mkdir()
    zip_of(folder / "nothing.zip", {})
    for empty in ("nothing", "nothing.zip"):
        refused(octa("one", empty, "--out", "out"), "put the scans to segment, images or volumes, into it")
    assert not (folder / "out").exists()


def test_modalities_from_files_folders_and_zips(folder):
    contents = {f"{name}_000{at}.nii.gz": nifti(case(at)[0]) for name in "xyz" for at in (0, 1)}
    (folder / "cases").mkdir()
    for name, content in contents.items():
        (folder / ("cases" if name[0] == "y" else ".") / name).write_bytes(content)
    zip_of(folder / "z.zip", {name: content for name, content in contents.items() if name[0] == "z"})
    result = octa("two", "cases", "x_0001.nii.gz", "z.zip", "x_0000.nii.gz", "--out", "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["volumes.csv", *(f"{n}.nii.gz" for n in "xyz")]
    masks = [np.asarray(nib.load(folder / "out" / f"{name}.nii.gz").dataobj) for name in "xyz"]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
    assert set(np.unique(masks[0])) <= {0, 7}
    refused(octa("two", "x_0001.nii.gz", "--out", "no"), "case x lacks 0000")
    refused(octa("two", "cases", "cases", "--out", "no"), "several cases are called y")
    refused(octa("two", "cases", "--mask", "a.nii.gz", "--mask", "a.nii.gz", "--out", "no"), "2 masks for 1 cases")
    refused(octa("one", "cases", "--min-object-px", "3", "--out", "no"), "for a volume there is no min_object_px")
    refused(octa("one", "one", "--out", "no"), "holds no volume")
    assert not (folder / "no").exists()


def test_pictures_and_volumes_do_not_meet(folder):
    (folder / "scan.png").write_bytes(encoded(grey()))
    refused(octa("one", "scan.png"), "scan.png is no volume")
    publish_volumes(folder / "made")
    (folder / "flat").mkdir()
    (folder / "flat" / "card.json").write_text('{"network": "tiny_unet", "channels": 1, "classes": 2}')
    save_weights(registry.build("tiny_unet", 1, 1), folder / "flat" / "weights.safetensors")
    refused(octa("flat", "a.nii.gz"), "a.nii.gz is a volume, but model flat was trained on pictures")
    refused(octa("flat", "one"), "but no image")
    refused(octa("made", "a.nii.gz", "--with-model", "flat"), "2 classes of volumes")


def test_an_exported_graph_gives_the_masks_of_torch(folder):
    make_export(folder / "one", "openvino")
    record = find_export(folder / "one", "openvino")
    assert record is not None
    assert (record.checked_on, record.agreement["fp32"] > 0.999) == ("synthetic", True)
    image = np.random.default_rng(0).integers(0, 256, (1, 21, 35, 17)).astype(np.uint8)
    quick, plain = (open_volume_predictor(folder / "one", "cpu", engine) for engine in ("auto", "torch"))
    assert (quick.engine.split()[0], plain.engine.split()[0]) == ("openvino", "torch")
    warm_up(quick, folder / "one")
    np.testing.assert_allclose(quick.probabilities(image), plain.probabilities(image), atol=0.02)
