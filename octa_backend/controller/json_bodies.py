"""Bodies that are held in memory: who asks is checked before one is read, and none is read beyond a limit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from octa_backend.controller.context import identify
from octa_backend.controller.forms import too_large

MAX_BODY_BYTES = 2**20


class JsonRoute(APIRoute):
    """A route with a JSON body. FastAPI reads a body before it asks for the key, whatever its size."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Check the key and the size first."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if self.body_field is not None:
                identify(request)
                await small_body(request)
            return await answer(request)

        return handle


async def small_body(request: Request) -> bytes:
    """The body of a request, which keeps it for whoever asks for it next.

    Raises:
        UploadTooLarge: it is larger than `MAX_BODY_BYTES`.
    """
    limit, body = "the most for a body that is no file", bytearray()
    if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES:
        raise too_large(MAX_BODY_BYTES, limit)
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise too_large(MAX_BODY_BYTES, limit)
    request._body = bytes(body)
    return request._body
