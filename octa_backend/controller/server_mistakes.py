"""What nobody expected: logged, and answered as a problem document that pages of other origins can read, too."""

from __future__ import annotations

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octa_backend.controller.problems import mistake

_log = logging.getLogger(__name__)


class ServerMistakes:
    """Answers errors that no handler knows. It stands inside CORS, where Starlette's own handler of them does not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; an error after the answer has begun goes on, so that the connection is closed.

        A client that breaks off its upload is nobody's mistake, and there is none to answer.
        """
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            _log.info("a client went away before its request had come to its end: %s", scope["path"])
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            _log.error("a request failed", exc_info=error)
            await mistake()(scope, receive, send)
