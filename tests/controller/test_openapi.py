from __future__ import annotations

import json

import pytest

from octa_backend.app import create_app
from octa_backend.controller.problems import MEDIA_TYPE
from octa_backend.settings import Settings
from octa_backend.training.config import TrainConfig

CONTRACT = {
    "GET /health",
    "GET /ready",
    "GET /metrics",
    "GET /version",
    "POST /datasets",
    "GET /datasets",
    "GET /datasets/{file_id}",
    "DELETE /datasets/{file_id}",
    "POST /train/start-with-file",
    "POST /train/start-with-file/{file_id}",
    "GET /train/progress/{job_id}",
    "GET /train/jobs",
    "GET /train/jobs/{job_id}",
    "DELETE /train/jobs/{job_id}",
    "GET /train/jobs/{job_id}/epochs",
    "GET /train/jobs/{job_id}/gradients",
    "GET /train/jobs/{job_id}/log",
    "GET /train/jobs/{job_id}/events",
    "POST /train/jobs/{job_id}/cancel",
    "POST /train/jobs/{job_id}/resume",
    "POST /predict",
    "GET /predictions",
    "GET /predictions/{prediction_id}",
    "GET /predictions/{prediction_id}/{picture}.png",
}

SCHEMA = create_app(Settings()).openapi()
ROUTES = {
    f"{method.upper()} {path}": operation
    for path, operations in SCHEMA["paths"].items()
    for method, operation in operations.items()
}


def test_the_routes_of_the_contract_are_there():
    assert set(ROUTES) >= CONTRACT


def test_the_schema_is_json_without_open_ends():
    text = json.dumps(SCHEMA)
    wanted = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert wanted <= set(SCHEMA["components"]["schemas"])


def test_no_two_shapes_share_a_name():
    """FastAPI tells them apart by their modules, which generators of clients make one type of again."""
    assert [name for name in SCHEMA["components"]["schemas"] if "__" in name] == []


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_has_a_summary_a_description_and_a_tag(route):
    operation = ROUTES[route]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]


@pytest.mark.parametrize(
    ("route", "statuses"),
    [
        ("POST /datasets", {400, 413, 422, 507}),
        ("GET /datasets/{file_id}", {404}),
        ("DELETE /datasets/{file_id}", {404, 409}),
        ("POST /train/start-with-file", {400, 413, 422, 507}),
        ("POST /train/start-with-file/{file_id}", {400, 404, 413, 422}),
        ("GET /train/progress/{job_id}", {304, 404}),
        ("GET /train/jobs", {422}),
        ("DELETE /train/jobs/{job_id}", {404, 409}),
        ("POST /train/jobs/{job_id}/cancel", {404, 409}),
        ("POST /train/jobs/{job_id}/resume", {404, 409, 413, 422}),
        ("PUT /models/default", {404, 413}),
        ("POST /predict", {202, 400, 404, 409, 413, 422, 503, 507}),
        ("GET /predictions", {422}),
        ("DELETE /predictions", {400}),
        ("DELETE /predictions/{prediction_id}", {404, 409}),
        ("GET /predictions/jobs/{prediction_job_id}/results.zip", {404, 409}),
        ("DELETE /predictions/jobs/{prediction_job_id}", {404, 409}),
        ("GET /models/{model_id}/export", {404, 422}),
        ("GET /ready", {503}),
        ("GET /train/jobs/{job_id}/events", {404, 422}),
    ],
)
def test_every_route_lists_the_problems_it_can_answer(route, statuses):
    assert {str(status) for status in statuses} <= set(ROUTES[route]["responses"])


def test_every_problem_is_described_as_the_problem_document_it_is():
    """What is sent is `application/problem+json`; a client made from the schema must expect that."""
    other = []
    for route, operation in ROUTES.items():
        for status, response in operation["responses"].items():
            if int(status) < 400 or (route, status) == ("GET /ready", "503"):
                continue
            schema = {"$ref": "#/components/schemas/Problem"}
            found = {kind: content.get("schema") for kind, content in response["content"].items()}
            if found != {MEDIA_TYPE: schema}:
                other.append(f"{route} {status}: {found}")
    assert other == []


@pytest.mark.parametrize("route", ["POST /train/start-with-file", "POST /train/start-with-file/{file_id}"])
def test_forms_of_a_training_show_every_field_with_its_description(route):
    content = ROUTES[route]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(TrainConfig.model_fields) <= set(content)
    assert all(content[name]["description"] for name in TrainConfig.model_fields)


def test_the_schema_says_nothing_that_its_version_of_openapi_does_not_know():
    assert SCHEMA["openapi"].startswith("3.1")
    assert "itemSchema" not in json.dumps(SCHEMA)
    stream = ROUTES["GET /train/jobs/{job_id}/events"]["responses"]["200"]["content"]
    assert stream == {"text/event-stream": {"schema": {"type": "string"}}}


def test_the_doctors_letter_is_described_as_what_it_is():
    content = ROUTES["GET /train/jobs/{job_id}/diagnosis.md"]["responses"]["200"]["content"]
    assert list(content) == ["text/markdown"]


@pytest.mark.parametrize(
    ("route", "status", "name"),
    [
        ("POST /datasets", "201", "Location"),
        ("POST /datasets/{file_id}/repair", "201", "Location"),
        ("POST /train/start-with-file", "202", "Location"),
        ("POST /train/start-with-file/{file_id}", "202", "Location"),
        ("POST /train/jobs/{job_id}/remedies/{code}", "202", "Location"),
        ("POST /train/jobs/{job_id}/resume", "202", "Location"),
        ("POST /models/compare", "202", "Location"),
        ("POST /models/import", "201", "Location"),
        ("POST /predict", "202", "Location"),
        ("POST /predict", "503", "Retry-After"),
        ("GET /train/progress/{job_id}", "200", "ETag"),
        ("GET /train/progress/{job_id}", "304", "ETag"),
        ("GET /train/jobs/{job_id}/log", "200", "Link"),
        ("GET /models/{model_id}/download", "200", "Content-Disposition"),
    ],
)
def test_the_headers_that_are_sent_are_described(route, status, name):
    assert list(ROUTES[route]["responses"][status]["headers"]) == [name]


def test_a_key_that_is_asked_for_is_described():
    document = create_app(Settings(api_keys=["secret-of-the-laboratory"])).openapi()
    refused = document["paths"]["/datasets"]["get"]["responses"]["401"]
    assert list(refused["headers"]) == ["WWW-Authenticate"]


def test_a_remedy_and_the_findings_of_a_problem_have_their_shapes():
    shapes = SCHEMA["components"]["schemas"]
    assert shapes["RemedyOut"]["required"] == ["code", "title", "changes"]
    assert {"$ref": "#/components/schemas/RemedyOut"} in shapes["FindingOut"]["properties"]["remedy"]["anyOf"]
    items = shapes["Problem"]["properties"]["findings"]["anyOf"][0]["items"]
    assert items == {"$ref": "#/components/schemas/FindingOut"}


def test_a_report_is_one_of_two_kinds():
    content = ROUTES["GET /train/jobs/{job_id}/report"]["responses"]["200"]["content"]["application/json"]
    assert set(content["schema"]["discriminator"]["mapping"]) == {"evaluation", "cross_validation"}


def test_the_pages_with_the_routes_are_served(api):
    assert api.get("/openapi.json").json()["info"]["title"] == "OCTA backend"
    assert api.get("/docs").status_code == 200
