"""`octa import`: a model from elsewhere, put on the shelf of the data folder."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rich.console import Console

from octa_backend.errors import UploadTooLarge
from octa_backend.service.import_wish import ImportWish
from octa_backend.service.model_import import take_in
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files
from octa_backend.storage.uploads import measured_upload


def import_model(console: Console, settings: Settings, file: Path, wish: ImportWish) -> None:
    """Check a package or bare weights and put them on the shelf; a server of the data folder may run.

    Raises:
        UploadTooLarge: the file is larger than the settings allow.
        OctaError: as `model_import.take_in`.
    """
    size, limit = file.stat().st_size, settings.max_model_mib * 2**20
    if size > limit:
        raise UploadTooLarge(f"{file} has {size / 2**20:.1f} MiB, {settings.max_model_mib} are allowed")
    Files.of(settings).models.mkdir(parents=True, exist_ok=True)
    with closing(Database(settings.effective_database_url)) as database:
        database.migrate()
        with console.status("checking the model"):
            model = take_in(database, settings, measured_upload(file, file.name), wish)
    console.print(f"{file.name} is model {model.id}", markup=False, soft_wrap=True)
