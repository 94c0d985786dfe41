"""The unseen scan at the end of `octa demo`; tests/acceptance tells the whole story."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from octa_backend.commands import demo
from octa_backend.data.synthetic_volumes import write_volume_zip
from tests.data.zips import dataset
from tests.fakes import zip_bytes
from tests.volume_models import volume_card
from tests.volume_server import volume_api
from tests.volumes import case, nifti


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    cards = {
        "one": volume_card(normalisation="unit"),
        "two": volume_card(channels=2, normalisation="unit"),
    }
    with volume_api(tmp_path_factory.mktemp("demo"), cards) as api:
        yield api


def trained(api, model_id, file_id):
    """What the last poll of a training would say; its first scan was held out."""
    card = api.parts.files.model(model_id) / "card.json"
    manifest = json.loads((api.parts.files.dataset(file_id) / "manifest.json").read_text("utf-8"))
    splits = {"test": [], "val": [manifest["scans"][0]["name"]]}
    card.write_text(json.dumps({**json.loads(card.read_text("utf-8")), "splits": splits}), "utf-8")
    return {"model_id": model_id, "file_id": file_id, "best": {"epoch": 1, "val_dice": 0.5}, "test": None}


def volumes(tmp_path, channels):
    if channels == 2:
        cases = {f"case_{number}.nii.gz": case(number) for number in range(3)}
        images = {f"imagesTr/{name}": nifti(np.stack([image, image], -1)) for name, (image, _) in cases.items()}
        return zip_bytes(images | {f"labelsTr/{name}": nifti(mask) for name, (_, mask) in cases.items()})
    path = tmp_path / "volumes.zip"
    write_volume_zip(path, 3, size=24, slice_thickness=2)
    return path.read_bytes()


@pytest.mark.parametrize(("model_id", "channels", "dice"), [("one", 1, "0."), ("two", 2, "1.0000")])
def test_an_unseen_volume_is_predicted_and_kept_as_nifti(server, tmp_path, capsys, model_id, channels, dice):
    sent = server.upload(volumes(tmp_path, channels)).json()
    assert (sent["spatial_dims"], sent["channels"]) == (3, channels)
    progress = trained(server, model_id, sent["file_id"])
    unseen = demo._held_out(server.parts.files.root, progress)
    demo._predict(Console(width=200), server, unseen, progress, tmp_path)
    scan, mask = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("scan", "mask"))
    assert scan.shape[:3] == mask.shape
    np.testing.assert_allclose(scan.affine, mask.affine)
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    assert f"{unseen.name}: Dice {dice}" in told
    assert str(tmp_path / "mask.nii.gz") in told


def test_an_unseen_picture_is_sent_as_a_png(server, tmp_path):
    file_id = server.upload(zip_bytes(dataset())).json()["file_id"]
    unseen = demo._held_out(server.parts.files.root, trained(server, "one", file_id))
    name, content = unseen.files()["file"]
    assert (name, content[:4]) == ("scan.png", b"\x89PNG")
    assert unseen.image.shape[:2] == unseen.mask.shape
