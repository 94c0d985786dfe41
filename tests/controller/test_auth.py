from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from octa_backend.app import create_app
from octa_backend.settings import Settings
from tests.fakes import Api

KEYS = ["first-key-of-the-server", "second-key-of-the-server"]
OPEN = {"GET /health"}

ROUTES = sorted(
    f"{method.upper()} {path}"
    for path, operations in create_app(Settings()).openapi()["paths"].items()
    for method in operations
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), api_keys=KEYS)
    with Api(settings) as running:
        yield running


def ask(api, route, **headers):
    method, path = route.split(" ")
    return api.request(method, re.sub(r"{\w+}", "x", path), headers=headers)


@pytest.mark.parametrize("route", [route for route in ROUTES if route not in OPEN])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": KEYS[0]}, {"Authorization": f"Basic {KEYS[0]}"}],
    ids=["no key", "wrong key", "no scheme", "other scheme"],
)
def test_without_a_key_of_the_server_every_route_is_closed(guarded, route, headers):
    answer = ask(guarded, route, **headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:octa:not-authenticated"
    assert not any(key in answer.text for key in KEYS)


@pytest.mark.parametrize("route", ROUTES)
def test_with_a_key_every_route_is_open(guarded, route):
    assert ask(guarded, route, Authorization=f"Bearer {KEYS[1]}").status_code != 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(guarded, scheme):
    assert ask(guarded, "GET /version", Authorization=f"{scheme} {KEYS[0]}").status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/openapi.json", 401), ("/docs", 404), ("/redoc", 404)])
def test_the_description_of_the_routes_is_guarded_too(guarded, path, status):
    assert guarded.get(path).status_code == status


def test_health_needs_no_key(guarded):
    assert ask(guarded, "GET /health").status_code == 200


def test_a_refused_upload_is_not_stored(guarded):
    before = guarded.traces()
    assert guarded.upload(b"x" * 100_000).status_code == 401
    assert guarded.traces() == before


def test_a_guarded_server_says_so_in_its_schema(guarded):
    schema = ask(guarded, "GET /openapi.json", Authorization=f"Bearer {KEYS[0]}").json()
    assert "401" in schema["paths"]["/datasets"]["get"]["responses"]
    assert "401" not in schema["paths"]["/health"]["get"]["responses"]
    assert schema["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
    secured = {route for route in ROUTES if "security" in schema["paths"][route.split()[1]][route.split()[0].lower()]}
    assert secured == set(ROUTES) - OPEN


def test_an_open_server_asks_for_no_key_in_its_schema(api):
    assert "securitySchemes" not in api.get("/openapi.json").json()["components"]


def test_without_keys_in_the_settings_none_is_needed(api):
    assert ask(api, "GET /version").status_code == 200


# --- CORS ------------------------------------------------------------------------------------------------------------

PAGE = "http://localhost:5173"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), cors_origins=[PAGE], api_keys=KEYS)
    with Api(settings) as running:
        yield running


def test_a_page_of_the_settings_may_call_and_read_the_headers_that_matter(shared):
    answer = ask(shared, "GET /health", Origin=PAGE)
    assert answer.headers["access-control-allow-origin"] == PAGE
    exposed = {"Content-Disposition", "ETag", "Link", "Location", "Retry-After"}
    assert exposed <= set(answer.headers["access-control-expose-headers"].split(", "))


def test_a_page_may_ask_beforehand_without_a_key(shared):
    headers = {"Origin": PAGE, "Access-Control-Request-Method": "DELETE"}
    headers["Access-Control-Request-Headers"] = "authorization,if-none-match"
    answer = shared.request("OPTIONS", "/datasets/x", headers=headers)
    assert answer.status_code == 200
    assert "DELETE" in answer.headers["access-control-allow-methods"]


def test_a_page_can_read_that_its_key_is_wrong(shared):
    answer = ask(shared, "GET /version", Origin=PAGE)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, PAGE)


