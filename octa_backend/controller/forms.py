"""Multipart forms, streamed: files go to the data folder piece by piece, fields stay in memory within a limit."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from octa_backend.errors import InvalidRequest, UploadTooLarge
from octa_backend.storage.files import Files
from octa_backend.storage.uploads import Upload, UploadWriter

MAX_FIELD_BYTES = 2**20
MAX_FIELDS = 200
_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([^\s;]+)", re.IGNORECASE)


@dataclass(slots=True)
class Form:
    """What came: plain fields, and the files of each file field in order."""

    fields: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, list[Upload]] = field(default_factory=dict)

    @property
    def filled(self) -> dict[str, str]:
        """The fields that somebody filled in; a page's form sends those left open too, empty."""
        return {name: value for name, value in self.fields.items() if value.strip()}

    def only_file(self, name: str) -> Upload:
        """The one file of a field, and of the form.

        Raises:
            InvalidRequest: there is none, or more than one, or one under another name.
        """
        found = self.uploads.get(name, [])
        if len(found) != 1:
            sent = f"{len(found)} files came" if found else "no file came"
            raise InvalidRequest(f"send one file as the form's field {name!r}; {sent}")
        self.refuse_files_but(name, what=f"send one file, as {name!r}")
        return found[0]

    def refuse_files_but(self, *names: str, what: str) -> None:
        """Refuse files under other names; `what` says what to do in their place.

        Raises:
            InvalidRequest: some came.
        """
        if others := sorted(self.uploads.keys() - set(names)):
            raise InvalidRequest(f"files came as the form's field {others[0]!r}; {what}")


class _FormReader:
    """Collects the parts that the parser of python-multipart reports."""

    def __init__(self, boundary: bytes, files: Files, max_bytes: int, lists: Collection[str]) -> None:
        self.form = Form()
        self._lists = lists
        self.writers: list[UploadWriter] = []
        self._files, self._max_bytes, self._received = files, max_bytes, 0
        self._header_name, self._header_value = b"", b""
        self._disposition: dict[bytes, bytes] = {}
        self._value = bytearray()
        self._writer: UploadWriter | None = None
        self._ended = False
        handlers = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end")
        callbacks: Any = {f"on_{name}": getattr(self, name) for name in (*handlers, "headers_finished", "end")}
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the request."""
        self._received += len(piece)
        if self._received > self._max_bytes:
            raise too_large(self._max_bytes)
        self._parser.write(piece)

    def finish(self) -> Form:
        """All bytes have come."""
        self._parser.finalize()
        if not self._ended:
            raise InvalidRequest("the form broke off before its end; send it again")
        return self.form

    def part_begin(self) -> None:
        """Nothing is known of the part yet."""
        self._disposition, self._value, self._writer = {}, bytearray(), None

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._header_name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._header_value += data[start:end]

    def header_end(self) -> None:
        """Keep what the part's content disposition says; no other header counts."""
        if self._header_name.lower() == b"content-disposition":
            self._disposition = _disposition(self._header_value)
        self._header_name, self._header_value = b"", b""

    def headers_finished(self) -> None:
        """Open a file for an upload.

        Raises:
            InvalidRequest: the part has no name.
            UploadTooLarge: there are too many parts.
        """
        if b"name" not in self._disposition:
            raise InvalidRequest("a part of the form has no name")
        if len(self.form.fields) + len(self.writers) >= MAX_FIELDS:
            raise UploadTooLarge(f"a form has at most {MAX_FIELDS} fields")
        if b"filename" in self._disposition:
            self._writer = UploadWriter(self._files, _text(self._disposition[b"filename"]))
            self.writers.append(self._writer)

    def part_data(self, data: bytes, start: int, end: int) -> None:
        """A piece of the part's content.

        Raises:
            UploadTooLarge: a field has more than `MAX_FIELD_BYTES`.
        """
        if self._writer is not None:
            self._writer.write(data[start:end])
        elif len(self._value) + end - start > MAX_FIELD_BYTES:
            raise UploadTooLarge(f"a field of a form has at most {MAX_FIELD_BYTES} bytes")
        else:
            self._value += data[start:end]

    def part_end(self) -> None:
        """Put the part into the form.

        Raises:
            InvalidRequest: a field came twice that is no list.
        """
        name = _text(self._disposition[b"name"])
        if self._writer is not None:
            upload = self._writer.close()
            if upload.name or upload.size_bytes:  # neither: a page's form sends a file input so that was left open
                self.form.uploads.setdefault(name, []).append(upload)
        elif name in self._lists and name in self.form.fields:
            self.form.fields[name] += "," + _text(bytes(self._value))
        elif name in self.form.fields:
            raise InvalidRequest(f"the form's field {name!r} came twice")
        else:
            self.form.fields[name] = _text(bytes(self._value))

    def end(self) -> None:
        """The closing boundary has come."""
        self._ended = True


def _disposition(header: bytes) -> dict[bytes, bytes]:
    """The parameters of a content disposition; the parser leaves out a name of a file in the form of RFC 5987."""
    found: dict[bytes, bytes] = dict(parse_options_header(header)[1])
    extended = _EXTENDED_NAME.search(header)
    if extended is not None:
        found.setdefault(b"filename", unquote_to_bytes(extended[1]))
    return found


def _text(raw: bytes) -> str:
    """UTF-8, or GBK as older Windows clients send it."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("gb18030", "replace")


def too_large(max_bytes: int, limit: str = "the most this server accepts") -> UploadTooLarge:
    """The error of a request over its limit, and what that is."""
    return UploadTooLarge(f"the request is larger than {max_bytes / 2**20:g} MiB, {limit}")


@asynccontextmanager
async def received_form(
    request: Request, files: Files, max_bytes: int, lists: Collection[str] = ()
) -> AsyncIterator[Form]:
    """Receive a multipart form; its files are gone when the block ends, unless somebody moved them away.

    Args:
        request: the form.
        files: where its files go.
        max_bytes: the most that is received.
        lists: plain fields that may come several times; they are joined with commas.

    Raises:
        InvalidRequest: it is not a multipart form, or it is broken.
        UploadTooLarge: it is larger than `max_bytes`; noticed from its header where it has one, else on the way.
        StorageFull: it would fill the disk.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InvalidRequest("send a multipart/form-data form, for example with: curl -F file=@scans.zip")
    if int(request.headers.get("content-length") or 0) > max_bytes:
        raise too_large(max_bytes)
    try:
        reader = _FormReader(options[b"boundary"], files, max_bytes, lists)
    except FormParserError as error:
        raise InvalidRequest(f"the form cannot be read: {error}") from error
    try:
        async for piece in request.stream():
            if piece:
                await run_in_threadpool(reader.feed, piece)
        yield await run_in_threadpool(reader.finish)
    except FormParserError as error:
        raise InvalidRequest(f"the form cannot be read: {error}") from error
    finally:
        for writer in reader.writers:
            writer.discard()
