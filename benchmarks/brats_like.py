"""Seconds and memory of a training on scans of the size of BraTS, from the zip to the mask, over HTTP.

Draws cases in the layout of BraTS (a folder per case with four modalities and `_seg`, float32, labels 0, 1, 2 and 4,
axes that point to the left, the back and the head), sends them as a zip to a server of its own, trains with the regions
WT, TC and ET, predicts a case that was drawn beside them, and looks at the mask with nibabel: affine, shape, values.
The memory is the resident set of each process, read every 50 ms; pages of memory maps count in it, although the system
may take them back at any time. Ends with 1 when a check fails or a process needed more than `--most-mib`.

    python benchmarks/brats_like.py [--shape 240 240 155] [--cases 6] [--epochs 1] [--set NAME=VALUE ...]
        [--most-mib 6144]
"""

from __future__ import annotations

import argparse
import base64
import gzip
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import psutil
from measuring import machine, number, say, table
from numpy.typing import NDArray
from scipy import ndimage
from serve import server

VALUES = (0, 1, 2, 4)
"""Background, necrotic core, oedema, enhancing tumour."""

GREYS: Mapping[str, tuple[float, float, float, float]] = {
    "flair": (200.0, 260.0, 420.0, 330.0),
    "t1": (300.0, 180.0, 240.0, 220.0),
    "t1ce": (300.0, 170.0, 250.0, 520.0),
    "t2": (250.0, 420.0, 380.0, 330.0),
}
"""Of the tissue, and of what has the labels 1, 2 and 4, by modality."""

TEXTURE, GRAIN = 40.0, 12.0
BLOCKS = 8
"""Of coarse noise along each axis."""

REGIONS = "brats"
SERVER, WORKER = "server", "other processes"
POLL_SECONDS, SAMPLE_SECONDS = 0.5, 0.05

Files = dict[str, bytes]


# --- drawing --------------------------------------------------------------------------------------------------------


def affine_of(shape: Sequence[int]) -> NDArray[np.float64]:
    """Axes as in BraTS: they point to the left, the back and the head."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    return affine


def drawn_case(shape: Sequence[int], seed: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.uint8]]:
    """Modalities by name, and labels: a brain with zeros around, and three nested blobs in it; all (X, Y, Z)."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((BLOCKS,) * 3).astype(np.float32)
    texture = ndimage.zoom(coarse, [side / BLOCKS for side in shape], order=1, grid_mode=True, mode="nearest")
    places = [np.linspace(-1, 1, side, dtype=np.float32) for side in shape]
    brain = _distance(places, (0.0, 0.0, 0.0), (0.62, 0.78, 0.88)) + 0.05 * texture < 1
    centre = random.uniform(-0.25, 0.25, 3)
    tumour = _distance(places, centre, random.uniform(0.25, 0.4, 3)) + 0.12 * texture
    labels = np.zeros(shape, np.uint8)
    labels[tumour < 1] = 2
    labels[tumour < 0.75] = 4
    labels[tumour < 0.5] = 1
    labels[~brain] = 0
    images = {}
    for name, greys in GREYS.items():
        by_value = np.zeros(VALUES[-1] + 1, np.float32)
        by_value[list(VALUES)] = greys
        image = by_value[labels] + TEXTURE * texture
        image += GRAIN * random.standard_normal(shape, dtype=np.float32)
        np.maximum(np.rint(4 * image) / 4, 0.25, out=image)  # the brain has no zeros, and quarters pack quickly
        image[~brain] = 0
        images[name] = image
    return images, labels


def _distance(places: Sequence[NDArray[np.float32]], centre: Any, radii: Any) -> NDArray[np.float32]:
    """From the centre of an ellipsoid, whose surface is at 1."""
    x, y, z = (((at - c) / r) ** 2 for at, c, r in zip(places, centre, radii, strict=True))
    found: NDArray[np.float32] = np.sqrt(x[:, None, None] + y[None, :, None] + z[None, None, :], dtype=np.float32)
    return found


def case_files(name: str, shape: Sequence[int], seed: int) -> Files:
    """A case's files by their names in the zip."""
    images, labels = drawn_case(shape, seed)
    affine = affine_of(shape)
    found = {}
    for ending, values in {**images, "seg": labels}.items():
        content = nib.nifti1.Nifti1Image(values, affine).to_bytes()
        found[f"{name}/{name}_{ending}.nii.gz"] = gzip.compress(content, compresslevel=1, mtime=0)
    return found