def test_a_page_can_read_that_the_server_made_a_mistake(shared, monkeypatch, caplog):
    def fails(*given: object) -> None:
        raise RuntimeError("the inner secret")

    monkeypatch.setattr("octa_backend.service.model_service.versions", fails)
    answer = ask(shared, "GET /version", Origin=PAGE, Authorization=f"Bearer {KEYS[0]}")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, PAGE)
    assert "its log says more" in answer.json()["detail"]
    assert "RuntimeError: the inner secret" in caplog.text


def test_a_mistake_of_the_server_leaves_the_connection_open(shared, monkeypatch):
    """What leaves the app as an exception makes the web server close the connection without a word."""

    def fails(*given: object) -> None:
        raise RuntimeError("the inner secret")

    async def ask_version() -> int:
        transport = httpx.ASGITransport(shared.app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://octa") as client:
            return (await client.get("/version", headers={"Authorization": f"Bearer {KEYS[0]}"})).status_code

    monkeypatch.setattr("octa_backend.service.model_service.versions", fails)
    assert asyncio.run(ask_version()) == 500


def test_other_pages_may_not(shared, api):
    assert "access-control-allow-origin" not in ask(shared, "GET /health", Origin="http://evil.test").headers
    assert "access-control-allow-origin" not in ask(api, "GET /health", Origin=PAGE).headers


# --- pages of other sites, on a server without keys ------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "[::1]:8000", "octa", "octa.localhost:8000", "192.168.1.7", "TESTSERVER"]
)
def test_a_server_without_keys_answers_to_addresses_and_to_names_that_nobody_can_register(api, host):
    assert ask(api, "GET /version", Host=host).status_code == 200


@pytest.mark.parametrize("host", ["evil.test", "evil.test:8000", "127.0.0.1.evil.test", "localhost.evil.test", "[::1"])
def test_a_page_whose_name_was_made_to_point_here_is_refused(api, host):
    answer = ask(api, "GET /version", Host=host)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:octa:foreign-page")
    assert repr(host) in answer.json()["detail"]
    assert "OCTA_ALLOWED_HOSTS" in answer.json()["detail"]


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://octa:1", "http://octa.evil.test"])
def test_a_page_of_another_origin_may_not_change_anything(api, origin):
    answer = ask(api, "DELETE /datasets/x", Host="octa", Origin=origin)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:octa:foreign-page")
    assert "OCTA_CORS_ORIGINS" in answer.json()["detail"]


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://octa:8000"}, {"Origin": "https://Octa:8000"}])
def test_pages_of_the_server_itself_and_programs_may(api, headers):
    assert ask(api, "DELETE /datasets/x", Host="octa:8000", **headers).status_code == 404


def test_a_page_of_another_origin_may_ask_for_what_it_cannot_read(api):
    answer = ask(api, "GET /version", Origin="http://evil.test")
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_names_and_origins_of_the_settings_may(tmp_path):
    settings = Settings(data_dir=tmp_path, cors_origins=[PAGE], allowed_hosts=["Octa.lab.example"])
    with Api(settings) as running:
        assert ask(running, "DELETE /datasets/x", Origin=PAGE, Host="octa.lab.example").status_code == 404
        assert ask(running, "DELETE /datasets/x", Origin="http://evil.test").status_code == 403
        assert ask(running, "GET /version", Host="evil.test").status_code == 403


def test_stars_open_all(tmp_path):
    settings = Settings(data_dir=tmp_path, cors_origins=["*"], allowed_hosts=["*"])
    with Api(settings) as running:
        assert ask(running, "DELETE /datasets/x", Origin="http://evil.test", Host="evil.test").status_code == 404


def test_with_a_key_neither_name_nor_origin_matters(guarded):
    headers = {"Authorization": f"Bearer {KEYS[0]}", "Host": "octa.lab.example", "Origin": "http://evil.test"}
    assert ask(guarded, "DELETE /datasets/x", **headers).status_code == 404
