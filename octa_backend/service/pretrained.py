"""Which weights `pretrained` names: a model of the shelf for every client, a file or folder on this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from octa_backend.errors import InvalidConfig
from octa_backend.service import model_service
from octa_backend.service.model_fit import KINDS, other_kind
from octa_backend.settings import Settings
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Model

if TYPE_CHECKING:  # torch is imported in the worker and on the command line only
    from octa_backend.training.initial_weights import InitialWeights


def require_on_shelf(session: Session, pretrained: str | None, dims: int) -> None:
    """Refuse what is not the id of a model: a client must not have the server read its files.

    Args:
        pretrained: as the client named it.
        dims: of the scans that are to be trained on, 2 or 3.

    Raises:
        InvalidConfig: no model has this id, or it is an ensemble, or of pictures where the scans are volumes or the
            reverse.
    """
    if pretrained is None:
        return
    model = session.get(Model, pretrained)
    if model is None:
        raise InvalidConfig(
            f"pretrained={pretrained!r}: no model has this id; send the model_id of a finished job. Paths of files are "
            "for octa train alone, because a client must not have the server read its files"
        )
    members = [member["model_id"] for member in model.card.get("members") or ()]
    if members:
        raise InvalidConfig(
            f"pretrained={pretrained!r} is an ensemble, which has no weights of its own; name one of its members: "
            f"{', '.join(members)}"
        )
    if differs := other_kind(model.card, dims):
        raise InvalidConfig(f"pretrained={pretrained!r} {differs}; choose a model of {KINDS[dims]}")


def from_shelf(session: Session, files: Files, pretrained: str | None) -> InitialWeights | None:
    """The weights of a model on the shelf.

    Raises:
        ModelNotFound: no model has this id.
    """
    from octa_backend.training.initial_weights import InitialWeights  # noqa: PLC0415 - imports torch

    if pretrained is None:
        return None
    model = model_service.get(session, pretrained)
    return InitialWeights(pretrained, files.model(model.id))


def from_machine(settings: Settings, pretrained: str | None) -> InitialWeights | None:
    """The weights of a file, a folder, or else of a model in the data folder."""
    from octa_backend.training.initial_weights import InitialWeights  # noqa: PLC0415 - imports torch

    if pretrained is None:
        return None
    path, shelf = Path(pretrained), Files.of(settings).model(Path(pretrained).name)
    return InitialWeights(pretrained, shelf if shelf.exists() and not path.exists() else path)
