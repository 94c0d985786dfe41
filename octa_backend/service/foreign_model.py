"""A model that came from elsewhere, as a package or as bare weights: checked, and written as a model's folder.

Exported graphs in a package are never looked at: they are made anew from the weights when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from octa_backend.data.archive import Archive
from octa_backend.errors import InvalidModel, OctaError
from octa_backend.inference.foreign_weights import network_with, network_with_pickled
from octa_backend.inference.model_card import MAX_CARD_BYTES, CardImport, ModelCard, parse_card
from octa_backend.inference.model_folder import CARD_FILE, WEIGHTS_FILE
from octa_backend.models import registry
from octa_backend.service import model_service
from octa_backend.service.import_wish import ImportWish
from octa_backend.service.model_package import MEMBERS_FOLDER
from octa_backend.settings import Settings
from octa_backend.storage.files import remove
from octa_backend.storage.uploads import Upload
from octa_backend.training.checkpoint import save_weights
from octa_backend.training.config import TrainConfig
from octa_backend.training.plan import Plan
from octa_backend.training.plan_draft import Reason

SAID = ("name", "notes", "licence")
"""Fields of a card that become columns, because they can be changed."""

SHARED = ("network", "channels", "classes", "ignore_index", "normalisation", "region_order")
"""Fields in which an ensemble's members agree."""


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """What is kept of one model: its folder's name, its card, and what was said of it."""

    model_id: str
    card: dict[str, Any]
    said: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ModelReader:
    """Reads an upload and writes the folders of the models in it.

    Attributes:
        upload: the file that came.
        wish: what was said with it.
        settings: limits.
        staging: an empty folder; it gets a folder for each model, with the name that it is to have.
        model_id: of the model; members of an ensemble get ids that begin with it.
    """

    upload: Upload
    wish: ImportWish
    settings: Settings
    staging: Path
    model_id: str

    def read(self) -> list[ForeignModel]:
        """The models; of an ensemble, its members first.

        Raises:
            InvalidRequest: what was said does not fit the kind of file.
            InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip is damaged, dangerous or too large.
            InvalidModel, UnknownNetwork: card or weights are not those of a model that can be used.
        """
        if self.wish.is_package(self.upload.name):
            return self._package()
        return [self._bare()]

    def _bare(self) -> ForeignModel:
        form = self.wish.form()
        arguments = (self.upload.path, self.upload.name, form.network, form.channels, form.classes)
        if self.upload.name.lower().endswith(".safetensors"):
            network = network_with(*arguments)
        else:
            files, most = self.settings.max_files, self._most_bytes
            network = network_with_pickled(*arguments, max_files=files, max_unpacked_bytes=most)
        card = ModelCard(
            network=form.network,
            channels=form.channels,
            classes=form.classes,
            ignore_index=form.ignore_index,
            normalisation=form.normalisation,
        )
        return self._keep(self.model_id, self._checked(card, self.upload.name), network)

    def _package(self) -> list[ForeignModel]:
        with Archive(
            self.upload.path,
            max_files=self.settings.max_files,
            max_unpacked_bytes=self._most_bytes,
            max_ratio=self.settings.max_compression_ratio,
            wanted=f"what GET /models/MODEL/download answers ({CARD_FILE}, {WEIGHTS_FILE})",
        ) as archive:
            card = self._checked(self._card(archive, CARD_FILE), CARD_FILE)
            if card.members is None:
                return [self._keep(self.model_id, card, self._network(archive, card, WEIGHTS_FILE))]
            return list(self._ensemble(archive, card))

    def _ensemble(self, archive: Archive, card: ModelCard) -> Iterator[ForeignModel]:
        """The members one after the other, then what holds them together."""
        members = []
        for number, member in enumerate(card.members or (), start=1):
            inside, new_id = f"{MEMBERS_FOLDER}/{member.model_id}", f"{self.model_id}-m{number}"
            own = self._checked(self._card(archive, f"{inside}/{CARD_FILE}"), f"{inside}/{CARD_FILE}")
            other = [field for field in SHARED if getattr(own, field) != getattr(card, field)]
            if other or own.members is not None:
                differ = ", ".join(other) or "members"
                raise InvalidModel(f"{inside}/{CARD_FILE} and the ensemble's card differ in {differ}")
            yield self._keep(new_id, own, self._network(archive, own, f"{inside}/{WEIGHTS_FILE}"))
            members.append(member.model_copy(update={"model_id": new_id, "folder": new_id}))
        yield self._keep(self.model_id, card.model_copy(update={"members": members}), None)

    def _card(self, archive: Archive, name: str) -> ModelCard:
        self._require(archive, name)
        size = archive.members[name].size
        if size > MAX_CARD_BYTES:
            raise InvalidModel(f"{name} has {size:,} bytes, {MAX_CARD_BYTES:,} are allowed")
        return parse_card(b"".join(archive.pieces(name)), name)

    def _network(self, archive: Archive, card: ModelCard, name: str) -> nn.Module:
        self._require(archive, name)
        path = self.staging / "incoming"
        try:
            with path.open("wb") as file:
                for piece in archive.pieces(name):
                    file.write(piece)
            of_regions = bool(card.region_order)
            return network_with(path, name, card.network, card.channels, card.classes, of_regions=of_regions)
        finally:
            remove(path)

    def _require(self, archive: Archive, name: str) -> None:
        if name not in archive.members:
            held = ", ".join(list(archive.members)[:5])
            raise InvalidModel(
                f"{name} is not in {self.upload.name}, which holds {held}; send what GET /models/MODEL/download answers"
            )

    @property
    def _most_bytes(self) -> int:
        return self.settings.max_unpacked_mib * 2**20

    def _checked(self, card: ModelCard, file: str) -> ModelCard:
        """The card with a plan, whose parts fit each other.

        Raises:
            InvalidModel: they do not.
            UnknownNetwork: no network has its network's name.
        """
        registry.check_form(card.network)
        named = card.classes + (card.ignore_index is not None)
        if card.ignore_index is not None and card.ignore_index >= named:
            raise InvalidModel(f"{file}: ignore_index={card.ignore_index} is no class of a dataset with {named}")
        if card.labels and len(card.labels) != named:
            raise InvalidModel(f"{file} has {len(card.labels)} labels for {named} classes")
        if not card.plan and card.region_order:
            raise InvalidModel(f"{file} has a region_order but no plan that names the regions; send both or neither")
        if not card.plan:
            return card.model_copy(update={"plan": _plan_for(card).model_dump(mode="json")})
        plan = _plan_of(card, file)
        config = plan.config
        numbers = (plan.channels, plan.classes, config.ignore_index)
        says = (config.model, *numbers, config.normalisation, list(plan.region_order))
        if says != (of_card := tuple(getattr(card, field) for field in SHARED)) or len(plan.patch_shape) != 2:
            raise InvalidModel(f"{file}: the plan is of {says}, the card of {of_card}")
        return card

    def _keep(self, model_id: str, card: ModelCard, network: nn.Module | None) -> ForeignModel:
        """Write a folder as it is on the shelf; the weights are written anew, nothing is copied."""
        folder = self.staging / model_id
        folder.mkdir()
        if network is not None:
            save_weights(network, folder / WEIGHTS_FILE)
        is_whole = model_id == self.model_id
        said = {field: (getattr(self.wish, field) if is_whole else None) or getattr(card, field) for field in SAID}
        origin = CardImport(
            file=self.upload.name[:1000],
            sha256=self.upload.sha256,
            model_id=card.model_id,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        dropped = {*SAID, *(() if card.members else ("members",))}
        kept = card.model_copy(update={"model_id": model_id, "imported": origin})
        content = kept.model_dump(mode="json", exclude=dropped)
        model_service.write_card(folder, content)
        return ForeignModel(model_id, content, said)


def _plan_of(card: ModelCard, file: str) -> Plan:
    try:
        plan = Plan.model_validate(card.plan)
        return plan.checked() if plan.config.target == "regions" else plan
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidModel(
            f"the plan in {file} is not one of this version: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        ) from error
    except OctaError as error:
        raise InvalidModel(f"the plan in {file} is not one of this version: {error.message}") from error


def _plan_for(card: ModelCard) -> Plan:
    """What it takes to compute with bare weights; how they were trained is not known."""
    config = TrainConfig(
        model=card.network,
        normalisation=card.normalisation,
        ignore_index=card.ignore_index,
        precision="fp32",
        batch_size=1,
        epochs=1,
    )
    return Plan(
        config=config,
        device="cpu",
        channels_last=False,
        channels=card.channels,
        classes=card.classes,
        patch_shape=(256, 256),
        patches_per_scan=1,
        reasons=(Reason(field="model", value=card.network, reason="said by whoever imported the weights"),),
    )
