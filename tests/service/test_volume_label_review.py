"""Masks of volumes against a model whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.commands import label_review
from octa_backend.data.intake import prepare
from octa_backend.errors import ModelDoesNotFit
from octa_backend.inference.label_review import Labelled
from octa_backend.inference.predictor import Predictor
from octa_backend.service.diagnosis_service import judge_labels, review_labels
from tests.data.test_volume_intake import LIMITS
from tests.fakes import a_dataset
from tests.tiny import one_thread
from tests.volume_models import by_brightness
from tests.volumes import affine_of, ball, nifti, stack, zip_of

SCANS, BAD = 6, 4
AFFINE = affine_of("LPS", (1, 1, 2))


@pytest.fixture(scope="module", autouse=True)
def _slowly():
    with one_thread():
        yield


def archive(folder, ending=".nii.gz"):
    """Bright balls with their masks; that of `BAD` lacks the half of its ball that is on the first axis' far side."""
    files = {}
    for number in range(SCANS):
        mask = ball()
        image = np.full(mask.shape, 20 + number, np.uint8) + 200 * mask
        if number == BAD:
            mask[mask.shape[0] // 2 :] = 0
        for kind, values in (("images", image), ("masks", mask)):
            content = nifti(values, AFFINE) if ending == ".nii.gz" else stack(np.ascontiguousarray(values.T))
            files[f"{kind}/{number}{ending}"] = content
    return zip_of(folder / "scans.zip", files)


@pytest.fixture
def dataset(tmp_path, files, database):
    prepare(archive(tmp_path), files.dataset("d" * 20), LIMITS)
    with database.writing() as session:
        return a_dataset(session, spatial_dims=3, scans=SCANS)


def lacks_half(reviews):
    worst, *others = reviews
    assert (worst.scan, worst.extra_fraction) == (str(BAD), 0)
    assert worst.missed_fraction == pytest.approx(0.5, abs=0.1)
    assert all(one.disagreement < 0.05 for one in others)


@pytest.mark.parametrize("card", [{}, {"common_spacing_mm": [1.0, 1.0, 1.0]}])
def test_a_mask_that_lacks_half_is_found_whatever_voxels_the_model_was_trained_on(tmp_path, files, dataset, card):
    found = review_labels(files, dataset, by_brightness(tmp_path / "m", **card))
    lacks_half(found.reviews)
    (finding,) = found.findings
    assert (finding.code, finding.scans) == ("labels_suspicious", (str(BAD),))


def test_the_command_line_finds_the_same(tmp_path, files, dataset, monkeypatch):
    model = by_brightness(tmp_path / "m")
    monkeypatch.setattr(label_review, "load_predictor", lambda *_: model)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["diagnose", "scans.zip", "--model", "m", "--json"])
    answer = json.loads(result.stdout)
    reviews = review_labels(files, dataset, model).reviews
    assert [(one["scan"], one["dice"]) for one in answer["label_review"]] == [(one.scan, one.dice) for one in reviews]
    assert "labels_suspicious" in [finding["code"] for finding in answer["findings"]]
    shown = CliRunner().invoke(app, ["diagnose", "scans.zip", "--model", "m"])
    assert f"most of all {BAD}" in " ".join(shown.output.split())


def test_models_that_do_not_fit_are_told(tmp_path, files, dataset, database):
    volume = Labelled("a", np.zeros((1, 16, 16, 16), np.uint8), np.zeros((16, 16, 16), np.uint8), (1, 1, 1))
    picture = Labelled("a", np.zeros((1, 16, 16), np.uint8), np.zeros((16, 16), np.uint8))
    of_volumes = by_brightness(tmp_path / "m", channels=2, modalities=["flair", "t1"])
    with pytest.raises(ModelDoesNotFit, match=r"holds pictures, but the model was trained on volumes"):
        judge_labels(of_volumes, [picture], 2)
    with pytest.raises(ModelDoesNotFit, match=r"has 1 channels, but .* on 2: 0000 \(flair\), 0001 \(t1\)"):
        review_labels(files, dataset, of_volumes)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "card.json").write_text('{"network": "tiny_unet", "channels": 1, "classes": 2}')
    with pytest.raises(ModelDoesNotFit, match=r"holds volumes, but the model was trained on pictures"):
        judge_labels(Predictor(tmp_path / "flat", []), [volume], 2)


def test_stacks_that_do_not_know_their_voxels_are_no_scans_for_a_model_of_one_size(tmp_path, files, database):
    prepare(archive(tmp_path, ".tif"), files.dataset("d" * 20), LIMITS)
    with database.writing() as session:
        stacks = a_dataset(session, spatial_dims=3, scans=SCANS)
    lacks_half(review_labels(files, stacks, by_brightness(tmp_path / "m")).reviews)
    with pytest.raises(ModelDoesNotFit, match="does not say how large its own are"):
        review_labels(files, stacks, by_brightness(tmp_path / "n", common_spacing_mm=[1, 1, 1]))
