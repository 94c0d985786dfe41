"""What users and strangers send to predict with, import, export and compare models: refused in words, nothing left."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from octa_backend.service import model_service
from octa_backend.settings import Settings
from octa_backend.storage.tables import Job
from octa_backend.training import precision
from tests.data.zips import dataset, encoded, grey
from tests.exports import FakeExporter
from tests.fakes import Api, png_of_size, zip_bytes
from tests.shelf import card, package, put, state_dict, weights
from tests.tiny import SLOW_CPU, one_thread, tiny_networks

ROOT = Path(__file__).parents[1]
EXECUTED = Path(tempfile.gettempdir()) / f"octa-executed-{os.getpid()}"
Send = Callable[["Stock"], httpx.Response]


class Stock:
    """A server with a dataset, a sound model `m1`, a model `hollow` whose weights are gone, and an ensemble `both`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.file_id = api.upload(zip_bytes(dataset())).json()["file_id"]
        self.m1 = put(api).json()["model_id"]
        self.job = api.start(self.file_id)
        with api.parts.database.writing() as session:
            job = session.get_one(Job, self.job)
            plain = {"network": "small_unet", "channels": 1, "classes": 2}
            of_four = {**plain, "classes": 4}
            both = {**plain, "members": [{"model_id": self.m1, "folder": self.m1}]}
            for name, content in (("hollow", plain), ("four", of_four), ("both", both)):
                model_service.write_model(api.parts.files.model(name), None, content)
                model_service.register(session, name, job, content)
            job.config = {**job.config, "pretrained": "four"}

    def traces(self, *, with_rows: bool = True) -> dict[str, object]:
        """What lies in the data folder, file by file, and the rows."""
        root = self.api.parts.files.root
        found = {name: value for name, value in self.api.traces().items() if with_rows or name != "rows"}
        return {**found, "files": sorted(str(path) for path in (root / "models").rglob("*"))}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        max_model_mib=2,
        max_unpacked_mib=16,
        max_files=20,
        max_scan_pixels=1_000_000,
        max_predict_mib=1,
        max_predict_files=2,
        device="cpu",
        engine="torch",
    )
    with tiny_networks(), one_thread(), Api(settings) as api, pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "probe", lambda device: SLOW_CPU)
        patch.setattr(api.parts.predictions.exporter, "ensure", FakeExporter().ensure)
        yield Stock(api)


# --- how things are sent ---------------------------------------------------------------------------------------------


def send(content: bytes, name: str = "m.zip", **fields: str) -> Send:
    return lambda stock: put(stock.api, content, name, **fields)


def bare(content: bytes, name: str = "w.safetensors", **fields: str) -> Send:
    return send(content, name, **{"network": "small_unet", "channels": "1", **fields})


def zipped(**files: bytes | None) -> Send:
    return send(package(**files))


def carded(**changes: object) -> Send:
    return zipped(card__json=card(**changes))


def predict(*scans: bytes, **fields: str) -> Send:
    sent = [("file", (f"scan{number}.png", scan, "image/png")) for number, scan in enumerate(scans)]
    data = {"measure": "false", **fields}
    return lambda stock: stock.api.post(
        "/predict", files=sent, data={k: v.format(**vars(stock)) for k, v in data.items()}
    )


def ask(method: str, url: str, json: object = None) -> Send:
    def asked(stock: Stock) -> httpx.Response:
        body = None if json is None else _filled(json, stock)
        return stock.api.request(method, url.format(**vars(stock)), json=body)

    return asked


def _filled(value, stock):
    if isinstance(value, dict):
        return {key: _filled(one, stock) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, stock) for one in value]
    return value.format(**vars(stock)) if isinstance(value, str) else value


def compare(*model_ids: str, **more: object) -> Send:
    return ask("POST", "/models/compare", {"model_ids": list(model_ids), "file_id": "{file_id}", **more})


