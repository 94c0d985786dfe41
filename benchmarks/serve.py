"""How quick polling is while a job trains, and whether it stays so as epochs pile up.

Starts a server on a folder of its own, trains in the background, and lets 8 clients poll 2,000 times; then asks for
the progress of jobs with 10 to 10,000 epochs, with `since_epoch` one behind.

    python benchmarks/serve.py [--polls 2000] [--clients 8]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx

from octa_backend.data.synthetic import write_zip
from octa_backend.settings import load_settings
from octa_backend.storage.database import Database
from octa_backend.storage.tables import EpochReport, Job, JobState

NORMS = dict.fromkeys(("encoder_conv1", "encoder_last", "decoder_first", "decoder_output"), 0.01)


@contextmanager
def server(data_dir: Path) -> Iterator[str]:
    """A server of its own, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "octa_backend.cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                httpx.get(f"{url}/health")
                break
            except httpx.TransportError:
                time.sleep(0.01)
        print(f"first /health answer {time.perf_counter() - start:.2f} s after launch")
        yield url
    finally:
        process.terminate()
        process.wait()


def start_training(url: str, folder: Path, size: int) -> str:
    """A job that trains for longer than the measurement takes; returns when its first step is done."""
    archive = folder / "scans.zip"
    write_zip(archive, 16, size=size, seed=0)
    files = {"file": ("scans.zip", archive.read_bytes())}
    job_id = httpx.post(f"{url}/train/start-with-file", files=files, data={"epochs": "1000", "model": "unet"}).json()
    name = str(job_id["job_id"])
    while httpx.get(f"{url}/train/progress/{name}").json()["epoch"] < 1:
        time.sleep(0.2)
    return name


def poll(url: str, path: str, polls: int) -> tuple[list[float], int, int]:
    """Milliseconds of each poll, the number of errors, and the size of the last answer."""
    times, errors, size = [], 0, 0
    with httpx.Client(base_url=url, timeout=30) as client:
        for _ in range(polls):
            start = time.perf_counter()
            answer = client.get(path)
            times.append(1000 * (time.perf_counter() - start))
            errors += answer.status_code != 200
            size = len(answer.content)
    return times, errors, size


def many_clients(url: str, job_id: str, polls: int, clients: int) -> None:
    """All clients at once, while the job trains."""
    with ThreadPoolExecutor(clients) as pool:
        shares = [pool.submit(poll, url, f"/train/progress/{job_id}", polls // clients) for _ in range(clients)]
        results = [share.result() for share in shares]
    times = [value for result in results for value in result[0]]
    percent = quantiles(times, n=100)
    state = httpx.get(f"{url}/train/progress/{job_id}").json()["state"]
    print(f"\n{len(times)} polls from {clients} clients while the job is {state}, {os.cpu_count()} cores")
    print("| median ms | p95 ms | p99 ms | max ms | errors |\n|---|---|---|---|---|")
    errors = sum(result[1] for result in results)
    print(f"| {median(times):.1f} | {percent[94]:.1f} | {percent[98]:.1f} | {max(times):.1f} | {errors} |")


def add_finished_job(database: Database, file_id: str, epochs: int) -> str:
    """A job with so many epochs, written straight into the database."""
    numbers = {"train_loss": 0.4, "val_loss": 0.4, "val_dice": 0.8, "val_iou": 0.7, "val_precision": 0.8}
    more = {"val_recall": 0.8, "lr": 5e-4, "seconds": 7.0, "scans_per_second": 2.6, "peak_memory_mb": 3100.0}
    with database.writing() as session:
        job = Job(file_id=file_id, config={"epochs": epochs, "model": "unet"}, epoch=epochs, state=JobState.SUCCEEDED)
        session.add(job)
        session.flush()
        for epoch in range(1, epochs + 1):
            fixed = {"loss_components": {"bce": 0.2, "dice": 0.6}, "gradient_norms": NORMS}
            words = {"gradient_verdict": "healthy", "plateau": None}
            session.add(EpochReport(job_id=job.id, epoch=epoch, **numbers, **more, **fixed, **words))
        return job.id


def growth(url: str, data_dir: Path, file_id: str) -> None:
    """Size and time of the answer against the number of epochs."""
    database = Database(load_settings(data_dir=data_dir).effective_database_url)
    print("\n| epochs | median ms | bytes |\n|---|---|---|")
    for epochs in (10, 100, 1000, 10_000):
        job_id = add_finished_job(database, file_id, epochs)
        times, errors, size = poll(url, f"/train/progress/{job_id}?since_epoch={epochs - 1}", 200)
        print(f"| {epochs} | {median(times):.2f} | {size} |" + (f" {errors} errors" if errors else ""))
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        with server(data_dir) as url:
            job_id = start_training(url, Path(folder), arguments.size)
            many_clients(url, job_id, arguments.polls, arguments.clients)
            httpx.post(f"{url}/train/jobs/{job_id}/cancel")
            while httpx.get(f"{url}/train/progress/{job_id}").json()["state"] == "running":
                time.sleep(0.2)
            growth(url, data_dir, httpx.get(f"{url}/train/progress/{job_id}").json()["file_id"])


if __name__ == "__main__":
    main()
