"""`octa predict` with a model of volumes: masks of cases on disk, and how many ml each class has."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from octa_backend.data.archive import PREDICTED_WANTED
from octa_backend.data.intake import opened_source
from octa_backend.data.survey import opened
from octa_backend.data.volume_case import Case, Channels, Opened, cases_among, find_cases
from octa_backend.errors import InvalidOptions
from octa_backend.inference.ensemble import Together
from octa_backend.service.dataset_service import limits
from octa_backend.service.predict_service import ImageFile, PredictOptions
from octa_backend.service.volume_evaluation import compared
from octa_backend.service.volume_options import refuse_options_of_pictures
from octa_backend.service.volume_segmenting import (
    classes_found,
    confidence_file,
    mask_file,
    probability_file,
    segment_case,
    volume_predictors,
)
from octa_backend.settings import Settings
from octa_backend.storage.files import write_aside
from octa_backend.storage.outputs import output_folder, spare_neighbours
from octa_backend.training.html_parts import shown

VOLUMES_FILE, EVALUATION_FILE = "volumes.csv", "evaluation.csv"


@dataclass(frozen=True, slots=True)
class FoundCase:
    """A case, how its files are opened, and where they lie; nowhere in a zip."""

    case: Case
    opened: Opened
    files: tuple[Path, ...] = ()


@dataclass(slots=True)
class Tables:
    """The rows of both tables so far."""

    volumes: list[Mapping[str, Any]] = field(default_factory=list)
    evaluations: list[Mapping[str, Any]] = field(default_factory=list)


def predict_volumes(
    console: Console,
    settings: Settings,
    models: Together,
    paths: Sequence[Path],
    masks: Sequence[Path],
    out: Path,
    options: PredictOptions,
) -> None:
    """Segment each case and write its mask as NAME.nii.gz; write the classes' volumes of all into one table.

    Args:
        console: is told of each case.
        settings: how large a volume may be.
        models: of volumes.
        paths: files, of which several may be one case, and folders and zips of cases.
        masks: the known mask of each case in the order of their names, or none.
        out: gets the masks and the tables.
        options: how.

    Raises:
        InvalidOptions: masks are given, but not one for each case; or two cases have one name.
        OctaError: nothing can be written into `out`, or it would replace files beside the cases or the masks.
        Others as `volume_segmenting.segment_case`, and of folders and zips.
    """
    refuse_options_of_pictures(options)
    channels = next(iter(volume_predictors(models).values())).modalities
    tables = Tables()
    with ExitStack() as stack:
        cases = list(_cases(paths, channels, settings, stack))
        _check_names([one.case.name for one in cases])
        if masks and len(masks) != len(cases):
            raise InvalidOptions(
                f"{len(masks)} masks for {len(cases)} cases; give a --mask for each case, in the order of their names"
            )
        given = [file for one in cases for file in one.files]
        spare_neighbours(_targets(out, cases, options, evaluated=bool(masks)), [*given, *masks])
        output_folder(out)
        for at, one in enumerate(track(cases, "predicting", console=console)):
            known = ImageFile(masks[at], masks[at].name) if masks else None
            for line in _predict(models, one, known, out, options, settings, tables):
                console.print(line, markup=False)
    _write(out / VOLUMES_FILE, tables.volumes)
    console.print(f"masks and {VOLUMES_FILE} are in {out}", markup=False)
    if masks:
        _write(out / EVALUATION_FILE, tables.evaluations)
        console.print(f"evaluations are in {out / EVALUATION_FILE}", markup=False)


def _targets(out: Path, cases: Sequence[FoundCase], options: PredictOptions, *, evaluated: bool) -> Iterator[Path]:
    """The files that are going to be written."""
    wanted = {"": True, "_probability": options.with_probability, "_confidence": options.with_confidence}
    for one in cases:
        yield from (out / f"{one.case.name}{kind}.nii.gz" for kind, is_wanted in wanted.items() if is_wanted)
    yield out / VOLUMES_FILE
    if evaluated:
        yield out / EVALUATION_FILE


def _predict(
    models: Together,
    one: FoundCase,
    known: ImageFile | None,
    out: Path,
    options: PredictOptions,
    settings: Settings,
    tables: Tables,
) -> list[str]:
    """Write one case's files, note its rows; what is said of it."""
    name, most = one.case.name, settings.max_scan_voxels
    segmented = segment_case(models, one.case, one.opened, options, most)
    evaluation = compared(models, segmented, known, most) if known else None
    write_aside(out / f"{name}.nii.gz", mask_file(models, segmented))
    if (probability := probability_file(segmented)) is not None:
        write_aside(out / f"{name}_probability.nii.gz", probability)
    if (confidence := confidence_file(segmented)) is not None:
        write_aside(out / f"{name}_confidence.nii.gz", confidence)
    found = classes_found(models, segmented)
    tables.volumes += [
        {"case": name, **{column: row[column] for column in ("class", "value", "name", "voxels", "ml")}}
        for row in found
    ]
    line = f"{name}: {segmented.found.seconds:.2f} s, " + ", ".join(_told(row) for row in found)
    if evaluation is not None and known is not None:
        tables.evaluations += [{"case": name, "mask": known.name, **row} for row in evaluation["classes"]]
        line += f"; Dice {shown('dice', evaluation['mean']['dice'])} with {known.name}"
    return [line, *(f"  {warning['message']}" for warning in segmented.warnings)]


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['name']} {row['voxels']} voxels" if row["ml"] is None else f"{row['name']} {row['ml']:.3f} ml"


def _cases(paths: Sequence[Path], channels: Channels, settings: Settings, stack: ExitStack) -> Iterator[FoundCase]:
    """The cases of plain files, then of each folder and zip."""
    several = [path for path in paths if path.is_dir() or path.suffix.lower() == ".zip"]
    plain = [path.as_posix() for path in paths if path not in several]
    for case in find_cases(plain, channels):
        yield FoundCase(case, Path, tuple(map(Path, case.files)))
    for path in several:
        source = opened_source(path, limits(settings), PREDICTED_WANTED)
        stack.enter_context(source)
        for case in cases_among(source, channels, str(path)):
            files = tuple(path / file for file in case.files) if path.is_dir() else ()
            yield FoundCase(case, partial(opened, source, max_pixels=settings.max_scan_voxels), files)


def _check_names(names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(name.casefold() for name in names).items() if times > 1]
    if twice:
        raise InvalidOptions(f"several cases are called {twice[0]}; predict them into different folders")


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
