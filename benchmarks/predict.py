"""How quick predictions are: engines in one process, through HTTP, with many clients, beside a training, and what
memory they take.

The engine's median is compared with plain torch in float32 in the same process. A server of its own then answers with
the same model, loaded at its start.

    python benchmarks/predict.py MODEL_FOLDER [--requests 10000] [--sizes 256 1024] [--without-training]
    python benchmarks/predict.py            (a `unet_transformer` of random weights)
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import psutil
from PIL import Image
from serve import server, start_training

from octa_backend.data.synthetic import make_scan
from octa_backend.inference.model_folder import CARD_FILE, read_card
from octa_backend.service import model_service
from octa_backend.service.exporter import Exporter
from octa_backend.settings import load_settings
from octa_backend.storage.database import Database
from octa_backend.storage.tables import Dataset, Job, JobState

RUNS = 7  # of each measurement, of which the median counts
LARGE, FEWER_RUNS = 512, 3  # of scans from this side on, whose answers take long
CLIENTS = (1, 4, 16)
WARM_REQUESTS = 100  # after which memory is measured first
MODEL_ID = "measured"


def a_scan(size: int) -> np.ndarray:
    return make_scan(size, np.random.default_rng(size)).image[None]


def as_png(image_1HW: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_1HW[0]).save(buffer, "PNG")
    return buffer.getvalue()


def random_model(folder: Path) -> Path:
    """A `unet_transformer` of random weights."""
    import torch

    from octa_backend.models import registry
    from octa_backend.training.checkpoint import save_weights

    torch.manual_seed(0)
    weights = folder / "random.safetensors"
    save_weights(registry.build("unet_transformer", 1, 1), weights)
    card = {"network": "unet_transformer", "channels": 1, "classes": 2}
    model_service.write_model(folder / "random", weights, card)
    return folder / "random"


def milliseconds(answer: Callable[[], object], runs: int) -> tuple[list[float], list[float]]:
    """Of each call, by the clock and on all cores."""
    clocks = []
    for _ in range(runs):
        before = time.perf_counter(), time.process_time()
        answer()
        clocks.append((1000 * (time.perf_counter() - before[0]), 1000 * (time.process_time() - before[1])))
    elapsed, on_cores = zip(*clocks, strict=True)
    return list(elapsed), list(on_cores)


def compare_engines(model: Path, sizes: Sequence[int]) -> None:
    """The table of medians.

    Time on all cores tells more than the clock where others use the machine too.
    """
    import torch

    from octa_backend.inference.predictor import Predictor, open_predictor
    from octa_backend.inference.torch_engine import TorchEngine, load_network

    plain = Predictor(model, [TorchEngine(load_network(model, read_card(model)))])
    quick = open_predictor(model, "auto")
    print(
        f"\none scan in one process, median of {RUNS} ({FEWER_RUNS} of large ones), {torch.get_num_threads()} threads\n"
    )
    print("| scan | engine | ms | ms on all cores |\n|---|---|---|---|")
    for size in sizes:
        image = a_scan(size)
        for predictor in (plain, quick):
            answer = partial(predictor.predict, image)
            answer()  # kernels are picked
            elapsed, on_cores = milliseconds(answer, RUNS if size < LARGE else FEWER_RUNS)
            print(
                f"| {size} x {size} | {predictor.engine} | {median(elapsed):.0f} | {median(on_cores):.0f} |", flush=True
            )


def publish(data_dir: Path, model: Path) -> None:
    """Put a model into a data folder, as a finished job would have published it."""
    shutil.copytree(model, data_dir / "models" / MODEL_ID)
    database = Database(load_settings(data_dir=data_dir).effective_database_url)
    database.migrate()
    card = json.loads((model / CARD_FILE).read_text("utf-8"))
    counts = {"scans": 1, "channels": card["channels"], "classes": card["classes"], "spatial_dims": 2, "size_bytes": 1}
    facts = {"foreground_fraction": 0.1, "splits": {}, "findings": []}
    with database.writing() as session:
        session.add(Dataset(id="0" * 20, sha256="0" * 64, name="gone.zip", **counts, **facts))
        session.flush()
        job = Job(file_id="0" * 20, config={}, state=JobState.SUCCEEDED)
        session.add(job)
        session.flush()
        model_service.register(session, MODEL_ID, job, card)
    database.close()


def ask(client: httpx.Client, scan: bytes, **options: str) -> float:
    """One prediction through HTTP; how long the model took for it, ms."""
    data = {"model_id": MODEL_ID, **options}
    answer = client.post("/predict", files={"file": ("scan.png", scan)}, data=data)
    answer.raise_for_status()
    return 1000 * float(answer.json()["seconds"])


def through_http(url: str, scan: bytes) -> float:
    """The first answers after the server's start, and what they take beside the model; returns the median, ms."""
    with httpx.Client(base_url=url, timeout=120) as client:
        first, *others = milliseconds(lambda: ask(client, scan), 2 * RUNS)[0]
        beside = [_beside_the_model(client, scan, measure) for measure in ("true", "false")]
    print("\nthrough HTTP, ms\n\n| first | second | median | beside the model | the same with measure=false |")
    print("|---|---|---|---|---|")
    print(f"| {first:.0f} | {others[0]:.0f} | {median(others):.0f} | {beside[0]:.0f} | {beside[1]:.0f} |", flush=True)
    return median(others)


