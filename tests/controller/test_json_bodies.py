from __future__ import annotations

import json

import pytest

from octa_backend.app import create_app
from octa_backend.controller.json_bodies import MAX_BODY_BYTES
from octa_backend.settings import Settings
from tests.controller.test_problems import is_problem
from tests.fakes import Api, in_pieces

KEY = "the-key-of-the-server"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}

JSON_ROUTES = sorted(
    f"{method.upper()} {path.replace('{', '').replace('}', '')}"
    for path, operations in create_app(Settings()).openapi()["paths"].items()
    for method, operation in operations.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), api_keys=[KEY])
    with Api(settings) as running:
        yield running


def send(api, route, content, **headers):
    method, path = route.split(" ")
    return api.request(method, path, content=content, headers={"Content-Type": "application/json", **headers})


def too_large():
    """A body over the limit, and how much of it was asked for."""
    asked = []

    async def pieces():
        async for piece in in_pieces(b'"' + b"x" * (8 * MAX_BODY_BYTES) + b'"', 2**16):
            asked.append(len(piece))
            yield piece

    return pieces(), asked


def test_there_are_routes_with_json_bodies():
    assert {"PUT /models/default", "POST /train/start-with-file/file_id"} <= set(JSON_ROUTES)


@pytest.mark.parametrize("route", JSON_ROUTES)
def test_the_key_is_asked_for_before_a_body_is_read(guarded, route):
    pieces, asked = too_large()
    assert is_problem(send(guarded, route, pieces), 401)["type"] == "urn:octa:not-authenticated"
    assert asked == []
    is_problem(send(guarded, route, b"{broken"), 401)


@pytest.mark.parametrize("route", JSON_ROUTES)
@pytest.mark.parametrize("kind", ["application/json", "multipart/mixed", "application/x-www-form-urlencoded"])
def test_a_body_is_read_up_to_a_limit(guarded, route, kind):
    pieces, asked = too_large()
    headers = {**WITH_KEY, "Content-Type": kind}
    problem = is_problem(send(guarded, route, pieces, **headers), 413)
    assert problem["type"] == "urn:octa:upload-too-large"
    assert problem["detail"] == "the request is larger than 1 MiB, the most for a body that is no file"
    assert sum(asked) <= MAX_BODY_BYTES + 2**16


@pytest.mark.parametrize("route", JSON_ROUTES)
def test_a_body_that_says_that_it_is_too_large_is_not_read(guarded, route):
    pieces, asked = too_large()
    is_problem(send(guarded, route, pieces, **WITH_KEY, **{"Content-Length": str(2**30)}), 413)
    assert asked == []


@pytest.mark.parametrize("model_id", ["x" * 201, "x" * 900_000])
def test_an_id_that_is_far_too_long_is_not_told_back(guarded, model_id):
    answers = [
        send(guarded, "PUT /models/default", json.dumps({"model_id": model_id}), **WITH_KEY),
        send(guarded, "POST /models/compare", json.dumps({"model_ids": [model_id], "file_id": "x"}), **WITH_KEY),
        send(guarded, "POST /models/compare", json.dumps({"model_ids": ["x"], "file_id": model_id}), **WITH_KEY),
    ]
    for answer in answers:
        assert "at most 200 characters" in is_problem(answer, 422)["detail"]


def test_a_long_detail_is_cut_short(guarded):
    answer = guarded.post("/predict", files={"file": b"x"}, data={"model_id": "x" * 100_000}, headers=WITH_KEY)
    problem = is_problem(answer, 404)
    assert problem["detail"].startswith("no model has the id 'xxx")
    assert len(problem["detail"]) < 5000


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("PUT /models/default", {"model_id": "\ud800"}),
        ("POST /models/compare", {"model_ids": ["\ud800"], "file_id": "x"}),
        ("POST /models/compare", {"model_ids": ["x"], "file_id": "\ud800"}),
        ("PATCH /models/x", {"\ud800": "x"}),
        ("POST /datasets/x/repair", {"remedies": ["\ud800"]}),
        ("POST /train/start-with-file/x", {"pretrained": "\ud800"}),
        ("POST /train/start-with-file/x", {"repair": "\ud800"}),
    ],
)
def test_half_a_letter_is_the_clients_fault(guarded, route, body):
    is_problem(send(guarded, route, json.dumps(body), **WITH_KEY), 422)
