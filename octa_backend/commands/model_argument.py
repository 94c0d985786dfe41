"""Which model a command's argument means."""

from __future__ import annotations

from pathlib import Path

from octa_backend.errors import ModelNotFound
from octa_backend.settings import Settings
from octa_backend.storage.files import Files


def find_model(settings: Settings, model: str) -> Path:
    """The folder of a model, given as a path or as an id in the data folder.

    Raises:
        ModelNotFound: it is neither.
    """
    for folder in (Path(model), Files.of(settings).model(Path(model).name)):
        if (folder / "card.json").is_file():
            return folder
    raise ModelNotFound(f"{model!r} is neither a model's folder nor the id of a model in {settings.data_dir}")
