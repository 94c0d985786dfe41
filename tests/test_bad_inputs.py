"""What users and strangers send by mistake or on purpose: each is refused in words, leaves nothing, stops nothing."""

from __future__ import annotations

import json
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest

from octa_backend.data.store import StoreWriter
from octa_backend.service import attempt_service, model_service
from octa_backend.settings import Settings
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Job, JobState, Model
from tests.data.zips import SIZE, colour, dataset, encoded, grey, square, with_images, with_masks
from tests.fakes import Api, png_of_size, zip_bytes

GOOD = zip_bytes(dataset())
PNG = encoded(grey(1))
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Stock:
    """A server with a dataset, a job in each of the states that matter, and a model's row."""

    api: Api
    file_id: str
    running: str
    queued: str
    finished: str


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        max_files=20,
        max_upload_mib=2,
        max_unpacked_mib=16,
        max_scan_pixels=1_000_000,
        max_predict_mib=1,
        device="cpu",
    )
    with Api(settings) as api:
        file_id = api.upload(GOOD).json()["file_id"]
        finished = api.start(file_id, epochs=3)
        api.tick()
        with api.parts.database.writing() as session:
            attempt = attempt_service.open_attempts(session)[0]
            attempt_service.end(session, attempt.id, "finished").move_to(JobState.SUCCEEDED)
            job = session.get_one(Job, finished)
            job.epoch = 3
            model_service.register(session, "m1", job, {})
        running, queued = api.start(file_id), api.start(file_id)
        api.tick()
        yield Stock(api, file_id, running, queued, finished)


# --- how things are sent ---------------------------------------------------------------------------------------------

Send = Callable[[Stock, Patch], httpx.Response]


def upload(content: bytes) -> Send:
    return lambda stock, patch: stock.api.upload(content)


def files(content: dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]]) -> Send:
    return upload(zip_bytes(content))


def train_on(content: dict[str, bytes]) -> Send:
    """Data with faults that could be mended: refused where nobody asked for that."""
    return lambda stock, patch: stock.api.upload(zip_bytes(content), "/train/start-with-file")


def train(**fields: str) -> Send:
    """A zip that is new to the server, with these fields."""
    content = zip_bytes(dataset() | {"notes.txt": b"only for this"})
    return lambda stock, patch: stock.api.upload(content, "/train/start-with-file", **fields)


def configured(**given: Any) -> Send:
    return lambda stock, patch: stock.api.post(f"/train/start-with-file/{stock.file_id}", **given)


def predict(content: bytes | None = PNG, name: str = "file", **fields: str) -> Send:
    sent = {name: ("scan.png", content, "image/png")} if content is not None else {"tta": (None, b"false")}
    return lambda stock, patch: stock.api.post("/predict", files=sent, data=fields)


def repair(*remedies: str) -> Send:
    return ask("POST", "/datasets/{file_id}/repair", json={"remedies": remedies})


def ask(method: str, url: str, **given: Any) -> Send:
    return lambda stock, patch: stock.api.request(method, url.format_map(vars_of(stock)), **given)


def vars_of(stock: Stock) -> dict[str, str]:
    return {name: getattr(stock, name) for name in ("file_id", "running", "queued", "finished")}


def no_model(stock: Stock, patch: Patch) -> httpx.Response:
    with stock.api.parts.database.writing() as session:
        card = session.get_one(Model, "m1")
        session.delete(card)
    try:
        return predict()(stock, patch)
    finally:
        with stock.api.parts.database.writing() as session:
            model_service.register(session, "m1", session.get_one(Job, stock.finished), {})


def disk_full(stock: Stock, patch: Patch) -> httpx.Response:
    patch.setattr(Files, "free_bytes", lambda self: 2**20)
    return stock.api.upload(zip_bytes(dataset() | {"notes.txt": b"full"}))


def disk_full_on_the_way(stock: Stock, patch: Patch) -> httpx.Response:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr(StoreWriter, "add", full)
    return stock.api.upload(zip_bytes(dataset() | {"notes.txt": b"on the way"}))


def no_room_for_arrays(stock: Stock, patch: Patch) -> httpx.Response:
    usage = shutil.disk_usage(stock.api.parts.files.root)
    patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    patch.setattr(Files, "free_bytes", lambda self: 2**40)
    return stock.api.upload(zip_bytes(dataset() | {"notes.txt": b"no room"}))


def symlink() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("images/9.png")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


def encrypted() -> bytes:
    """A zip whose directory says that its first member is encrypted."""
    content = bytearray(GOOD)
    struct.pack_into("<H", content, content.index(b"PK\1\2") + 8, 1)
    return bytes(content)


def many_values() -> bytes:
    return encoded(np.arange(SIZE * SIZE, dtype=np.uint32).reshape(SIZE, SIZE).astype(np.uint8))


PAIR = {"images/1.png": encoded(grey(1)), "masks/1.png": encoded(square())}
EMPTY = encoded(square(0))

