from __future__ import annotations

import threading

import pytest

from octa_backend.controller.forms import MAX_FIELD_BYTES, MAX_FIELDS
from octa_backend.settings import Settings
from octa_backend.storage.files import Files
from tests.data.zips import dataset
from tests.fakes import Api, in_pieces, zip_bytes

BOUNDARY = "a-line-between-parts"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
ZIP = zip_bytes(dataset())


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


ONE_ZIP = form(part("file", ZIP, "scans.zip"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server that takes uploads up to 1 MiB and, for the form around them, 1 MiB more."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), max_upload_mib=1)
    with Api(settings) as running:
        yield running


@pytest.fixture
def unchanged(small):
    """Afterwards nothing is left behind, and the server still answers."""
    before = small.traces()
    yield
    assert small.traces() == before
    assert small.get("/health").status_code == 200


def send(api, content, url="/datasets", **headers):
    return api.post(url, content=content, headers={**HEADERS, **headers})


@pytest.mark.parametrize("size", [1, 7, 100, 5000, 10**6])
def test_a_form_may_come_in_pieces_of_any_size(small, size):
    answer = send(small, in_pieces(ONE_ZIP, size))
    assert answer.status_code == 201
    assert answer.json()["size_bytes"] == len(ZIP)


def test_line_breaks_and_half_boundaries_inside_a_file_are_its_own(small):
    tricky = zip_bytes(dataset() | {"notes.txt": f"\r\n--{BOUNDARY[:-1]}\r\n\r".encode() * 50})
    answer = send(small, in_pieces(form(part("file", tricky, "x.zip")), 13))
    assert answer.json()["size_bytes"] == len(tricky)
    assert (small.parts.files.dataset(answer.json()["file_id"]) / "source.zip").read_bytes() == tricky


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        ([], "send one file as the form's field 'file'; no file came"),
        ([part("file", b"text")], "no file came"),
        ([part("zip", ZIP, "a.zip")], "no file came"),
        ([part("file", ZIP, "a.zip"), part("file", ZIP, "b.zip")], "2 files came"),
        ([part("file", ZIP, "a.zip"), part("files", ZIP, "b.zip")], "files came as the form's field 'files'"),
        ([part("file", b"", "")], "no file came"),
    ],
    ids=["no part", "a field in place of a file", "under another name", "two files", "and another", "left open"],
)
def test_a_dataset_is_one_file(small, parts, detail):
    answer = send(small, form(*parts))
    assert answer.status_code == 400
    assert detail in answer.json()["detail"]


@pytest.mark.usefixtures("unchanged")
def test_a_field_that_comes_twice_is_refused(small):
    answer = send(small, form(part("epochs", b"5"), part("file", ZIP, "a.zip"), part("epochs", b"6")))
    assert (answer.status_code, answer.json()["detail"]) == (400, "the form's field 'epochs' came twice")


@pytest.mark.usefixtures("unchanged")
def test_a_form_that_is_too_large_is_refused_by_its_declared_length_before_a_byte_is_read(small):
    scope = request_scope(
        small, "/datasets", {"content-length": str(3 * 2**20), "content-type": HEADERS["Content-Type"]}
    )
    sent = small.call(scope, [])  # nothing is sent: the answer must not wait for it
    assert sent[0]["status"] == 413


