"""A real server with real workers for the acceptance tests: started, killed, restarted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from octa_backend.commands import http_client

FINAL = ("succeeded", "failed", "cancelled")
DEADLINE_SECONDS = 180.0


def wait_for(what: str, check: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """Ask until the answer is true; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


class Server:
    """`octa serve` on a data folder of its own."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self._settings = {f"OCTA_{name.upper()}": value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.client = http_client.client()

    def start(self) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "octa_backend.cli", "serve", "--port", str(port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OCTA_")}
        with (self.data_dir / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)],
                env={**environment, **self._settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.client.close()
        self.client = http_client.client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        wait_for("the server's first answer", self._answers, 60)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.data_dir / "server.log").read_text()
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9: the process gets no chance to tidy up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the server as a user would, and then its workers, which would live on."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)
        self.client.close()
        for process in psutil.process_iter(["cmdline"]):
            if "octa_backend.service.worker" in (process.info["cmdline"] or []) and self._is_mine(process):
                process.kill()

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return any(Path(file.path).is_relative_to(self.data_dir) for file in process.open_files())
        except psutil.Error:
            return False

    def start_job(self, archive: Path, **config: object) -> str:
        form = {"model": "unet", "start_checks": "false", **{name: str(value) for name, value in config.items()}}
        with archive.open("rb") as file:
            answer = self.client.post("/train/start-with-file", files={"file": (archive.name, file)}, data=form)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == answer.json()["progress_url"]
        return str(answer.json()["job_id"])

    def progress(self, job_id: str, since_epoch: int = 0) -> dict[str, Any]:
        answer = self.client.get(f"/train/progress/{job_id}", params={"since_epoch": since_epoch})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def wait_for_epoch(self, job_id: str, epoch: int) -> dict[str, Any]:
        """Until an epoch is finished and the job still runs."""

        def reached() -> dict[str, Any] | None:
            found = self.progress(job_id)
            assert found["state"] not in FINAL, found
            return found if found["epoch"] >= epoch else None

        body: dict[str, Any] = wait_for(f"epoch {epoch}", reached)
        return body

    def wait_for_end(self, job_id: str) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            found = self.progress(job_id)
            return found if found["state"] in FINAL else None

        body: dict[str, Any] = wait_for("the end of the job", over)
        return body

    def worker(self, job_id: str) -> psutil.Process:
        """The process that works on the job now."""

        def found() -> psutil.Process | None:
            attempts = self.client.get(f"/train/jobs/{job_id}").json()["attempts"]
            living = [a for a in attempts if a["ended_at"] is None and a["pid"]]
            return psutil.Process(living[-1]["pid"]) if living else None

        process: psutil.Process = wait_for("the worker's process", found)
        return process