def mask_alone(url: str, scan: bytes, model: Path, size: int) -> None:
    """The mask of a scan through HTTP and in this process, by turns."""
    from octa_backend.inference.predictor import open_predictor

    predictor, image = open_predictor(model, "auto"), a_scan(size)
    data, headers = {"model_id": MODEL_ID, "measure": "false", "keep": "false"}, {"accept": "image/png"}
    with httpx.Client(base_url=url, timeout=120) as client:

        def fetch() -> None:
            client.post("/predict", files={"file": ("scan.png", scan)}, data=data, headers=headers).raise_for_status()

        turns = [(milliseconds(fetch, 1)[0], milliseconds(partial(predictor.predict, image), 1)[0]) for _ in range(30)]
    fetched, computed = (median(elapsed for [elapsed] in column) for column in zip(*turns, strict=True))
    more = fetched - computed
    print(
        f"\nthe mask alone: {computed:.0f} ms in one process, {fetched:.0f} ms through HTTP, {more:.0f} more",
        flush=True,
    )


def _beside_the_model(client: httpx.Client, scan: bytes, measure: str) -> float:
    """The median of what an answer takes less what its own model took, ms."""
    waited = []
    for _ in range(2 * RUNS):
        start = time.perf_counter()
        within = ask(client, scan, measure=measure)
        waited.append(1000 * (time.perf_counter() - start) - within)
    return median(waited)


def throughput(url: str, scan: bytes, requests: int) -> None:
    """Scans per second with so many clients at once."""
    print("\n| clients | scans per second |\n|---|---|")
    for clients in CLIENTS:
        count = max(clients, requests)
        with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(clients) as pool:
            start = time.perf_counter()
            list(pool.map(lambda _: ask(client, scan), range(count)))
            print(f"| {clients} | {count / (time.perf_counter() - start):.2f} |")


def memory(url: str, data_dir: Path, scan: bytes, requests: int) -> None:
    """Of the server after the first requests, and after all."""
    process = psutil.Process(json.loads((data_dir / "server.json").read_text("utf-8"))["pid"])
    with httpx.Client(base_url=url, timeout=120) as client:
        for _ in range(WARM_REQUESTS):
            ask(client, scan)
        early = process.memory_info().rss / 2**20
        for _ in range(requests - WARM_REQUESTS):
            ask(client, scan)
    late = process.memory_info().rss / 2**20
    print(
        f"\nmemory after {WARM_REQUESTS} requests {early:.0f} MiB, after {requests} {late:.0f} MiB: {late / early:.3f}"
    )


def beside_a_training(url: str, folder: Path, scan: bytes, idle_ms: float) -> None:
    """The median while a job trains on the same machine."""
    job_id = start_training(url, folder, size=128)
    with httpx.Client(base_url=url, timeout=300) as client:
        busy = median(milliseconds(lambda: ask(client, scan), 2 * RUNS)[0])
        state = client.get(f"/train/progress/{job_id}").json()["state"]
        client.post(f"/train/jobs/{job_id}/cancel")
    print(f"\nwhile a job is {state}: median {busy:.0f} ms, {busy / idle_ms:.2f} times idle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--requests", type=int, default=200, help="for the measurement of memory")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[256, 1024], help="of scans; the first goes through HTTP"
    )
    parser.add_argument("--without-training", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, data_dir = Path(name), Path(name) / "data"
        model = (arguments.model or random_model(folder)).absolute()
        record = Exporter().ensure(model, "openvino")
        print(f"agreement with torch on {record.checked_on} scans: {record.agreement}; load {os.getloadavg()[0]:.1f}")
        compare_engines(model, arguments.sizes)
        publish(data_dir, model)
        os.environ["OCTA_WARM_MODELS"] = "1"
        with server(data_dir) as url:
            scan = as_png(a_scan(arguments.sizes[0]))
            while httpx.get(f"{url}/ready", timeout=120).status_code != 200:
                time.sleep(0.1)
            idle_ms = through_http(url, scan)
            mask_alone(url, scan, model, arguments.sizes[0])
            throughput(url, scan, 2 * RUNS)
            memory(url, data_dir, scan, max(WARM_REQUESTS, arguments.requests))
            if not arguments.without_training:
                beside_a_training(url, folder, scan, idle_ms)


if __name__ == "__main__":
    main()
