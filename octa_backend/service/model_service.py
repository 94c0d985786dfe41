"""The models: published checkpoints with their cards."""

from __future__ import annotations

import filecmp
import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from octa_backend.errors import InvalidRequest, JobNotFound, ModelInUse, ModelNotFound, NoModelYet
from octa_backend.inference.export_record import EXPORTS_FOLDER
from octa_backend.inference.model_folder import CARD_FILE, WEIGHTS_FILE, read_card
from octa_backend.service.fold_service import UNFINISHED, folds_of
from octa_backend.storage.files import GONE_FILE, discard, folder_written_aside, sync_folder_files, write_aside
from octa_backend.storage.tables import Job, Model

RECORDED_PACKAGES = ("octa-backend", "torch", "torchvision", "numpy", "scipy", "monai", "pillow")


def folder_for(folder: Path, weights: Path) -> Path:
    """Where weights are published: `folder`, or `folder-2`, … where others are published or not quite gone.

    What is published stays as it is under its name: somebody may use it, or have exported it.
    """
    found, number = folder, 1
    while _is_taken(found, weights):
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found


def _is_taken(folder: Path, weights: Path) -> bool:
    if (folder / GONE_FILE).exists():
        return True
    published = folder / WEIGHTS_FILE
    return published.exists() and not filecmp.cmp(published, weights, shallow=False)


def write_model(folder: Path, weights: Path | None, card: dict[str, Any]) -> None:
    """Write a model's folder aside and rename it. An ensemble has no weights.

    Of a folder that is whole already the weights stay, and so does a card with results; one without, as a training that
    is stopped leaves it, becomes this one. Where the card does not say with which versions the model was made, it is
    these.
    """
    if (folder / CARD_FILE).exists():
        _complete_card(folder, card)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_written_aside(folder) as aside:
        if weights is not None:
            shutil.copyfile(weights, aside / WEIGHTS_FILE)
        write_card(aside, {"versions": versions(), **card})


def _complete_card(folder: Path, card: dict[str, Any]) -> None:
    if _has_results(read_card(folder)):
        return
    write_aside(folder / CARD_FILE, _json({"versions": versions(), **card}))
    for archive in (folder / EXPORTS_FOLDER).glob("*.zip"):
        discard(archive)  # it holds the card as it was


def _has_results(card: Mapping[str, Any]) -> bool:
    return bool(card.get("test") or card.get("tuned_threshold"))


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write the card of a model into its new folder, as the last of its files, and have the disk keep all of them."""
    (folder / CARD_FILE).write_bytes(_json(card))
    sync_folder_files(folder)


def _json(card: dict[str, Any]) -> bytes:
    return json.dumps(card, ensure_ascii=False, indent=1).encode()


def versions() -> dict[str, str | None]:
    """What the model was made with."""
    found: dict[str, str | None] = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    return {**found, "python": platform.python_version(), "git_revision": git_revision()}


def git_revision() -> str | None:
    """The revision of this program where it runs from a git checkout, else None."""
    git = shutil.which("git")
    root = Path(__file__).parents[2]
    if git is None or not (root / ".git").exists():
        return None
    answer = subprocess.run(  # noqa: S603 - fixed arguments
        [git, "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def register(session: Session, model_id: str, job: Job, card: dict[str, Any]) -> Model:
    """Note a written model, once; a card without results gives way to this one, as on disk."""
    model = session.get(Model, model_id)
    if model is None:
        model = Model(id=model_id, job_id=job.id, file_id=job.file_id, card=card)
        session.add(model)
    elif not _has_results(model.card):
        model.card = card
    session.flush()
    return model


def find(session: Session, model_id: str | None, job_id: str | None) -> Model:
    """The model with this id, or of this job, or the default one: the chosen one, else the newest.

    Raises:
        InvalidRequest: both are given.
        ModelNotFound: no model has this id.
        JobNotFound: no job has this id.
        NoModelYet: the job has published none, or there is none at all.
    """
    if model_id is not None and job_id is not None:
        raise InvalidRequest(f"model_id={model_id} and job_id={job_id} were both sent; leave one of them out")
    if model_id is not None:
        return get(session, model_id)
    if job_id is None and (chosen := chosen_default(session)) is not None:
        return chosen
    newest = select(Model).order_by(Model.created_at.desc(), Model.id).limit(1)
    if job_id is not None:
        newest = newest.where(Model.job_id == job_id)
    model = session.scalars(newest).one_or_none()
    if model is None and job_id is None:
        raise NoModelYet("no model has been trained yet; start a training with POST /train/start-with-file")
    if model is None:
        job = session.get(Job, job_id)
        if job is None:
            raise JobNotFound(f"no job has the id {job_id!r}")
        raise NoModelYet(f"job {job_id} is {job.state} and has published no model")
    return model


def chosen_default(session: Session) -> Model | None:
    """The model that was chosen as the default, if one was."""
    return session.scalars(select(Model).where(Model.chosen_at.is_not(None))).one_or_none()


def get(session: Session, model_id: str) -> Model:
    """The model with this id.

    Raises:
        ModelNotFound: there is none.
    """
    model = session.get(Model, model_id)
    if model is None:
        raise ModelNotFound(f"no model has the id {model_id!r}")
    return model


def newest(session: Session, count: int) -> list[str]:
    """Ids of the models that were published last, the newest first."""
    return list(session.scalars(select(Model.id).order_by(Model.created_at.desc(), Model.id).limit(count)))


def forget(session: Session, model_id: str) -> None:
    """Take a model off the shelf; its job has none any more, and where it was the default, none is chosen.

    Raises:
        ModelNotFound: no model has this id.
        ModelInUse: an ensemble needs it, or a job that waits or runs: as what it begins with, or as one of its folds.
    """
    model = get(session, model_id)
    _require_unneeded(session, model_id)
    session.execute(update(Job).where(Job.model_id == model_id).values(model_id=None, version=Job.version + 1))
    session.delete(model)
    session.flush()


def _require_unneeded(session: Session, model_id: str) -> None:
    for other in session.scalars(select(Model).where(Model.id != model_id)):
        if any(member["model_id"] == model_id for member in other.card.get("members") or ()):
            raise ModelInUse(f"model {model_id} is a member of ensemble {other.id}; delete that one first")
    at_work = select(Job).where(Job.state.in_(UNFINISHED))
    for job in session.scalars(at_work):
        if job.config.get("pretrained") == model_id:
            raise ModelInUse(f"job {job.id} is {job.state} and begins with the weights of {model_id}; cancel it first")
        if any(fold.model_id == model_id for fold in folds_of(session, job.id)):
            raise ModelInUse(
                f"cross-validation {job.id} is {job.state} and needs {model_id}, the model of one of its folds, "
                "for its ensemble; cancel it first"
            )