CASES: list[tuple[str, Send, int, str]] = [
    # the zip itself
    ("not a zip", upload(b"hello, this is text"), 422, "is not a zip archive"),
    ("empty file", upload(b""), 422, "the upload is empty (0 bytes)"),
    ("zip without files", files({"images/": b"", "masks/": b""}), 422, "the archive is empty"),
    ("truncated zip", upload(GOOD[:-40]), 422, "damaged or was cut off"),
    ("a gzip", upload(b"\x1f\x8b" + bytes(100)), 422, "is a gzip archive; send a zip"),
    ("a RAR", upload(b"Rar!" + bytes(100)), 422, "is a RAR archive; send a zip"),
    ("name with ../", files(dataset() | {"../evil.png": PNG}), 422, "'../evil.png' is a path out of the archive"),
    ("absolute name", files(dataset() | {"/etc/evil.png": PNG}), 422, "'/etc/evil.png' is an absolute path"),
    ("Windows drive", files(dataset() | {"C:\\evil.png": PNG}), 422, "is an absolute path"),
    ("symbolic link", files([*dataset().items(), (symlink(), b"/etc/passwd")]), 422, "'images/9.png' is a link"),
    ("bomb (ratio)", files(dataset() | {"images/9.png": bytes(8 * 2**20)}), 413, "times are allowed"),
    ("bomb (size)", files(dataset() | {"images/9.png": bytes(20 * 2**20)}), 413, "16.0 MiB are allowed"),
    ("too many files", files({f"notes/{n}.txt": b"" for n in range(21)}), 413, "holds 21 files, 20 are allowed"),
    ("encrypted zip", upload(encrypted()), 422, "is encrypted"),
    ("zip in a zip", files(dataset() | {"more.zip": GOOD}), 422, "'more.zip' is an archive in the archive"),
    # scans and masks
    ("no masks", files({f"images/{n}.png": encoded(grey(n)) for n in (1, 2)}), 422, "no masks were found"),
    (
        "one mask missing",
        train_on(dataset() | {"images/9.png": PNG}),
        422,
        "1 images have no mask, for example images/9.png",
    ),
    ("one image missing", train_on(dataset() | {"masks/9.png": EMPTY}), 422, "1 masks have no image"),
    (
        "sizes differ",
        train_on(dataset() | {"masks/2.png": encoded(square(height=30))}),
        422,
        "masks/2.png is 24×30 but image",
    ),
    (
        "corrupt PNG",
        train_on(dataset() | {"images/2.png": PNG[:60] + bytes(40) + PNG[100:]}),
        422,
        "images/2.png (damaged",
    ),
    ("cut PNG", train_on(dataset() | {"images/2.png": PNG[: len(PNG) // 2]}), 422, "images/2.png (damaged"),
    ("text as PNG", train_on(dataset() | {"images/2.png": b"I am a text"}), 422, "not a PNG, JPEG, TIFF, BMP or GIF"),
    (
        "1-pixel image",
        files(with_images(*[encoded(grey(1, 1, 1))] * 2, mask=encoded(square()[:1, :1]))),
        422,
        "too small",
    ),
    ("40,000×40,000 PNG", train_on(dataset() | {"images/2.png": png_of_size(40_000, 40_000)}), 422, "40000×40000"),
    ("all masks empty", files(with_masks(EMPTY, EMPTY)), 422, "all 2 masks are empty"),
    (
        "all masks full",
        files(with_masks(*[encoded(np.full((SIZE, SIZE), 255, np.uint8))] * 2)),
        422,
        "none of the 2 masks has background",
    ),
    ("grey mask", train_on(with_masks(many_values(), many_values())), 422, "unique values (2 expected)"),
    ("coloured mask", train_on(with_masks(encoded(colour(1)), encoded(square()))), 422, "masks are coloured"),
    ("no NIfTI volume", files({"images/a.nii.gz": b"x", "masks/a.nii.gz": b"x"}), 422, "2 volumes cannot be read"),
    ("MetaImage volume", files({"images/a.mha": b"x", "masks/a.mha": b"x"}), 422, "of a kind that is not read"),
    ("only one scan", files(PAIR), 422, "training needs at least 2"),
    # the configuration
    ("epochs=0", train(epochs="0"), 422, "epochs='0': Input should be greater than or equal to 1"),
    ("lr=-1", train(lr="-1"), 422, "lr='-1': Input should be greater than 0"),
    ("lr=nan", train(lr="nan"), 422, "lr='nan': Input should be a finite number"),
    ("epochs=abc", train(epochs="abc"), 422, "epochs='abc'"),
    ("unknown field", train(epoch="5"), 422, "epoch is not a field of the training configuration; did you mean epochs"),
    ("unknown network", train(model="resnet"), 422, "no network is called 'resnet'; choose one of"),
    ("config not JSON", train(config="epochs: 5"), 422, "the configuration is not JSON"),
    ("config not an object", train(config="[5]"), 422, "the configuration is a JSON object such as"),
    ("repair=some", train(repair="some"), 422, "repair='some': Input should be 'none' or 'auto'"),
    ("force=perhaps", train(force="perhaps"), 422, "force='perhaps'"),
    ("config plus fields", train(config="{}", epochs="5"), 422, "not both; besides 'config' came epochs"),
    ("JSON body cut off", configured(content=b'{"epochs": '), 422, "the configuration is not JSON"),
    ("unknown file_id", ask("POST", "/train/start-with-file/nope"), 404, "no dataset has the id 'nope'"),
    ("file_id with a path", ask("POST", "/train/start-with-file/..%2F..%2Fetc"), 404, "Not Found"),
    # repairs
    ("repair without remedies", repair(), 422, "remedies"),
    ("unknown remedy", repair("polish"), 422, "no remedy is called 'polish'; the remedies are drop_unusable"),
    ("remedy without effect", repair("invert_masks"), 422, "invert_masks changes nothing in this dataset"),
    ("remedy of the configuration", repair("pos_weight"), 422, "send its changes with the start of the training"),
    (
        "repair of an unknown dataset",
        ask("POST", "/datasets/nope/repair", json={"remedies": ["drop_alpha"]}),
        404,
        "nope",
    ),
    ("diagnosis by an unknown model", ask("GET", "/datasets/{file_id}/diagnosis?model_id=nope"), 404, "'nope'"),
    ("preview of no rows", ask("GET", "/datasets/{file_id}/preview.png?rows=0"), 422, "query.rows"),
    # prediction
    ("predict a text", predict(b"I am a text"), 422, "not a PNG, JPEG, TIFF, BMP or GIF"),
    ("predict an empty file", predict(b""), 422, "not a PNG, JPEG, TIFF, BMP or GIF"),
    ("predict 40,000×40,000", predict(png_of_size(40_000, 40_000)), 413, "1,000,000 pixels are allowed"),
    ("predict 1 pixel", predict(encoded(grey(1, 1, 1))), 422, "both sides need at least 16 pixels"),
    ("predict too large", predict(bytes(2 * 2**20)), 413, "larger than 1 MiB"),
    ("predict without a model", no_model, 409, "no model has been trained yet"),
    ("predict, wrong model_id", predict(model_id="nope"), 404, "no model has the id 'nope'"),
    ("predict, wrong job_id", predict(job_id="nope"), 404, "no job has the id 'nope'"),
    ("predict, threshold=2", predict(threshold="2"), 400, "threshold: Input should be less than 1"),
    ("predict, threshold=nan", predict(threshold="nan"), 400, "threshold"),
    ("predict without a file", predict(None), 400, "send 1 to 64 scans as the form's field 'file'; 0 came"),
    ("predict, other file field", predict(name="image"), 400, "send scans as 'file'"),
    (
        "predict, unknown field",
        predict(treshold="0.5"),
        400,
        "no such field; did you mean threshold?",
    ),
    # the disk
    ("disk full at the start", disk_full, 507, "1 MiB are free on the server's disk; delete old jobs or datasets"),
    ("disk full on the way", disk_full_on_the_way, 507, "the server's disk is full"),
    ("no room for the arrays", no_room_for_arrays, 507, "the disk has"),
    # jobs and lists
    ("unknown job", ask("GET", "/train/progress/nope"), 404, "no job has the id 'nope'"),
    ("resume a queued job", ask("POST", "/train/jobs/{queued}/resume"), 409, "only a job that is over can be resumed"),
    ("resume with nothing left", ask("POST", "/train/jobs/{finished}/resume"), 409, "resume it with more epochs"),
    ("resume, unknown field", ask("POST", "/train/jobs/{finished}/resume", json={"batch": 2}), 422, "body.batch"),
    ("cancel a finished job", ask("POST", "/train/jobs/{finished}/cancel"), 409, "only a queued or running job"),
    ("delete a running job", ask("DELETE", "/train/jobs/{running}"), 409, "is running; cancel it first"),
    ("delete a dataset in use", ask("DELETE", "/datasets/{file_id}"), 409, "delete them first"),
    ("bad cursor", ask("GET", "/train/jobs?cursor=nonsense"), 422, "take next_cursor of its last page"),
    ("cursor of another list", ask("GET", "/datasets?cursor=WzFd"), 422, "take next_cursor of its last page"),
    ("limit=0", ask("GET", "/train/jobs?limit=0"), 422, "query.limit: Input should be greater than or equal to 1"),
    ("unknown state", ask("GET", "/train/jobs?state=asleep"), 422, "query.state"),
    ("upload that is no form", ask("POST", "/datasets", content=GOOD), 400, "curl -F file=@scans.zip"),
    ("upload over the limit", upload(bytes(4 * 2**20)), 413, "larger than 3 MiB"),
]


@pytest.mark.parametrize(("send", "status", "phrase"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_input_is_refused_in_words_and_leaves_nothing(stock, send, status, phrase):
    before = stock.api.traces()
    with pytest.MonkeyPatch.context() as patch:
        answer = send(stock, patch)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert problem["status"] == status
    assert phrase in problem["detail"]
    assert problem["detail"] == problem["detail"].strip()
    assert "Traceback" not in json.dumps(problem)
    assert stock.api.traces() == before
    assert stock.api.get("/ready").json()["ready"]


def test_the_table_has_no_case_twice():
    assert len({case[0] for case in CASES}) == len(CASES) >= 30
