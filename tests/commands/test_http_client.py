from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from octa_backend.commands import demo
from octa_backend.commands.http_client import client
from octa_backend.commands.jobs import from_server
from octa_backend.errors import ServerUnreachable

TARGET_HEADER = "X-Target"


class _Echo(BaseHTTPRequestHandler):
    """No jobs; and how the request line named what was asked for: with the host where the asker held it for a proxy."""

    def do_GET(self):
        content = b'{"items": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header(TARGET_HEADER, self.path)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *given):
        pass


@pytest.fixture
def port():
    with HTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(monkeypatch):
    """Have the system name a proxy, without exclusions."""

    def name(port):
        for variable in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(variable, raising=False)
        for variable in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.delenv(variable.lower(), raising=False)
            monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")

    return name


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_asked_without_the_proxy_of_the_system(port, proxy, host):
    proxy(1)  # where nobody listens
    assert from_server(f"http://{host}:{port}", None, 10) == []


def test_a_server_elsewhere_is_asked_by_the_proxy_of_the_system(port, proxy):
    proxy(port)
    with client() as asking:
        assert asking.get("http://octa.test/health").headers[TARGET_HEADER] == "http://octa.test/health"
        with pytest.raises(httpx.ConnectError):
            asking.get("http://[::1]:1/health")


class _Alive:
    """A server that is on its way."""

    def poll(self):
        return None


def test_the_demo_waits_while_something_else_answers_for_its_server(tmp_path, monkeypatch):
    answers = [httpx.Response(502), httpx.Response(404), httpx.Response(200)]
    transport = httpx.MockTransport(lambda request: answers.pop(0))
    with httpx.Client(base_url="http://127.0.0.1:1", transport=transport) as asking:
        demo._wait_until_healthy(asking, _Alive(), tmp_path / "log")
    assert answers == []
    monkeypatch.setattr(demo, "START_SECONDS", 0)
    (tmp_path / "log").write_text("what it printed")
    with httpx.Client() as asking, pytest.raises(ServerUnreachable, match="what it printed"):
        demo._wait_until_healthy(asking, _Alive(), tmp_path / "log")