# --- what is sent ----------------------------------------------------------------------------------------------------


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (str(EXECUTED),)


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def header(length: int | None = None, data: bytes = bytes(24), **tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def encrypted() -> bytes:
    content = bytearray(package())
    struct.pack_into("<H", content, content.index(b"PK\1\2") + 8, 1)
    return bytes(content)


def compressed_pickle() -> bytes:
    """A state dict in a zip that unpacks to far more than it is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("w/data/0", bytes(8 * 2**20))
    return file.getvalue()


def damaged() -> bytes:
    """A package whose weights do not have their checksum."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("card.json", card())
        archive.writestr("weights.safetensors", weights())
    content = bytearray(file.getvalue())
    content[content.index(b"head.weight") - 400] ^= 0xFF
    return bytes(content)


def frames() -> bytes:
    file = io.BytesIO()
    first, *others = (Image.fromarray(grey(number)) for number in range(3))
    first.save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


SCAN = encoded(grey(1))
HEAD = state_dict()["head.weight"]
NAN = torch.full_like(HEAD, float("nan"))
NAMED = {"file_id": "{file_id}"}

CASES: list[tuple[str, Send, int, str]] = [
    # weights alone
    ("header longer than the file", bare(header(10**9)), 422, "is not a safetensors file: it has"),
    ("tensors that overlap", bare(header(a=tensor([6], 0, 24), b=tensor([6], 0, 24))), 422, "overlaps another one"),
    ("a shape beyond the file", bare(header(a=tensor([2**40, 2**20], 0, 24))), 422, "but 24 bytes are given"),
    ("bytes behind the last tensor", bare(header(a=tensor([2], 0, 8))), 422, "but 24 bytes follow the header"),
    ("a pickle called .safetensors", bare(saved(state_dict())), 422, "w.safetensors is not a safetensors file"),
    ("a text called .safetensors", bare(b"I am a text, not weights"), 422, "w.safetensors is not a safetensors file"),
    ("weights of 0 bytes", bare(b""), 422, "it has 0 bytes"),
    ("weights without tensors", bare(save({})), 422, "w.safetensors holds no weights"),
    ("a .pt that runs code", bare(saved({"a": Evil()}), "w.pt"), 422, "holds other objects than tensors"),
    ("an old .pth that runs code", bare(pickle.dumps(Evil()), "w.pth"), 422, "torch.save of torch 1.6 or later"),
    ("a .pt that is a bomb", bare(compressed_pickle(), "w.pt"), 413, "times are allowed"),
    ("a .pt without tensors", bare(saved({"epoch": 3}), "w.pt"), 422, "w.pt holds no weights"),
    ("a tensor is missing", bare(weights(head__weight=None)), 422, "1 missing (head.weight)"),
    ("a tensor too many", bare(weights(more=HEAD)), 422, "1 not of this network (more)"),
    ("a tensor of another shape", bare(weights(head__weight=HEAD[:, :2])), 422, "1 of another shape (head.weight ["),
    (
        "weights of more classes",
        bare(weights(classes=4)),
        422,
        "not those of small_unet with these channels and classes",
    ),
    ("weights with NaN", bare(weights(head__weight=NAN)), 422, "'head.weight' of w.safetensors holds values that are"),
    ("whole numbers as weights", bare(weights(head__weight=HEAD.int())), 422, "is torch.int32, the network's is"),
    ("weights of an unknown network", bare(weights(), network="resnet"), 422, "no network is called 'resnet'"),
    ("weights without a network", send(weights(), "w.pt"), 400, "send network and channels with them"),
    ("weights, channels=0", bare(weights(), channels="0"), 400, "channels: Input should be greater than"),
    (
        "weights, unknown field",
        bare(weights(), chanels="1"),
        400,
        "no such field; did you mean channels?",
    ),
    ("a file of another kind", bare(weights(), "w.onnx"), 400, "neither a package (.zip"),
    ("a model over the limit", bare(bytes(4 * 2**20)), 413, "larger than 3 MiB"),
    # packages
    ("a package that is no zip", send(b"I am a text"), 422, "is not a zip archive"),
    ("a package cut off", send(package()[:-40]), 422, "damaged or was cut off"),
    ("a package without files", send(zip_bytes({})), 422, "the archive is empty; put what GET /models/MODEL/download"),
    ("a package that is a bomb", zipped(onnx=bytes(8 * 2**20)), 413, "times are allowed"),
    ("a path out of the package", zipped(**{"../card__json": card()}), 422, "is a path out of the archive"),
    ("an encrypted package", send(encrypted()), 422, "is encrypted"),
    ("a package in a package", zipped(more__zip=package()), 422, "is an archive in the archive"),
    ("a package with damaged weights", send(damaged()), 422, "weights.safetensors is damaged in the archive"),
    ("a package without a card", zipped(card__json=None), 422, "card.json is not in m.zip, which holds weights"),
    ("a package without weights", zipped(weights__safetensors=None), 422, "weights.safetensors is not in m.zip"),
    ("a card that is no JSON", zipped(card__json=b"network: unet"), 422, "card.json is not JSON"),
    ("a card with NaN", zipped(card__json=b'{"format": NaN}'), 422, "NaN is no number"),
    ("a card that is a list", zipped(card__json=b"[]"), 422, "a card is a JSON object"),
    ("a card of another format", carded(format=2), 422, "has format 2; this version reads format 1"),
    (
        "a card with an unknown field",
        carded(weights="elsewhere"),
        422,
        "weights: there is no such field; there are format",
    ),
    ("a card with -1 channels", carded(channels=-1), 422, "channels: Input should be greater than or equal to 1"),
    (
        "a card with two sides of a voxel",
        carded(common_spacing_mm=[1, 1]),
        422,
        "common_spacing_mm: Value error, 2 sides",
    ),
    ("a card with voxels of no size", carded(common_spacing_mm=[1, 1, 0]), 422, "common_spacing_mm.2: Input should be"),
    ("a card of an unknown network", carded(network="resnet"), 422, "no network is called 'resnet'"),
    ("a card of another network", carded(network="pointwise"), 422, "are not those of pointwise"),
    ("a card that leads elsewhere", carded(dataset={"file_id": "../../jobs"}), 422, "dataset.file_id: String should"),
    ("an ensemble without its members", carded(members=[{"model_id": "m", "folder": "m"}]), 422, "members/m/card.json"),
    ("a package with a network named", send(package(), network="unet"), 400, "leave out network"),
    # downloads, words, the default
    ("export in an unknown format", ask("GET", "/models/{m1}/export?format=keras"), 422, "query.format"),
    ("export of an unknown model", ask("GET", "/models/nope/export?format=onnx"), 404, "no model has the id 'nope'"),
    ("export without weights", ask("GET", "/models/hollow/export?format=onnx"), 500, "which is not there"),
    ("download without weights", ask("GET", "/models/hollow/download"), 500, "which is not there"),
    ("download of an unknown model", ask("GET", "/models/nope/download"), 404, "no model has the id 'nope'"),
    ("an empty name", ask("PATCH", "/models/{m1}", {"name": " "}), 422, "body.name"),
    ("a name of 201 letters", ask("PATCH", "/models/{m1}", {"name": "n" * 201}), 422, "at most 200 characters"),
    ("an unknown default", ask("PUT", "/models/default", {"model_id": "nope"}), 404, "no model has the id 'nope'"),
    ("deleting a member", ask("DELETE", "/models/{m1}"), 409, "is a member of ensemble both; delete that one first"),
    ("deleting what a job begins with", ask("DELETE", "/models/four"), 409, "is queued and begins with the weights"),
    # comparisons
    ("comparing nothing", compare(), 422, "body.model_ids"),
    ("comparing an unknown model", compare("{m1}", "nope"), 404, "no model has the id 'nope'"),
    ("comparing a model with itself", compare("{m1}", "{m1}"), 400, "is named twice"),
    ("comparing on other classes", compare("four"), 400, "model four has 4 classes with background, but the masks of"),
    ("comparing on an unknown dataset", compare("{m1}", file_id="nope"), 404, "no dataset has the id 'nope'"),
    ("comparing on an unknown split", compare("{m1}", split="train"), 422, "body.split"),
    ("an unknown comparison", ask("GET", "/models/comparisons/nope/table.csv"), 404, "no comparison has the id 'nope'"),
    # predictions
    ("predict a scan of 0 bytes", predict(b""), 422, "not a PNG, JPEG, TIFF, BMP or GIF"),
    ("predict an animated GIF", predict(frames()), 422, "3 frames; send one scan per file"),
    ("predict 1×100,000 pixels", predict(png_of_size(1, 100_000)), 422, "both sides need at least 16 pixels"),
    ("predict a text called .png", predict(b"I am a text"), 422, "not a PNG, JPEG, TIFF, BMP or GIF"),
    ("predict a PNG cut off", predict(SCAN[: len(SCAN) // 2]), 422, "is damaged"),
    ("predict by an unknown model", predict(SCAN, model_id="nope"), 404, "no model has the id 'nope'"),
    ("predict by a model and a job", predict(SCAN, model_id="{m1}", job_id="{job}"), 400, "leave one of them out"),
    ("predict by a model without weights", predict(SCAN, model_id="hollow"), 500, "which is not there"),
    ("predict from a threshold of 2", predict(SCAN, threshold="2"), 400, "threshold: Input should be less than 1"),
    (
        "predict too many scans at once and keep none",
        predict(*[SCAN] * 3, keep="false"),
        400,
        "send up to 2 scans",
    ),
]
CMYK = encoded(Image.fromarray(grey(1)).convert("CMYK"), "JPEG")
WORK: list[tuple[str, Send]] = [
    (
        "predict a CMYK JPEG",
        predict(CMYK, model_id="{m1}", keep="false"),
    ),
    ("predict a 16-bit PNG", predict(encoded(grey(1).astype(np.uint16) * 9), model_id="{m1}", keep="false")),
]


@pytest.mark.parametrize(("send", "status", "phrase"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_bad_input_is_refused_in_words_and_leaves_nothing(stock, send, status, phrase):
    before = stock.traces()
    answer = send(stock)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert problem["status"] == status
    assert phrase in problem["detail"]
    assert "Traceback" not in json.dumps(problem)
    assert not EXECUTED.exists()
    assert stock.traces() == before


@pytest.mark.parametrize("send", [case[1] for case in WORK], ids=[case[0] for case in WORK])
def test_an_odd_scan_that_can_be_read_is_answered_and_leaves_no_file(stock, send):
    before = stock.traces(with_rows=False)
    answer = send(stock)
    assert answer.status_code == 200, answer.text
    assert stock.traces(with_rows=False) == before


def test_a_graph_of_another_model_in_a_package_is_dropped(stock):
    answer = put(stock.api, package(**{"onnx/model__onnx": b"of another model", "onnx/export__json": b"{}"}), "m.zip")
    assert answer.status_code == 201, answer.text
    folder = stock.api.parts.files.model(answer.json()["model_id"])
    assert sorted(path.name for path in folder.rglob("*")) == ["card.json", "weights.safetensors"]
    assert stock.api.delete(f"/models/{answer.json()['model_id']}").status_code == 204


def test_the_pickle_of_the_table_would_run_code_if_it_were_let():
    file = io.BytesIO(saved({"a": Evil()}))
    torch.load(file, weights_only=False)
    assert EXECUTED.is_dir()
    EXECUTED.rmdir()


def test_every_case_stands_once_and_in_the_api_document():
    document = (ROOT / "docs" / "api.md").read_text("utf-8").partition("## Bad models and scans")[2]
    assert len({case[0] for case in CASES}) == len(CASES) >= 25
    for name, _, status, phrase in CASES:
        assert f"| {name} | {status} | {phrase} |" in document
    for name, _ in WORK:
        assert f"| {name} | 200 | |" in document
