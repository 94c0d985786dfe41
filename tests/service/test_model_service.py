from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from octa_backend.errors import JobNotFound, ModelNotFound, NoModelYet
from octa_backend.service import model_service
from octa_backend.storage.files import GONE_FILE
from octa_backend.storage.tables import Model
from tests.fakes import a_job


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"weights")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_model_is_a_folder_with_weights_and_a_card_that_says_with_what_it_was_made(files, weights):
    folder = files.model("m1")
    model_service.write_model(folder, weights, {"network": "unet", "note": "视网膜"})
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert (card["network"], card["note"]) == ("unet", "视网膜")
    assert {"octa-backend", "torch", "numpy", "python", "git_revision"} <= set(card["versions"])
    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    assert names(files.root / "models") == ["m1"]


def test_a_model_with_results_is_not_written_again(files, weights):
    folder = files.model("m1")
    for number, results in enumerate([{"test": {"dice": 0.5}}, {"tuned_threshold": {"threshold": 0.4}}]):
        model_service.write_model(folder / str(number), weights, {"try": 1, **results})
        model_service.write_model(folder / str(number), weights, {"try": 2, "test": {"dice": 0.6}})
        assert json.loads((folder / str(number) / "card.json").read_text("utf-8"))["try"] == 1


def test_a_card_without_results_becomes_the_one_that_has_them_and_the_weights_stay(files, weights, tmp_path):
    folder = files.model("m1")
    model_service.write_model(folder, weights, {"test": None, "tuned_threshold": None})
    kept = folder / "exports" / "onnx-1.zip"
    kept.parent.mkdir()
    kept.write_bytes(b"with the card as it was")
    model_service.write_model(folder, tmp_path / "none", {"test": {"dice": 0.5}})
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert (card["test"], "python" in card["versions"]) == ({"dice": 0.5}, True)
    assert (folder / "weights.safetensors").read_bytes() == b"weights"
    assert names(folder) == ["card.json", "exports", "weights.safetensors"]
    assert not kept.exists()


def test_a_model_whose_weights_are_missing_leaves_nothing(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        model_service.write_model(files.model("m1"), tmp_path / "none", {})
    assert names(files.root / "models") == []


def test_a_model_is_registered_once_and_keeps_the_first_card_with_results(database):
    with database.writing() as session:
        job = a_job(session)
        first = model_service.register(session, "m1", job, {"test": None})
        again = model_service.register(session, "m1", job, {"test": {"dice": 0.5}})
        model_service.register(session, "m1", job, {"test": None})
    assert again is first
    with database.reading() as session:
        model = model_service.get(session, "m1")
        assert (model.job_id, model.file_id, model.card) == (job.id, job.file_id, {"test": {"dice": 0.5}})


def test_the_newest_model_answers_where_none_is_named(database):
    with database.writing() as session:
        one, other = a_job(session), a_job(session)
        for day, (model_id, job) in enumerate([("m1", one), ("m2", one), ("m3", other)], start=1):
            created = datetime(2024, 1, day, tzinfo=UTC)
            session.add(Model(id=model_id, job_id=job.id, file_id=job.file_id, card={}, created_at=created))
    with database.reading() as session:
        assert model_service.find(session, None, None).id == "m3"
        assert model_service.find(session, None, one.id).id == "m2"
        assert model_service.find(session, "m1", None).id == "m1"


def test_what_is_missing_is_said_in_words(database):
    with database.writing() as session:
        job_id = a_job(session).id
    with database.reading() as session:
        with pytest.raises(ModelNotFound, match="no model has the id 'm9'"):
            model_service.find(session, "m9", None)
        with pytest.raises(NoModelYet, match="start a training with POST /train/start-with-file"):
            model_service.find(session, None, None)
        with pytest.raises(NoModelYet, match=f"job {job_id} is queued and has published no model"):
            model_service.find(session, None, job_id)
        with pytest.raises(JobNotFound, match="'nope'"):
            model_service.find(session, None, "nope")


def test_other_weights_are_published_beside_those_that_have_the_name(files, weights, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"WEIGHTS")
    folder = files.model("job-e8")
    assert model_service.folder_for(folder, weights) == folder
    model_service.write_model(folder, weights, {})
    assert model_service.folder_for(folder, weights) == folder
    beside = model_service.folder_for(folder, other)
    assert beside.name == "job-e8-2"
    model_service.write_model(beside, other, {})
    assert [model_service.folder_for(folder, path) for path in (weights, other)] == [folder, beside]
    assert (folder / "weights.safetensors").read_bytes() == b"weights"


def test_weights_are_published_beside_a_deleted_model_that_is_not_quite_gone(files, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    folder = files.model("job-e8")
    model_service.write_model(folder, weights, {})
    (folder / GONE_FILE).touch()
    assert model_service.folder_for(folder, weights).name == "job-e8-2"
