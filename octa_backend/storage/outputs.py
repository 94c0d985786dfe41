"""Where a user wants results: refused in words, before anything is computed, where nothing can be written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from octa_backend.errors import OctaError
from octa_backend.storage.files import part_name, remove


def output_folder(path: Path) -> Path:
    """Make a folder that a user named, with those around it.

    Raises:
        OctaError: it cannot be made, or nothing can be written into it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = part_name(path / "probe")  # not `tempfile`: on Windows it takes a refusal for a name that is taken
        probe.touch(exist_ok=False)
        remove(probe)
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


def keep_apart(written: Path | None, kept: Path | None, what: str) -> None:
    """See that what is to be written is not what was given, or what is written besides; `what` says that in words.

    Raises:
        OctaError: both are one file.
    """
    if written is not None and kept is not None and written.resolve() == kept.resolve():
        raise OctaError(f"{written} is {what}; name another file")


def spare_neighbours(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """See that results in a folder of the user's own files replace none of them; elsewhere they replace older ones.

    Args:
        targets: what is to be written.
        inputs: files of the user: folders that hold one are the user's.

    Raises:
        OctaError: a target is there already, in such a folder.
    """
    own = {path.resolve().parent for path in inputs}
    taken = [path for path in targets if path.exists() and path.resolve().parent in own]
    if taken:
        more = f" (and {len(taken) - 1} more)" if len(taken) > 1 else ""
        raise OctaError(
            f"{taken[0]} is there already{more}, in a folder of your scans or masks, and would be replaced; "
            "name another folder for results"
        )
