"""`octa demo`: the whole story over HTTP: a zip in, a training watched, an unseen scan segmented."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from octa_backend.commands import http_client
from octa_backend.commands.demo_unseen import Unseen, UnseenVolume, held_out
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic import make_scan, write_zip
from octa_backend.errors import OctaError, ServerUnreachable
from octa_backend.settings import load_settings
from octa_backend.storage.files import Files
from octa_backend.storage.outputs import output_folder

SCANS, SIZE, SEED = 32, 128, 7
START_SECONDS, POLL_SECONDS = 60.0, 0.5


def demo(console: Console, data: Path | None, out: Path, epochs: int, model: str) -> None:
    """Run the story and print what came out.

    Raises:
        OctaError: the server did not start, refused the data, or the training failed.
    """
    started = time.monotonic()
    output_folder(out)
    archive = data or _synthetic(console, out)
    with _server(console, out / "server") as client:
        job_id = _start(console, client, archive, epochs, model)
        progress = _watch(console, client, job_id)
        unseen = _held_out(out / "server", progress) if data else _fresh_scan()
        _predict(console, client, unseen, progress, out)
    console.print(f"done in {time.monotonic() - started:.0f} s; the server is stopped")


def _synthetic(console: Console, out: Path) -> Path:
    archive = out / "synthetic.zip"
    write_zip(archive, SCANS, size=SIZE, seed=SEED)
    console.print(f"made {SCANS} synthetic OCTA scans of {SIZE}×{SIZE}: {archive}")
    return archive


def _fresh_scan() -> Unseen:
    """The scan that would come next in the synthetic zip."""
    scan = make_scan(SIZE, np.random.default_rng([SEED, SCANS]))
    return Unseen("unseen synthetic scan", scan.image, scan.mask)


def _held_out(data_dir: Path, progress: dict[str, Any]) -> Unseen | UnseenVolume:
    """The first scan of the test split, or of the validation split where there is no test split."""
    files = Files(data_dir)
    card = json.loads((files.model(progress["model_id"]) / "card.json").read_text("utf-8"))
    split = "test" if card["splits"]["test"] else "val"
    return held_out(DatasetStore(files.dataset(progress["file_id"])), card["splits"][split][0], split)


@contextmanager
def _server(console: Console, data_dir: Path) -> Iterator[httpx.Client]:
    """A server of its own on a free port, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "octa_backend.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
    log = data_dir.with_suffix(".log")
    with log.open("wb") as output:
        start = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, "--data-dir", str(data_dir)], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            keys = load_settings().api_keys
            headers = {"Authorization": f"Bearer {keys[0].get_secret_value()}"} if keys else {}
            with http_client.client(base_url=f"http://127.0.0.1:{port}", timeout=120, headers=headers) as client:
                _wait_until_healthy(client, process, log)
                console.print(f"server answers after {time.monotonic() - start:.1f} s on {client.base_url}")
                yield client
        finally:
            process.terminate()
            process.wait()


def _wait_until_healthy(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.get("/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise ServerUnreachable(f"the server did not start; its log is {log}:\n{log.read_text('utf-8', 'replace')[-2000:]}")


def _checked(answer: httpx.Response) -> dict[str, Any]:
    """The answer's JSON.

    Raises:
        OctaError: it is a problem document; its detail is the message.
    """
    content: dict[str, Any] = answer.json()
    if answer.is_error:
        findings = "".join(f"\n  {finding['message']}" for finding in content.get("findings") or [])
        raise OctaError(f"{content['title']} {content['detail']}{findings}")
    return content


def _start(console: Console, client: httpx.Client, archive: Path, epochs: int, model: str) -> str:
    with archive.open("rb") as file:
        form = {"epochs": str(epochs), "model": model}
        answer = client.post("/train/start-with-file", files={"file": (archive.name, file)}, data=form)
    started = _checked(answer)
    console.print(f"uploaded {archive.name}; job {started['job_id']} is {started['state']}")
    job_id: str = started["job_id"]
    return job_id


def _watch(console: Console, client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Poll until the job is over, with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("waiting", total=100)
        since = 0
        while True:
            progress = _checked(client.get(f"/train/progress/{job_id}", params={"since_epoch": since}))
            for epoch in progress["epochs_since"]:
                since = epoch["epoch"]
                console.print(
                    f"epoch {since}/{progress['epochs']}: train loss {epoch['train_loss']:.4f}, "
                    f"val Dice {epoch['val_dice']:.4f}, {epoch['seconds']:.1f} s",
                    highlight=False,
                )
            bar.update(task, completed=progress["percent"], description=f"training ({progress['state']})")
            if progress["state"] in ("succeeded", "failed", "cancelled"):
                break
            time.sleep(POLL_SECONDS)
    if progress["state"] != "succeeded":
        tail = "\n".join(progress["log_tail"])
        raise OctaError(f"the training {progress['state']}: {progress['error']}\n{tail}")
    return progress


def _predict(
    console: Console, client: httpx.Client, unseen: Unseen | UnseenVolume, progress: dict[str, Any], out: Path
) -> None:
    form = {"model_id": progress["model_id"]}
    answer = _checked(client.post("/predict", files=unseen.files(), data=form, timeout=None))
    paths, dice = unseen.written(answer, out), unseen.dice(answer)
    best, test = progress["best"], progress["test"]
    console.print(f"best epoch {best['epoch']}: validation Dice {best['val_dice']:.4f}", highlight=False)
    if test:
        console.print(f"test Dice {test['dice']:.4f} ± {test['dice_std']:.4f}, mean over {test['scans']} scans")
    console.print(f"{unseen.name}: Dice {dice:.4f}, predicted in {answer['seconds']:.2f} s", highlight=False)
    for name, path in paths.items():
        console.print(f"{name + ':':9}{path}", soft_wrap=True)
