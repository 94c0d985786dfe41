"""Taking in a model from elsewhere: checked in a folder aside, then on the shelf with its row; or nothing stays."""

from __future__ import annotations

from pathlib import Path

from octa_backend.service.import_wish import ImportWish
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files, disk_full_explained, move, part_name, remove
from octa_backend.storage.tables import Model, new_id
from octa_backend.storage.uploads import Upload


def take_in(database: Database, settings: Settings, upload: Upload, wish: ImportWish) -> Model:
    """Put a package's model, or bare weights, on the shelf; an ensemble with its members.

    Raises:
        InvalidRequest: what was said does not fit the kind of file.
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip is damaged, dangerous or too large.
        InvalidModel, UnknownNetwork: card or weights are not those of a model that can be used.
        StorageFull: the disk is full.
    """
    from octa_backend.service.foreign_model import ModelReader  # noqa: PLC0415 - imports torch

    files, model_id = Files.of(settings), new_id()
    staging = part_name(files.model(model_id))
    shelved: list[Path] = []
    try:
        with disk_full_explained(files):
            files.require_free(upload.size_bytes)
            staging.mkdir(parents=True)
            found = ModelReader(upload, wish, settings, staging, model_id).read()
        with database.writing() as session:
            for one in found:  # one by one: an ensemble is to be newer than its members
                file_id = one.card["dataset"]["file_id"] or None
                model = Model(id=one.model_id, file_id=file_id, card=one.card, **one.said)
                session.add(model)
                session.flush()
                move(staging / one.model_id, files.model(one.model_id))
                shelved.append(files.model(one.model_id))
        return model
    except BaseException:
        for folder in shelved:
            remove(folder)
        raise
    finally:
        remove(staging)
