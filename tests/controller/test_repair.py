"""Faulty data over REST: taken in with findings, refused for training, repaired, seen."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from octa_backend.data.synthetic import make_scan
from octa_backend.inference.pictures import COLOURS
from octa_backend.storage.files import remove
from tests.data.zips import encoded, grey
from tests.fakes import zip_bytes

SIZE, SCANS = 64, 6


def scans(count: int = SCANS) -> list[tuple[np.ndarray, np.ndarray]]:
    """Synthetic images and masks of 0/255."""
    made = [make_scan(SIZE, np.random.default_rng([3, number])) for number in range(count)]
    return [(scan.image, scan.mask.astype(np.uint8) * 255) for scan in made]


def zipped(change=lambda number, image, mask: (image, mask)) -> bytes:
    files = {}
    for number, (image, mask) in enumerate(scans()):
        changed_image, changed_mask = change(number, image, mask)
        files[f"images/{number}.png"] = encoded(changed_image)
        files[f"masks/{number}.png"] = changed_mask if isinstance(changed_mask, bytes) else encoded(changed_mask)
    return zip_bytes(files)


def smoothed(number, image, mask):
    """A mask as a lossy JPEG leaves it: many values."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "JPEG", quality=60)
    return image, np.asarray(Image.open(io.BytesIO(buffer.getvalue())))


GOOD = zipped()
SMOOTHED = zipped(smoothed)


def codes(findings: list[dict], severity: str = "error") -> set[str]:
    return {found["code"] for found in findings if found["severity"] == severity}


@pytest.fixture
def faulty(api) -> str:
    answer = api.upload(SMOOTHED)
    assert answer.status_code == 201, answer.text
    return answer.json()["file_id"]


def test_a_dataset_that_a_remedy_mends_is_taken_in_and_says_what_is_wrong(api):
    found = api.upload(SMOOTHED).json()
    assert codes(found["findings"]) == {"masks_not_binary"}
    (finding,) = [one for one in found["findings"] if one["code"] == "masks_not_binary"]
    assert finding["remedy"]["code"] == "binarize_masks"
    assert finding["remedy"]["title"]
    assert finding["evidence"]["unique_values"] > 2
    assert (found["scans"], found["parent_file_id"], found["repairs"]) == (SCANS, None, [])


def test_a_clean_dataset_has_no_errors(api):
    assert codes(api.upload(GOOD).json()["findings"]) == set()


def test_training_on_errors_is_refused_with_the_findings_and_keeps_nothing(api):
    before = api.traces()
    answer = api.upload(SMOOTHED, "/train/start-with-file", epochs="1")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-dataset")
    assert codes(answer.json()["findings"]) == {"masks_not_binary"}
    assert "repair=auto" in answer.json()["detail"]
    assert "force=true" in answer.json()["detail"]
    assert api.traces() == before


def test_training_on_a_kept_dataset_with_errors_is_refused_too(api, faulty):
    answer = api.post(f"/train/start-with-file/{faulty}", json={"epochs": 1})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-dataset")
    assert api.get("/train/jobs").json()["items"] == []


def test_force_trains_all_the_same(api, faulty):
    answer = api.post(f"/train/start-with-file/{faulty}", json={"epochs": 1, "force": True})
    assert answer.status_code == 202
    assert (answer.json()["file_id"], answer.json()["repairs"]) == (faulty, [])


def test_a_repair_makes_a_new_dataset_without_the_finding_and_the_old_one_stays(api, faulty):
    answer = api.post(f"/datasets/{faulty}/repair", json={"remedies": ["binarize_masks"]})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["file_id"] != faulty
    assert made["parent_file_id"] == faulty
    assert "masks_not_binary" not in codes(made["findings"])
    assert [(repair["remedy"], repair["changed"]) for repair in made["repairs"]] == [("binarize_masks", SCANS)]
    assert answer.headers["location"] == f"/datasets/{made['file_id']}"
    assert codes(api.get(f"/datasets/{faulty}").json()["findings"]) == {"masks_not_binary"}
    assert api.post(f"/train/start-with-file/{made['file_id']}", json={"epochs": 1}).status_code == 202


def test_the_changes_of_a_repair_are_listed_scan_by_scan(api, faulty):
    made = api.post(f"/datasets/{faulty}/repair", json={"remedies": ["binarize_masks"]}).json()
    page = api.get(f"/datasets/{made['file_id']}/repairs?limit=4").json()
    rest = api.get(f"/datasets/{made['file_id']}/repairs?cursor={page['next_cursor']}").json()
    steps = page["items"] + rest["items"]
    assert [step["scan"] for step in steps] == [str(number) for number in range(SCANS)]
    assert {step["remedy"] for step in steps} == {"binarize_masks"}
    assert all(0 < step["details"]["threshold"] < 255 for step in steps)
    assert api.get(f"/datasets/{faulty}/repairs").json()["items"] == []


