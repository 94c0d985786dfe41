"""Models in memory, bounded by what they take there; the least recently used one leaves first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is imported with the first prediction, not with the server
    from octa_backend.inference.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, and what it takes there, MiB."""

    predictor: Predictor
    mib: float


class LoadedModels:
    """The models in memory by their ids. Safe to use from several threads; one is loaded at a time.

    Args:
        load: brings a model into memory, ready to answer.
        limit_mib: of all models together. The one that was asked for last stays even where it alone takes more.
    """

    def __init__(self, load: Callable[[str], Loaded], limit_mib: float) -> None:
        self._load = load
        self._limit_mib = limit_mib
        self._models: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def get(self, model_id: str) -> Predictor:
        """The model, loaded where it is not in memory; who asks for another one meanwhile is not kept waiting."""
        found = self._find(model_id)
        if found is None:
            with self._loading:
                found = self._find(model_id) or self._keep(model_id, self._load(model_id))
        return found.predictor

    def reload(self, model_id: str) -> None:
        """Load a model anew where it is in memory; until that is done the old one answers."""
        with self._loading:
            if self._find(model_id) is not None:
                self._keep(model_id, self._load(model_id))

    def forget(self, model_id: str) -> None:
        """Drop a model; fine when it is not in memory."""
        with self._lock:
            self._models.pop(model_id, None)

    def sizes_mib(self) -> list[float]:
        """What each model in memory takes there."""
        with self._lock:
            return [one.mib for one in self._models.values()]

    def _find(self, model_id: str) -> Loaded | None:
        with self._lock:
            if model_id in self._models:
                self._models.move_to_end(model_id)
            return self._models.get(model_id)

    def _keep(self, model_id: str, loaded: Loaded) -> Loaded:
        with self._lock:
            self._models[model_id] = loaded
            self._models.move_to_end(model_id)
            while len(self._models) > 1 and sum(one.mib for one in self._models.values()) > self._limit_mib:
                self._models.popitem(last=False)
        return loaded
