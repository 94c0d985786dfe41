from __future__ import annotations

import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from octa_backend.inference import predictor as predictor_module
from octa_backend.service import model_service
from octa_backend.storage.tables import Job, Model
from octa_backend.training import precision
from tests.data.zips import encoded, grey
from tests.exports import FakeExporter
from tests.fakes import a_job, wait_for
from tests.shelf import put
from tests.tiny import SLOW_CPU, one_thread, tiny_networks


@pytest.fixture(autouse=True)
def _networks():
    with tiny_networks(), one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "probe", lambda device: SLOW_CPU)  # measuring takes a second or more
        yield


def register(api, *names, **columns):
    """Rows of models without files; returns the job's id."""
    with api.parts.database.writing() as session:
        job = a_job(session)
        for name in names:
            model_service.register(session, name, job, {"network": "unet", "channels": 1, "classes": 2})
            for column, value in columns.items():
                setattr(session.get_one(Model, name), column, value)
        return job.id


def listed(api, query=""):
    answer = api.get(f"/models{query}")
    assert answer.status_code == 200, answer.text
    return [one["model_id"] for one in answer.json()["items"]]


def test_models_are_listed_newest_first_and_in_pages(api):
    assert listed(api) == []
    register(api, "m1", "m2", "m3")
    assert listed(api) == ["m3", "m2", "m1"]
    first = api.get("/models?limit=2").json()
    assert [one["model_id"] for one in first["items"]] == ["m3", "m2"]
    assert listed(api, f"?limit=2&cursor={first['next_cursor']}") == ["m1"]
    one = first["items"][0]
    assert (one["network"], one["is_default"], one["imported"], one["members"]) == ("unet", False, False, None)
    assert "card" not in one
    assert api.get("/models?cursor=nonsense").status_code == 422


def test_the_list_is_filtered_by_dataset_and_network(api):
    register(api, "m1")
    register(api, "m2", file_id="f" * 20)
    register(api, "m3", card={"network": "tiny_unet", "channels": 1, "classes": 2})
    assert listed(api, f"?file_id={'f' * 20}") == ["m2"]
    assert listed(api, "?network=tiny_unet") == ["m3"]
    assert listed(api, f"?network=unet&file_id={'d' * 20}") == ["m1"]
    assert listed(api, "?network=none") == []


def test_what_is_said_of_a_model_is_kept_and_stands_in_its_card(api):
    register(api, "m1")
    assert api.get("/models/m1").json()["card"]["licence"] is None
    said = api.request("PATCH", "/models/m1", json={"name": " 视网膜 2 ", "notes": "try", "licence": "CC BY 4.0"})
    assert said.status_code == 200, said.text
    assert api.request("PATCH", "/models/m1", json={"notes": None}).status_code == 200
    shown = api.get("/models/m1").json()
    assert (shown["name"], shown["notes"], shown["licence"]) == ("视网膜 2", None, "CC BY 4.0")
    assert (shown["card"]["name"], shown["card"]["licence"]) == ("视网膜 2", "CC BY 4.0")
    assert api.get("/models").json()["items"][0]["name"] == "视网膜 2"


@pytest.mark.parametrize(
    "said", [{"name": ""}, {"name": "  "}, {"name": "n" * 201}, {"notes": "n" * 10_001}, {"title": "x"}, {"name": 5}]
)
def test_words_that_do_not_fit_are_refused(api, said):
    register(api, "m1")
    assert api.request("PATCH", "/models/m1", json=said).status_code == 422
    assert api.get("/models/m1").json()["name"] is None


def test_inputs_of_a_page_that_were_left_open_say_nothing_of_an_import(api):
    answer = put(api, classes="", normalisation="", ignore_index="", notes="", licence="")
    assert answer.status_code == 201, answer.text
    assert api.get("/models").json()["items"][0]["classes"] == 2


