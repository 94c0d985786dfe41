"""Whatever is uploaded: an answer in words, nothing outside the data folder, and never half a dataset."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octa_backend.data.store import DatasetStore
from octa_backend.settings import Settings
from octa_backend.storage.tables import Dataset
from tests.data.zips import colour, dataset, encoded, grey, square
from tests.fakes import Api, zip_bytes

PICTURES = [
    encoded(grey(1)),
    encoded(grey(2)),
    encoded(grey(3, 30, 24)),
    encoded(colour(4)),
    encoded(square()),
    encoded(square(0)),
    encoded(square(1)),
    encoded(square(255, height=48, width=48)),
    encoded(square(), "JPEG"),
    encoded(grey(5))[:200],
    b"",
    b"stem,split\n1,train\n2,test\n",
]
FOLDERS = st.sampled_from(["images/", "masks/", "", "../", "/", "train/images/", "train/masks/", "a/b/", "C:\\"])
STEMS = st.one_of(st.sampled_from(["1", "2", "3", "1_mask", "扫描", "p1_OD", "splits", "\0", "."]), st.text(max_size=6))
ENDINGS = st.sampled_from([".png", ".jpg", ".csv", ".tif", "", ".zip", "/"])
FILES = st.lists(st.tuples(FOLDERS, STEMS, ENDINGS, st.sampled_from(PICTURES)), max_size=10)
OPTIONS = st.sampled_from([{}, {"repair": "auto"}, {"force": "true"}])
EVERY_TIME = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Api(Settings(data_dir=tmp_path_factory.mktemp("box") / "data", device="cpu")) as api:
        yield api


def zipped(files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for folder, stem, ending, content in files:
            name = f"{folder}{stem}{ending}"
            entry = zipfile.ZipInfo(name)
            if entry.filename and entry.filename not in archive.namelist():
                archive.writestr(entry, content)
    return buffer.getvalue()


def check_what_is_there(api: Api) -> None:
    """Every dataset has a row and a folder that can be read whole; nothing else is in the data folder."""
    root = api.parts.files.root
    assert [path.name for path in root.parent.iterdir()] == ["data"]
    assert list((root / "uploads").iterdir()) == []
    with api.parts.database.reading() as session:
        rows = {row.id: row.scans for row in session.query(Dataset)}
    assert {path.name for path in (root / "datasets").iterdir()} == set(rows)
    for file_id, scans in rows.items():
        store = DatasetStore(root / "datasets" / file_id)
        assert len(store) == scans >= 2
        for index in range(scans):
            assert store.image(index).shape[1:] == store.mask(index).shape


def check_answer(answer, good: int) -> None:
    assert answer.status_code == good or 400 <= answer.status_code < 500, answer.text
    if answer.status_code != good:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


@EVERY_TIME
@given(FILES)
def test_any_files_in_a_zip_are_a_dataset_or_a_refusal(server, files):
    check_answer(server.upload(zipped(files)), 201)
    check_what_is_there(server)


@EVERY_TIME
@given(FILES, OPTIONS)
def test_any_files_beside_sound_scans_start_a_training_or_are_refused(server, files, options):
    sound = [("", name.removesuffix(".png"), ".png", content) for name, content in dataset().items()]
    check_answer(server.upload(zipped([*sound, *files]), "/train/start-with-file", **options), 202)
    check_what_is_there(server)


@EVERY_TIME
@given(st.integers(0, 2500), st.binary(min_size=1, max_size=12))
def test_any_damage_to_a_sound_zip_is_a_dataset_or_a_refusal(server, at, junk):
    content = bytearray(zip_bytes(dataset()))
    at = min(at, len(content) - len(junk))
    content[at : at + len(junk)] = junk
    check_answer(server.upload(bytes(content)), 201)
    check_what_is_there(server)
