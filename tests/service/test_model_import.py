from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy.orm import Session

from octa_backend.errors import InvalidModel, StorageFull
from octa_backend.inference.foreign_weights import network_with
from octa_backend.inference.model_card import ModelCard
from octa_backend.inference.model_folder import member_folders, read_card
from octa_backend.inference.predictor import open_predictor
from octa_backend.service import experiment, foreign_model, model_import, model_shelf
from octa_backend.service.evaluation_model import open_model
from octa_backend.service.import_wish import ImportWish
from octa_backend.service.model_package import write_package
from octa_backend.service.model_service import write_model
from octa_backend.storage.tables import Model
from octa_backend.training.initial_weights import InitialWeights, read_tensors
from tests.data.zips import grey
from tests.exports import FakeExporter
from tests.held import KNOWN, held
from tests.service.test_training_run import Trained
from tests.shelf import an_upload, card, package, state_dict, weights
from tests.tiny import SLOW_CPU, one_thread, tiny_networks

SMALL = ImportWish(network="small_unet", channels=1)


@pytest.fixture(autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


@pytest.fixture
def take(database, settings, tmp_path):
    def take(content, name="m.zip", wish=None):
        return model_import.take_in(database, settings, an_upload(tmp_path, content, name), wish or ImportWish())

    return take


def names(files):
    return sorted(path.name for path in files.models.iterdir())


def rows(database):
    with database.reading() as session:
        return [model.id for model in model_shelf.list_models(session, 10, None).rows]


def mask(folder):
    return open_predictor(folder, "cpu", "torch").predict(grey(1, 40, 56)[None]).mask


def test_what_was_trained_is_downloaded_and_imported_with_the_same_mask(
    settings, database, files, take, tmp_path, monkeypatch
):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    job = Trained(settings, database, files)(("train", "train", "val", "test"), epochs=2)
    with database.writing() as session:
        model = model_shelf.describe(session, job.model_id, {"name": "mine", "licence": "MIT"})
        card = model_shelf.whole_card(model)
    write_package(FakeExporter(), files.model(job.model_id), card, tmp_path / "out.zip")
    found = take((tmp_path / "out.zip").read_bytes(), "out.zip")
    assert (found.job_id, found.file_id, found.name, found.licence) == (None, job.file_id, "mine", "MIT")
    assert found.card["imported"]["model_id"] == job.model_id
    same = set(card) - {"model_id", "name", "notes", "licence"}
    assert {name: found.card[name] for name in same} == {name: card[name] for name in same}
    assert read_card(files.model(found.id)) == found.card
    np.testing.assert_array_equal(mask(files.model(found.id)), mask(files.model(job.model_id)))
    assert names(files) == sorted([found.id, job.model_id])


def test_a_card_of_a_training_has_all_that_is_to_be_known_and_is_of_the_schema(settings, database, files, monkeypatch):
    monkeypatch.setattr(experiment, "probe", lambda device: SLOW_CPU)
    job = Trained(settings, database, files)(("train", "train", "val", "test"), epochs=2)
    with database.reading() as session:
        row = session.get_one(Model, job.model_id)
    card = read_card(files.model(job.model_id))
    assert row.card == card
    read = ModelCard.model_validate(card)
    assert read.curves["epoch"] == [1, 2]
    assert len(read.curves["val_dice"]) == len(read.curves["train_loss"]) == 2
    assert read.validation["dice"] == read.best.val_dice
    assert set(read.validation) == {"loss", "dice", "iou", "precision", "recall"}
    assert read.test["scans"] == 1
    assert "few_validation_scans" in [finding.code for finding in read.findings]
    assert all(finding.message for finding in read.findings)
    assert read.versions["torch"] == torch.__version__.partition("+")[0] or read.versions["torch"]
    assert (read.licence, read.notice, read.format) == (None, "research use only", 1)


@pytest.mark.parametrize(("name", "wrapped"), [("w.safetensors", False), ("w.pt", False), ("w.pth", True)])
def test_bare_weights_become_a_model_of_the_network_that_was_named(take, files, name, wrapped):
    tensors = state_dict(seed=3)
    file = io.BytesIO()
    torch.save({"model": {f"module.{key}": value for key, value in tensors.items()}} if wrapped else tensors, file)
    content = weights(seed=3) if name.endswith("safetensors") else file.getvalue()
    model = take(content, name, ImportWish(network="small_unet", channels=1, normalisation="zscore", name="bare"))
    kept = load_file(files.model(model.id) / "weights.safetensors")
    assert all(torch.equal(kept[key], tensors[key]) for key in tensors)
    assert (model.name, model.file_id, model.card["normalisation"]) == ("bare", None, "zscore")
    assert open_model(files.model(model.id), "cpu").plan.normalisation == "zscore"
    assert mask(files.model(model.id)).shape == (40, 56)
    assert read_tensors(InitialWeights("x", files.model(model.id)))


def test_half_precision_is_taken_as_single(take, files):
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in state_dict().items()}
    file = io.BytesIO()
    torch.save(tensors, file)
    model = take(file.getvalue(), "w.pt", SMALL)
    assert load_file(files.model(model.id) / "weights.safetensors")["head.weight"].dtype == torch.float32


