"""Which models answer at the moment, so that none of them is deleted meanwhile."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from octa_backend.errors import ModelInUse
from octa_backend.storage.tables import Model


class ModelsInUse:
    """Counts who uses which model. Safe to use from several threads."""

    def __init__(self) -> None:
        self._users: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def using(self, model_id: str, what: str) -> Iterator[None]:
        """The model is needed for as long as the block lasts; `what` needs it is named to who would delete it."""
        with self._lock:
            self._users[model_id, what] += 1
        try:
            yield
        finally:
            with self._lock:
                self._users[model_id, what] -= 1
                self._users += Counter()  # drops what is at 0

    def require_idle(self, model_id: str) -> None:
        """Refuse to touch a model that is in use.

        Raises:
            ModelInUse: it is.
        """
        with self._lock:
            found = next((what for used, what in self._users if used == model_id), None)
        if found is not None:
            raise ModelInUse(f"model {model_id} is at work for {found}; wait until that is done")


class _Serving(Protocol):
    @property
    def in_use(self) -> ModelsInUse: ...


Service = TypeVar("Service", bound=_Serving)
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def for_a_prediction(
    method: Callable[Concatenate[Service, Model, Given], Answer],
) -> Callable[Concatenate[Service, Model, Given], Answer]:
    """Have a method that answers with a model count as its user."""

    @wraps(method)
    def counted(service: Service, model: Model, /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        with service.in_use.using(model.id, "a prediction"):
            return method(service, model, *args, **kwargs)

    return counted