def test_the_chosen_default_answers_until_it_is_deleted(api):
    assert (api.get("/models/default").status_code, api.get("/models/default").json()["type"]) == (
        409,
        "urn:octa:no-model-yet",
    )
    register(api, "m1", "m2", "m3")
    assert api.get("/models/default").json()["model_id"] == "m3"
    for name in ("m1", "m2"):
        assert api.request("PUT", "/models/default", json={"model_id": name}).json()["is_default"]
    assert api.get("/models/default").json()["model_id"] == "m2"
    assert [one["is_default"] for one in api.get("/models").json()["items"]] == [False, True, False]
    assert api.delete("/models/m2").status_code == 204
    assert api.get("/models/default").json()["model_id"] == "m3"
    assert api.request("PUT", "/models/default", json={"model_id": "nope"}).status_code == 404
    assert api.request("PUT", "/models/default", json={}).status_code == 422


def test_a_model_that_a_waiting_or_running_job_begins_with_is_not_deleted(api):
    job_id = register(api, "m1")
    with api.parts.database.writing() as session:
        job = session.get_one(Job, job_id)
        job.config = {**job.config, "pretrained": "m1"}
    refused = api.delete("/models/m1")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:octa:model-in-use")
    assert f"job {job_id} is queued and begins with the weights of m1" in refused.json()["detail"]
    api.post(f"/train/jobs/{job_id}/cancel")
    assert api.delete("/models/m1").status_code == 204


def test_a_model_whose_files_are_held_is_gone_all_the_same_and_its_files_go_at_the_next_start(api, monkeypatch):
    """As on Windows, where `octa predict` reads them."""
    model_id = put(api).json()["model_id"]

    def refuse(*given, **options):
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr("octa_backend.storage.files.Path.replace", refuse)
        patch.setattr("octa_backend.storage.files.shutil.rmtree", refuse)
        assert api.delete(f"/models/{model_id}").status_code == 204
    assert api.get(f"/models/{model_id}").status_code == 404
    assert api.parts.files.model(model_id).exists()
    api.parts.files.prepare()
    assert list(api.parts.files.models.iterdir()) == []


def test_a_model_that_is_answering_is_not_deleted(api, monkeypatch):
    model_id = put(api).json()["model_id"]
    inside, go_on = threading.Event(), threading.Event()
    plain = predictor_module.predict_logits

    def slow(*given):
        inside.set()
        assert go_on.wait(20)
        return plain(*given)

    api.parts.predictions.predictor(model_id)
    monkeypatch.setattr(predictor_module, "predict_logits", slow)
    with ThreadPoolExecutor(1) as pool:
        sent = {"file": ("scan.png", encoded(grey(1)), "image/png")}
        asked = pool.submit(api.post, "/predict", files=sent, data={"model_id": model_id, "measure": "false"})
        assert inside.wait(20)
        refused = api.delete(f"/models/{model_id}")
        go_on.set()
        assert asked.result().status_code == 200
    assert (refused.status_code, "at work for a prediction" in refused.json()["detail"]) == (409, True)
    assert api.delete(f"/models/{model_id}").status_code == 204


def test_a_download_holds_what_it_takes_and_is_gone_from_the_server_afterwards(api, monkeypatch):
    monkeypatch.setattr(api.parts.predictions.exporter, "ensure", FakeExporter().ensure)
    model_id = put(api, name="mine.safetensors", licence="MIT").json()["model_id"]
    answer = api.get(f"/models/{model_id}/download")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == f'attachment; filename="{model_id}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert "MIT" in archive.read("card.md").decode()
    wait_for("the zip to go", lambda: api.traces()["uploads"] == [])
    beyond = api.get(f"/models/{model_id}/download", headers={"Range": "bytes=99999999-"})
    assert (beyond.status_code, api.traces()["uploads"]) == (416, [])
    again = put(api, answer.content, "m.zip")
    assert again.status_code == 201, again.text
    assert again.headers["location"] == f"/models/{again.json()['model_id']}"
    assert (again.json()["licence"], again.json()["job_id"], again.json()["file_id"]) == ("MIT", None, None)
    assert api.get("/models/nope/download").status_code == 404
