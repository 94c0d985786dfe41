"""The headers of answers, as the OpenAPI document names them: each for the `headers` of a response."""

from __future__ import annotations

from typing import Any


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {name: {"description": description, "schema": {"type": "string"}, "example": example}}


LOCATION = _header("Location", "Where to ask for what was made or begun.", "/train/progress/9f86d081884c7d65")
ETAG = _header("ETag", "Changes with the answer; for `If-None-Match`.", '"2c26b46b68ffc68ff99b"')
EARLIER = _header(
    "Link", 'What stands before, as `rel="prev"`; left out at the beginning.', '<?before=512>; rel="prev"'
)
FILE_NAME = _header("Content-Disposition", "The name to save the file under.", 'attachment; filename="model.zip"')
RETRY_AFTER = _header("Retry-After", "In how many seconds to ask again.", "1")
CHALLENGE = _header("WWW-Authenticate", "How to send a key.", "Bearer")