def test_an_ensemble_is_downloaded_and_imported_with_its_members(take, files, database, tmp_path):
    members = [take(weights(seed=seed), "w.safetensors", SMALL) for seed in (1, 2)]
    named = [{"model_id": one.id, "folder": one.id, "fold": at} for at, one in enumerate(members, 1)]
    card = {**members[0].card, "model_id": "both", "members": named, "imported": None}
    write_model(files.model("both"), None, card)
    write_package(FakeExporter(), files.model("both"), card, tmp_path / "both.zip")
    with zipfile.ZipFile(tmp_path / "both.zip") as archive:
        inside = f"members/{members[0].id}"
        assert {f"{inside}/weights.safetensors", f"{inside}/card.json", f"{inside}/onnx/model.onnx"} <= set(
            archive.namelist()
        )
    found = take((tmp_path / "both.zip").read_bytes(), "both.zip")
    assert len(member_folders(files.model(found.id), found.card)) == 2
    assert rows(database)[:3] == [found.id, f"{found.id}-m2", f"{found.id}-m1"]
    np.testing.assert_array_equal(mask(files.model(found.id)), mask(files.model("both")))


def test_graphs_of_a_package_are_not_taken_over(take, files):
    model = take(package(**{"onnx/model__onnx": b"of another model", "exports/evil__xml": b"<net/>"}))
    assert sorted(path.name for path in files.model(model.id).iterdir()) == ["card.json", "weights.safetensors"]


def test_a_path_in_a_card_leads_nowhere(take, files, tmp_path):
    member = {"model_id": "m", "folder": "../../elsewhere"}
    content = package(**{"card__json": card(members=[member]), "members/m/card__json": card()})
    with pytest.raises(InvalidModel, match=r"members/m/weights\.safetensors is not in"):
        take(content)
    with pytest.raises(InvalidModel, match="file_id"):
        take(package(card__json=card(dataset={"file_id": "../../jobs"})))
    assert names(files) == []


def test_what_fails_at_the_last_moment_leaves_nothing(take, files, database, monkeypatch):
    def fail(self, model_id, card, network):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(foreign_model.ModelReader, "_keep", fail)
    with pytest.raises(StorageFull):
        take(package())
    assert (names(files), rows(database)) == ([], [])


def test_a_row_that_cannot_be_kept_takes_the_folder_with_it(take, files, database, monkeypatch):
    def fail(session):
        assert names(files)
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            take(package())
    assert (names(files), rows(database)) == ([], [])


def test_a_plan_of_another_network_is_refused(take):
    plan = foreign_model._plan_for(ModelCard(network="pointwise", channels=1, classes=2)).model_dump(mode="json")
    with pytest.raises(InvalidModel, match="the plan is of"):
        take(package(card__json=card(plan=plan)))
    with pytest.raises(InvalidModel, match="not one of this version"):
        take(package(card__json=card(plan={"config": 5})))
    with pytest.raises(InvalidModel, match="1 labels for 2 classes"):
        take(package(card__json=card(labels=[{"name": "vein"}])))
    assert json.loads(card())["format"] == 1


@KNOWN
def test_weights_that_are_refused_are_not_held_while_the_refusal_is_told(tmp_path):
    """Windows removes no file that is mapped into memory."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights(head__bias=torch.full_like(state_dict("small_unet", 1, 2)["head.bias"], torch.nan)))
    with pytest.raises(InvalidModel, match="not finite") as caught:
        network_with(path, path.name, "small_unet", 1, 2)
    assert held(path) == set(), f"{caught.tb} keeps it open"
