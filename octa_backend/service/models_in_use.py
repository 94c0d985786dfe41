"""Which models answer at the moment, so that none of them is deleted meanwhile."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from octa_backend.errors import ModelInUse


class ModelsInUse:
    """Counts who uses which model. Safe to use from several threads."""

    def __init__(self) -> None:
        self._users: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def using(self, model_ids: Iterable[str], what: str) -> Iterator[None]:
        """The models are needed for as long as the block lasts; `what` needs them is named to who would delete one."""
        users = Counter((model_id, what) for model_id in model_ids)
        with self._lock:
            self._users += users
        try:
            yield
        finally:
            with self._lock:
                self._users -= users  # drops what is at 0

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
    def in_use(self) -> ModelsInUse:
        """Which models are at work, and for what."""


Service = TypeVar("Service", bound=_Serving)
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def for_a_prediction(
    method: Callable[Concatenate[Service, Sequence[str], Given], Answer],
) -> Callable[Concatenate[Service, Sequence[str], Given], Answer]:
    """Have a method that answers with models count as their user."""

    @wraps(method)
    def counted(service: Service, model_ids: Sequence[str], /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        with service.in_use.using(model_ids, "a prediction"):
            return method(service, model_ids, *args, **kwargs)

    return counted