def test_the_same_repair_again_is_the_same_dataset(api, faulty):
    wish = {"remedies": ["binarize_masks"]}
    first, again = (api.post(f"/datasets/{faulty}/repair", json=wish).json() for _ in range(2))
    assert first == again
    assert api.traces()["rows"]["datasets"] == 2


def with_one_more(name):
    """The good scans, and one with half a mask."""
    image, mask = scans(1)[0]
    files = {f"images/{name}.png": encoded(image), f"masks/{name}.png": encoded(mask[:, : SIZE // 2])}
    for number, (each, its_mask) in enumerate(scans()):
        files |= {f"images/{number}.png": encoded(each), f"masks/{number}.png": encoded(its_mask)}
    return zip_bytes(files)


def test_a_repair_that_ends_in_a_dataset_that_is_there_tells_of_its_own_changes(api):
    wish = {"remedies": ["drop_unusable"]}
    first, second = (api.upload(with_one_more(place)).json()["file_id"] for place in ("8", "9"))
    made, again = (api.post(f"/datasets/{file_id}/repair", json=wish).json() for file_id in (first, second))
    assert (again["file_id"], again["parent_file_id"]) == (made["file_id"], second)
    assert [[step["scan"] for step in answer["repairs"][0]["steps"]] for answer in (made, again)] == [["8"], ["9"]]
    assert api.get(f"/datasets/{made['file_id']}").json() == made
    (kept,) = api.get(f"/datasets/{made['file_id']}/repairs").json()["items"]
    assert kept["scan"] == "8"


def test_repair_auto_tells_what_it_changed_in_this_upload(api):
    told = []
    for name in ("8", "9"):
        started = api.upload(with_one_more(name), "/train/start-with-file", epochs="1", repair="auto").json()
        told.append((started["file_id"], [step["scan"] for step in started["repairs"][0]["steps"]]))
    assert told == [(told[0][0], ["8"]), (told[0][0], ["9"])]
    untouched = api.post(f"/train/start-with-file/{told[0][0]}", json={"epochs": 1, "repair": "auto"}).json()
    assert untouched["repairs"] == []


def test_remedies_of_the_same_scan_can_be_sent_together(api):
    def cut(number, image, mask):
        return smoothed(number, image, mask[:, : SIZE // 2]) if number == 1 else (image, mask)

    found = api.upload(zipped(cut)).json()
    remedies = [one["remedy"]["code"] for one in found["findings"] if one["severity"] == "error"]
    assert sorted(remedies) == ["binarize_masks", "drop_unusable"]
    answer = api.post(f"/datasets/{found['file_id']}/repair", json={"remedies": remedies})
    assert answer.status_code == 201, answer.text
    assert [repair["remedy"] for repair in answer.json()["repairs"]] == ["drop_unusable"]
    refused = api.post(f"/datasets/{found['file_id']}/repair", json={"remedies": [*remedies, "invert_masks"]})
    assert (refused.status_code, refused.json()["detail"].split()[0]) == (422, "invert_masks")


@pytest.mark.parametrize(
    ("remedies", "status", "phrase"),
    [
        (["invert_masks"], 422, "invert_masks changes nothing in this dataset"),
        (["polish"], 422, "no remedy is called 'polish'; the remedies are"),
        (["pos_weight"], 422, "send its changes with the start of the training"),
        ([], 422, "remedies"),
    ],
)
def test_a_remedy_that_does_not_apply_is_refused_in_words(api, faulty, remedies, status, phrase):
    before = api.traces()
    answer = api.post(f"/datasets/{faulty}/repair", json={"remedies": remedies})
    assert answer.status_code == status
    assert phrase in answer.json()["detail"]
    assert api.traces() == before


def test_repair_auto_trains_on_the_repaired_dataset_and_says_what_it_changed(api):
    answer = api.upload(SMOOTHED, "/train/start-with-file", epochs="1", repair="auto")
    assert answer.status_code == 202, answer.text
    started = answer.json()
    assert [repair["remedy"] for repair in started["repairs"]] == ["binarize_masks"]
    made = api.get(f"/datasets/{started['file_id']}").json()
    assert made["parent_file_id"] is not None
    assert codes(made["findings"]) == set()


def test_repair_auto_on_a_kept_dataset_does_the_same(api, faulty):
    started = api.post(f"/train/start-with-file/{faulty}", json={"epochs": 1, "repair": "auto"}).json()
    assert api.get(f"/datasets/{started['file_id']}").json()["parent_file_id"] == faulty


def test_repair_auto_stretches_masks_of_another_scale_and_drops_those_that_nothing_explains(api):
    def resized(number, image, mask):
        sizes = {1: (2 * SIZE, 2 * SIZE), 2: (SIZE, SIZE // 2)}
        return image, np.asarray(
            Image.fromarray(mask).resize(sizes.get(number, (SIZE, SIZE)), Image.Resampling.NEAREST)
        )

    started = api.upload(zipped(resized), "/train/start-with-file", epochs="1", repair="auto").json()
    changed = {repair["remedy"]: [step["scan"] for step in repair["steps"]] for repair in started["repairs"]}
    assert changed == {"drop_unusable": ["2"], "resize_masks": ["1"]}


def test_pictures_in_place_of_masks_are_not_repaired_unasked(api):
    swapped = zipped(lambda number, image, mask: (image, image))
    answer = api.upload(swapped, "/train/start-with-file", epochs="1", repair="auto")
    assert answer.status_code == 422
    assert "masks_not_binary" in codes(answer.json()["findings"])


def test_repair_auto_sets_only_what_the_user_left_open(api):
    """Six scans are few: the smaller network is proposed, but a network that was asked for stays."""
    left_open = api.upload(GOOD, "/train/start-with-file", epochs="1", repair="auto").json()
    assert left_open["config_changes"]["model"] == "unet"
    chosen = api.upload(GOOD, "/train/start-with-file", epochs="1", repair="auto", model="unet_transformer").json()
    assert "model" not in chosen["config_changes"]
    assert api.get(f"/train/jobs/{chosen['job_id']}").json()["config"]["model"] == "unet_transformer"


@pytest.mark.parametrize(
    ("field", "value", "phrase"), [("repair", "all", "repair='all'"), ("force", "perhaps", "force='perhaps'")]
)
def test_an_unknown_wish_is_refused(api, field, value, phrase):
    answer = api.upload(GOOD, "/train/start-with-file", **{field: value})
    assert answer.status_code == 422
    assert phrase in answer.json()["detail"]


def test_the_diagnosis_tells_verdict_and_findings_in_the_language_asked_for(api, faulty):
    english = api.get(f"/datasets/{faulty}/diagnosis").json()
    chinese = api.get(f"/datasets/{faulty}/diagnosis", headers={"Accept-Language": "zh"}).json()
    assert english["verdict"] == chinese["verdict"] == "errors"
    assert english["label_review"] is None
    assert "期望 2 个" in next(one["message"] for one in chinese["findings"] if one["code"] == "masks_not_binary")


def test_the_preview_is_a_picture_with_three_columns(api, faulty):
    answer = api.get(f"/datasets/{faulty}/preview.png?rows=2")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(answer.content)) as picture:
        width, height = picture.size
    assert width > height


def test_the_preview_of_a_dataset_that_is_deleted_meanwhile_is_not_found(api, faulty):
    remove(api.parts.files.dataset(faulty))
    answer = api.get(f"/datasets/{faulty}/preview.png")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:octa:dataset-not-found")
    assert "was deleted while it was read" in answer.json()["detail"]


def test_the_preview_draws_classes_in_the_colours_of_the_upload(api):
    mask = np.repeat(np.repeat(np.array([[0, 1], [2, 2]], np.uint8), SIZE // 2, 0), SIZE // 2, 1)
    files = {f"images/{n}.png": encoded(grey(n, SIZE, SIZE)) for n in range(3)}
    files |= {f"masks/{n}.png": encoded(mask) for n in range(3)}
    files["classes.csv"] = b"value,name,colour\n1,artery,#102030\n2,vein,\n"
    file_id = api.upload(zip_bytes(files)).json()["file_id"]
    picture = api.get(f"/datasets/{file_id}/preview.png?rows=1").content
    with Image.open(io.BytesIO(picture)) as sheet:
        corners = [sheet.getpixel((264 + x, 4 + y)) for x, y in ((64, 64), (192, 64), (128, 192))]
    assert corners == [(0, 0, 0), (0x10, 0x20, 0x30), ImageColor.getrgb(COLOURS[1])]


def test_unknown_datasets_are_not_found(api):
    for method, path in [("GET", "diagnosis"), ("GET", "preview.png"), ("GET", "repairs"), ("POST", "repair")]:
        given = {"json": {"remedies": ["binarize_masks"]}} if method == "POST" else {}
        assert api.request(method, f"/datasets/nope/{path}", **given).status_code == 404
