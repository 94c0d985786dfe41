from __future__ import annotations

import pytest

from octa_backend import errors
from octa_backend.controller.problems import MEDIA_TYPE, STATUS, name_of
from tests.data.zips import encoded, grey
from tests.fakes import Api, zip_bytes


def all_errors(kind=errors.OctaError):
    for sub in kind.__subclasses__():
        yield sub
        yield from all_errors(sub)


ERRORS = sorted(set(all_errors()), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", ERRORS)
def test_every_expected_error_has_a_status_a_title_and_a_name(kind):
    assert 400 <= STATUS[kind] < 600
    assert kind.title().endswith(".")
    assert kind.__doc__ != errors.OctaError.__doc__
    assert name_of(kind).startswith("urn:octa:")


def test_names_and_titles_of_errors_differ():
    assert len({name_of(kind) for kind in ERRORS}) == len({kind.title() for kind in ERRORS}) == len(ERRORS)
    assert set(STATUS) == set(ERRORS)


def is_problem(answer, status):
    """Assert that an answer is a problem document; return it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def test_an_expected_error_is_answered_with_its_name_title_and_words(api):
    assert is_problem(api.get("/datasets/nope"), 404) == {
        "type": "urn:octa:dataset-not-found",
        "title": "No dataset has this id.",
        "status": 404,
        "detail": "no dataset has the id 'nope'",
    }


def test_an_unknown_address_is_a_problem_document(api):
    assert is_problem(api.get("/no/such/route"), 404)["type"] == "about:blank"


def test_a_wrong_method_is_a_problem_document_that_keeps_the_allowed_ones(api):
    answer = api.request("PATCH", "/datasets")
    is_problem(answer, 405)
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("/datasets?limit=0", "query.limit"),
        ("/datasets?limit=501", "query.limit"),
        ("/train/jobs?limit=x", "query.limit"),
        ("/train/jobs?state=sleeping", "query.state"),
        ("/train/progress/x?since_epoch=-1", "query.since_epoch"),
    ],
)
def test_a_query_out_of_range_names_the_field(api, url, field):
    problem = is_problem(api.get(url), 422)
    assert field in problem["detail"]
    assert (problem["type"], problem["title"]) == ("urn:octa:invalid-request", errors.InvalidRequest.title())


@pytest.mark.parametrize(
    "url",
    [
        "/train/progress/{job}?since_epoch=99999999999999999999",
        "/train/jobs/{job}/epochs?cursor=WzFlNDAwXQ",  # [1e400]
        "/train/jobs/{job}/epochs?cursor=Wzk5OTk5OTk5OTk5OTk5OTk5OTk5XQ",  # [99999999999999999999]
        "/train/jobs?cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwgIngiXQ",  # ["0001-01-01T00:00:00+23:59", "x"]
        "/train/jobs?cursor=WyIyMDI0LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgIlx1ZDgwMCJd",  # [..., "\ud800"]
    ],
)
def test_numbers_beyond_any_bound_are_the_clients_fault(api, file_id, url):
    job = api.start(file_id)
    answer = api.get(url.format(job=job))
    assert answer.status_code in (200, 422), answer.text


def test_a_field_name_that_is_no_text_is_the_clients_fault(api, file_id):
    answer = api.post(f"/train/start-with-file/{file_id}", content=b'{"\\ud800": 1}')
    is_problem(answer, 422)


def test_a_configuration_nested_too_deeply_is_the_clients_fault(api, file_id):
    is_problem(api.post(f"/train/start-with-file/{file_id}", content=b"[" * 100_000), 422)


def test_a_body_with_an_unknown_field_is_refused_by_its_name(api, file_id):
    job_id = api.start(file_id)
    problem = is_problem(api.post(f"/train/jobs/{job_id}/resume", json={"epoch": 5}), 422)
    assert "body.epoch" in problem["detail"]


def test_a_mistake_of_the_server_is_a_problem_document_without_its_secrets(settings, database):
    def boom() -> None:
        raise RuntimeError("the inner secret")

    with Api(settings) as api:
        api.app.add_api_route("/boom", boom)
        problem = is_problem(api.get("/boom"), 500)
        assert "secret" not in str(problem)
        assert api.get("/health").status_code == 200


def test_findings_of_a_dataset_follow_the_language_asked_for(api):
    def message(languages: str) -> str:
        files = {"file": ("scans.zip", one_image_without_mask(), "application/zip")}
        answer = api.post("/datasets", files=files, headers={"Accept-Language": languages})
        return is_problem(answer, 422)["findings"][0]["message"]

    english, chinese = message("en"), message("zh-CN,zh;q=0.9,en;q=0.8")
    assert "no masks were found" in english
    assert "没有找到掩码" in chinese
    assert message("fr, zh;q=0.2, en;q=0.7") == english
    assert message("fr") == english
    assert message("zh;q=oops, en") == english
    assert message("en; q=0.1, zh; q=0.9") == chinese
    assert message("zh;q=0") == english


def test_the_language_of_the_settings_is_used_where_none_is_asked_for(settings, database):
    with Api(settings.model_copy(update={"language": "zh"})) as api:
        problem = is_problem(api.upload(one_image_without_mask()), 422)
    assert "没有找到掩码" in problem["findings"][0]["message"]


def one_image_without_mask() -> bytes:

    return zip_bytes({"images/1.png": encoded(grey())})