def write_zip(path: Path, shape: Sequence[int], cases: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for seed in range(1, cases + 1):
            for name, content in case_files(f"BraTS_{seed:03d}", shape, seed).items():
                archive.writestr(name, content)


# --- memory ---------------------------------------------------------------------------------------------------------


class Peaks:
    """The most memory of the server and of the largest process below it, MiB, by the phase of the benchmark."""

    def __init__(self) -> None:
        self.phase = ""
        self.mib: dict[tuple[str, str], float] = defaultdict(float)
        self._done = Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _watch(self) -> None:
        this = psutil.Process()
        while not self._done.wait(SAMPLE_SECONDS):
            for process in this.children(recursive=True):
                try:
                    who = SERVER if process.ppid() == this.pid else WORKER
                    used = process.memory_info().rss / 2**20
                except psutil.Error:  # it ended in between
                    continue
                self.mib[self.phase, who] = max(self.mib[self.phase, who], used)


# --- the story ------------------------------------------------------------------------------------------------------


class Story:
    """The phases, with their seconds and peaks.

    Args:
        url: of the server.
        peaks: are told which phase it is.
    """

    def __init__(self, url: str, peaks: Peaks) -> None:
        self._client = httpx.Client(base_url=url, timeout=None)
        self._peaks = peaks
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._peaks.phase = name
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        say(f"  {name}: {self.seconds[name]:.1f} s")

    def take_in(self, archive: Path) -> str:
        with self.phase("intake"), archive.open("rb") as file:
            dataset = _body(self._client.post("/datasets", files={"file": (archive.name, file)}))
        if (dataset["channels"], dataset["classes"]) != (len(GREYS), len(VALUES)):
            sys.exit(f"the dataset was not understood: {dataset}")
        return str(dataset["file_id"])

    def train(self, file_id: str, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The job's id, and its report."""
        with self.phase("training"):
            job_id = str(_body(self._client.post(f"/train/start-with-file/{file_id}", json=config))["job_id"])
            while True:
                job = _body(self._client.get(f"/train/jobs/{job_id}"))
                if job["state"] not in ("queued", "running"):
                    break
                time.sleep(POLL_SECONDS)
        if job["state"] != "succeeded":
            sys.exit(f"the training {job['state']}: {job}")
        return job_id, _body(self._client.get(f"/train/jobs/{job_id}/report"))

    def predict(self, job_id: str, files: Files) -> dict[str, Any]:
        sent = [("file", (name.rpartition("/")[2], content)) for name, content in files.items()]
        with self.phase("prediction"):
            return _body(self._client.post("/predict", files=sent, data={"job_id": job_id}))


def _body(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        sys.exit(f"{answer.request.url} answered {answer.status_code}: {answer.text}")
    body: dict[str, Any] = answer.json()
    return body


def faults_of(answer: Mapping[str, Any], files: Files) -> list[str]:
    """What is wrong with a predicted mask, beside a file of its case."""
    mask, scan = (
        nib.nifti1.Nifti1Image.from_bytes(gzip.decompress(content))
        for content in (base64.b64decode(answer["mask_nii_gz"]), next(iter(files.values())))
    )
    faults = []
    if mask.shape != scan.shape:
        faults.append(f"the mask is {mask.shape}, the scan is {scan.shape}")
    if not np.array_equal(mask.affine, scan.affine):
        faults.append(f"the mask's affine is {mask.affine.tolist()}, the scan's is {scan.affine.tolist()}")
    if others := sorted(set(np.unique(np.asarray(mask.dataobj)).tolist()) - set(VALUES)):
        faults.append(f"the mask has {others}, which are no labels of the dataset")
    return faults


# --- the tables -----------------------------------------------------------------------------------------------------


def phase_table(seconds: Mapping[str, float], mib: Mapping[tuple[str, str], float]) -> str:
    rows = [
        [name, f"{spent:.0f}", *(number(mib.get((name, who)), 0) for who in (SERVER, WORKER))]
        for name, spent in seconds.items()
    ]
    return table(["Phase", "Seconds", "Server, peak MiB", "Largest other process, peak MiB"], rows)


def dice_table(report: Mapping[str, Any]) -> str:
    """Each class by its value, each region by its name; a dash where no scan of the report has it."""
    summaries = dict(zip(map(str, VALUES[1:]), report["class_summaries"], strict=True)) | report["region_summaries"]
    rows = [[name, number(found["dice"] and found["dice"]["mean"], 3)] for name, found in summaries.items()]
    return table(["Label or region", "Dice"], rows)


def config_of(arguments: argparse.Namespace) -> dict[str, Any]:
    named = dict(setting.split("=", 1) for setting in arguments.set)
    return {"epochs": arguments.epochs, "regions": REGIONS, **named}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", type=int, nargs=3, default=[240, 240, 155], help="X, Y and Z of a volume")
    options.add_argument("--cases", type=int, default=6)
    options.add_argument("--epochs", type=int, default=1)
    options.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="more of the training's config")
    options.add_argument("--most-mib", type=float, default=6144.0, help="that a process may need")
    arguments = options.parse_args()
    peaks = Peaks()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        folder = Path(made)
        archive = folder / "brats_like.zip"
        start = time.perf_counter()
        write_zip(archive, arguments.shape, arguments.cases)
        new_case = case_files("BraTS_000", arguments.shape, 0)
        new_case = {name: content for name, content in new_case.items() if not name.endswith("_seg.nii.gz")}
        say(f"  drawn and packed in {time.perf_counter() - start:.1f} s: {archive.stat().st_size / 2**20:.0f} MiB")
        with server(folder / "data") as url, peaks.watching():
            story = Story(url, peaks)
            job_id, report = story.train(story.take_in(archive), config_of(arguments))
            faults = faults_of(story.predict(job_id, new_case), new_case)
    training = report["training"]
    print(f"\n{machine('cpu')}\n\n{phase_table(story.seconds, peaks.mib)}\n\n{dice_table(report)}")
    print(f"\ntraining by its own report: {training['peak_memory_mb']:.0f} MiB, split {report['subject']['split']}")
    faults += [
        f"{who} needed {used:.0f} MiB in the {phase}, {arguments.most_mib:.0f} are allowed"
        for (phase, who), used in peaks.mib.items()
        if used > arguments.most_mib
    ]
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