@pytest.mark.usefixtures("unchanged")
def test_a_form_that_is_too_large_is_refused_on_the_way(small):
    answer = send(small, in_pieces(form(part("file", bytes(3 * 2**20), "a.zip")), 2**16))
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:octa:upload-too-large")
    assert "larger than 2 MiB, the most this server accepts" in answer.json()["detail"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("body", [ONE_ZIP[:-20], ONE_ZIP[: len(ONE_ZIP) // 2], ONE_ZIP[:30], b""])
def test_a_form_that_breaks_off_is_refused(small, body):
    answer = send(small, body)
    assert answer.status_code == 400
    assert "broke off" in answer.json()["detail"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("body", [ZIP, b"x=1", b"\r\n\r\n", b"--other\r\n" + ONE_ZIP])
def test_a_body_that_is_no_form_is_refused(small, body):
    answer = send(small, body)
    assert answer.status_code == 400
    assert "cannot be read" in answer.json()["detail"] or "broke off" in answer.json()["detail"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "kind",
    [
        "",
        "application/zip",
        "application/json",
        "multipart/form-data",
        "multipart/mixed; boundary=x",
        f"multipart/form-data; boundary={'x' * 400}",
        "multipart/form-data; boundary=",
    ],
)
def test_a_request_that_is_no_form_says_how_to_send_one(small, kind):
    answer = small.post("/datasets", content=ONE_ZIP, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:octa:invalid-request"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "head", [b"", b"Content-Type: text/plain\r\n", b"Content-Disposition: form-data\r\n", b"broken header\r\n"]
)
def test_a_part_without_a_name_is_refused(small, head):
    body = f"--{BOUNDARY}\r\n".encode() + head + b"\r\nvalue\r\n" + f"--{BOUNDARY}--\r\n".encode()
    assert send(small, body).status_code == 400


@pytest.mark.usefixtures("unchanged")
def test_fields_have_a_size_and_a_number(small):
    long = send(small, form(part("config", b"x" * (MAX_FIELD_BYTES + 1))))
    many = send(small, form(*(part(f"f{n}", b"1") for n in range(MAX_FIELDS + 1))))
    assert long.status_code == many.status_code == 413
    assert f"at most {MAX_FIELDS} fields" in many.json()["detail"]


@pytest.mark.usefixtures("unchanged")
def test_empty_fields_are_counted_too(small):
    assert send(small, form(*(part(f"f{n}", b"") for n in range(MAX_FIELDS + 1)))).status_code == 413


def test_what_a_page_sends_of_inputs_that_were_left_open_is_as_if_it_were_not_there(small):
    open_inputs = [part(name, b"") for name in ("epochs", "lr", "config", "force", "repair", "model")]
    answer = send(
        small, form(*open_inputs, part("mask", b"", ""), part("file", ZIP, "a.zip")), "/train/start-with-file"
    )
    assert answer.status_code == 202, answer.text
    job = answer.json()
    plain = small.post(f"/train/start-with-file/{job['file_id']}").json()
    as_a_form = {"epochs": "", "lr": " ", "config": ""}
    encoded = small.post(f"/train/start-with-file/{job['file_id']}", data=as_a_form)
    assert encoded.status_code == 202, encoded.text
    configs = [
        small.get(f"/train/jobs/{started['job_id']}").json()["config"] for started in (job, plain, encoded.json())
    ]
    assert configs[0] == configs[1] == configs[2]
    misspelt = small.post(f"/train/start-with-file/{job['file_id']}", data={"epoch": ""})
    assert (misspelt.status_code, "did you mean epochs" in misspelt.json()["detail"]) == (422, True)


def test_a_file_beside_the_configuration_of_an_uploaded_dataset_is_refused(small):
    answer = send(small, form(part("file", ZIP, "a.zip")), "/train/start-with-file/x")
    assert (answer.status_code, "send the configuration alone" in answer.json()["detail"]) == (400, True)


def test_names_of_files_may_be_in_any_script(small):
    content = zip_bytes(dataset() | {"notes.txt": b"names"})
    assert small.upload(content, name="扫描 été.zip").json()["name"] == "扫描 été.zip"


def test_the_name_of_a_file_may_come_in_the_form_for_other_scripts_alone(small):
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''%E6%89%AB%20a.zip\r\n\r\n"
    content = zip_bytes(dataset() | {"notes.txt": b"a name for other scripts"})
    answer = send(small, form(head.encode() + content + b"\r\n"))
    assert (answer.status_code, answer.json()["name"]) == (201, "扫 a.zip")


def request_scope(api, path, headers):
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("octa", 80),
        "state": {},
    }


@pytest.mark.usefixtures("unchanged")
def test_a_client_that_goes_away_leaves_nothing_but_a_line_in_the_log(small, caplog):
    caplog.set_level("INFO", "octa_backend")
    scope = request_scope(small, "/datasets", {"content-type": HEADERS["Content-Type"]})
    half = len(ONE_ZIP) // 2
    sent = small.call(
        scope,
        [
            {"type": "http.request", "body": ONE_ZIP[:100], "more_body": True},
            {"type": "http.request", "body": ONE_ZIP[100:half], "more_body": True},
            {"type": "http.disconnect"},
        ],
    )
    assert sent == []
    [record] = [record for record in caplog.records if record.name.startswith("octa_backend")]
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.getMessage() == "a client went away before its request had come to its end: /datasets"


@pytest.mark.usefixtures("unchanged")
def test_an_upload_is_on_disk_while_it_comes_and_gone_when_it_breaks(small):
    seen: list[int] = []

    async def breaks():
        yield ONE_ZIP[:-100]
        seen.append(len(list(small.parts.files.uploads.iterdir())))
        yield b"!" * 100

    assert send(small, breaks()).status_code == 400
    assert seen == [1]


@pytest.mark.usefixtures("unchanged")
def test_a_disk_that_runs_full_during_an_upload_leaves_nothing(small, monkeypatch):
    free = iter([2**40, 2**40])
    monkeypatch.setattr(Files, "free_bytes", lambda self: next(free, 0))
    answer = send(small, in_pieces(form(part("file", ZIP, "a.zip")), 500))
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:octa:storage-full")


def test_ten_uploads_at_once_are_all_answered_and_equal_ones_are_one_dataset(small):
    before = len(small.traces()["datasets"])
    contents = [zip_bytes(dataset() | {"notes.txt": f"many {n % 4}".encode()}) for n in range(10)]
    answers: list[tuple[int, str]] = []

    def upload(number: int) -> None:
        answer = small.upload(contents[number])
        answers.append((answer.status_code, answer.json().get("file_id", answer.text)))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status for status, _ in answers] == [201] * 10
    assert len({file_id for _, file_id in answers}) == 4
    assert len(small.traces()["datasets"]) == before + 4
    assert small.traces()["uploads"] == []
