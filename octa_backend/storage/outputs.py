"""Where a user wants results: refused in words, before anything is computed, where nothing can be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from octa_backend.errors import OctaError


def output_folder(path: Path) -> Path:
    """Make a folder that a user named, with those around it.

    Raises:
        OctaError: it cannot be made, or nothing can be written into it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (FileExistsError, NotADirectoryError) as error:
        file = next((one for one in (path, *path.parents) if one.exists()), path)
        raise OctaError(f"{path} cannot be a folder for results: {file} is a file; name another folder") from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise OctaError(f"{path} cannot be written to: {why}; name another folder") from error


def output_file(path: Path) -> Path:
    """Make the folder of a file that a user named.

    Raises:
        OctaError: see `output_folder`; or the path is one of a folder.
    """
    if path.is_dir():
        raise OctaError(f"{path} is a folder; name a file to write")
    output_folder(path.parent)
    return path
