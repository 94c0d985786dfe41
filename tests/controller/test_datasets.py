from __future__ import annotations

import hashlib
import json

from tests.data.zips import dataset
from tests.fakes import a_dataset, zip_bytes

ZIP = zip_bytes(dataset())


def test_an_upload_is_answered_with_the_dataset_and_where_it_is(api):
    answer = api.upload(ZIP)
    assert answer.status_code == 201
    found = answer.json()
    digest = hashlib.sha256(ZIP).hexdigest()
    assert (found["file_id"], found["sha256"], found["name"]) == (digest[:20], digest, "scans.zip")
    assert (found["scans"], found["channels"], found["classes"], found["spatial_dims"]) == (3, 1, 2, 2)
    assert (found["splits"], found["repairs"], found["size_bytes"]) == ({}, [], len(ZIP))
    assert [finding["code"] for finding in found["findings"]] == ["few_scans"]
    assert answer.headers["location"] == f"/datasets/{found['file_id']}"
    assert api.get(answer.headers["location"]).json() == found


def test_the_same_zip_again_is_the_same_dataset(api):
    first, again = api.upload(ZIP), api.upload(ZIP, name="renamed.zip")
    assert again.status_code == 201
    assert again.json() == first.json()
    assert api.traces()["rows"]["datasets"] == 1


def test_findings_of_a_dataset_follow_the_language_asked_for(api):
    file_id = api.upload(zip_bytes(dataset() | {"notes.txt": b"x"})).json()["file_id"]
    messages = {
        language: api.get(f"/datasets/{file_id}", headers={"Accept-Language": language}).json()["findings"][-1][
            "message"
        ]
        for language in ("en", "zh")
    }
    assert "were ignored" in messages["en"]
    assert "已忽略" in messages["zh"]


def test_a_list_is_walked_page_by_page(api):
    with api.parts.database.writing() as session:
        for number in range(7):
            a_dataset(session, f"{number}" * 20)
    found, url = [], "/datasets?limit=3"
    sizes = []
    while url:
        page = api.get(url).json()
        sizes.append(len(page["items"]))
        found += [item["file_id"][0] for item in page["items"]]
        url = page["next_cursor"] and f"/datasets?limit=3&cursor={page['next_cursor']}"
    assert found == list("6543210")
    assert sizes == [3, 3, 1]


def test_an_empty_list_has_no_next_page(api):
    assert api.get("/datasets").json() == {"items": [], "next_cursor": None}


def test_a_dataset_is_deleted_once(api, file_id):
    assert api.delete(f"/datasets/{file_id}").status_code == 204
    assert api.delete(f"/datasets/{file_id}").status_code == 404
    assert api.get(f"/datasets/{file_id}").status_code == 404
    assert api.traces()["datasets"] == []


def test_a_dataset_whose_files_are_held_is_gone_all_the_same_and_whole_when_it_comes_again(api, file_id, monkeypatch):
    """As on Windows, where another program reads them."""
    held = api.parts.files.dataset(file_id)
    before = sorted(path.name for path in held.iterdir())

    def refuse(*given, **options):
        raise PermissionError(13, "in use")

    with monkeypatch.context() as patch:
        patch.setattr("octa_backend.storage.files.Path.replace", refuse)
        patch.setattr("octa_backend.storage.files.shutil.rmtree", refuse)
        assert api.delete(f"/datasets/{file_id}").status_code == 204
    assert api.get(f"/datasets/{file_id}").status_code == 404
    assert api.upload(zip_bytes(dataset())).json()["file_id"] == file_id
    assert sorted(path.name for path in held.iterdir()) == before
    api.parts.files.prepare()
    assert held.exists()


def test_a_dataset_stays_while_a_job_uses_it(api, file_id):
    job_id = api.start(file_id)
    refused = api.delete(f"/datasets/{file_id}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:octa:dataset-in-use")
    assert api.get(f"/datasets/{file_id}").status_code == 200
    assert api.delete(f"/train/jobs/{job_id}").status_code == 204
    assert api.delete(f"/datasets/{file_id}").status_code == 204


def test_faults_come_with_findings_that_name_the_files(api):
    answer = api.upload(zip_bytes(dataset() | {"masks/2.png": b"no image"}), "/train/start-with-file")
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:octa:invalid-dataset")
    [finding] = [one for one in problem["findings"] if one["severity"] == "error"]
    assert (finding["code"], finding["severity"], finding["scans"]) == ("scan_unreadable", "error", ["masks/2.png"])
    assert "masks/2.png" in problem["detail"]
    json.dumps(finding["evidence"])
