"""Large files in and out: downloads that can be resumed, uploads that never sit in memory."""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import IO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from reanimate.standby.errors import ApiError, bad_request
from reanimate.standby.http import Request, Response

__all__ = ["Upload", "download", "receive_upload", "stream_file"]

_CHUNK = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def download(request: Request, path: Path) -> Response:
    """Answer with a file, or the part of it that `Range` asks for, guarded by `If-Range` or `If-Match`.

    Raises:
        FileNotFoundError: it is not there.
    """
    stat = await asyncio.to_thread(path.stat)
    etag = f'"{stat.st_ino:x}:{stat.st_size:x}:{stat.st_mtime_ns // 10**9:x}:{stat.st_mtime_ns % 10**9:x}"'
    modified = formatdate(stat.st_mtime, usegmt=True)
    headers = [
        ("content-disposition", f'attachment; filename="{path.name}"'),
        ("accept-ranges", "bytes"),
        ("etag", etag),
        ("last-modified", modified),
        ("content-type", "application/octet-stream"),
    ]
    if request.headers.get("if-match") not in (None, "*", etag):
        return Response(412)
    condition = request.headers.get("if-range")
    asked = request.headers.get("range") if condition in (None, etag, modified) else None
    wanted = _parse_range(asked, stat.st_size) if asked else None
    if wanted is None:
        headers.append(("content-length", str(stat.st_size)))
        return Response(200, stream_file(path, 0, stat.st_size), headers)
    first, last = wanted
    if first >= stat.st_size:
        return Response(416, b"", [("content-range", f"bytes */{stat.st_size}"), *headers])
    length = last - first + 1
    headers += [
        ("content-encoding", "identity"),
        ("content-range", f"bytes {first}-{last}/{stat.st_size}"),
        ("content-length", str(length)),
    ]
    return Response(206, stream_file(path, first, length), headers)


def _parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte, or nothing when it is no single range, which is then ignored."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or header.strip() == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return (max(size - int(last), 0), size - 1) if int(last) else (size, size)
    end = min(int(last), size - 1) if last else size - 1
    return None if last and int(last) < int(first) else (int(first), end)


async def stream_file(path: Path, offset: int, length: int, *, remove: bool = False) -> AsyncIterator[bytes]:
    """Yield a part of a file. `remove` deletes the file when the stream ends, however it ends."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, offset)
        while length > 0:
            chunk = await asyncio.to_thread(file.read, min(length, _CHUNK))
            if not chunk:
                raise OSError(f"{path.name} became shorter while it was sent")
            length -= len(chunk)
            yield chunk
    finally:
        file.close()
        if remove:
            await asyncio.to_thread(path.unlink, True)


class Upload:
    """The one file of a multipart body, written to disk and hashed while it comes."""

    def __init__(self, path: Path, field: str) -> None:
        self.path = path
        self.file_name: str | None = None
        self.complete = False
        self._wanted = field
        self._hash = hashlib.sha256()
        self._header = (bytearray(), bytearray())
        self._taking = False
        self._out: IO[bytes] | None = None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
            },
        )

    def _on_part_begin(self) -> None:
        self._taking = False
        self._header = (bytearray(), bytearray())

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.lower() != b"content-disposition":
            return
        _, options = parse_options_header(value)
        if options.get(b"name", b"").decode() == self._wanted and self._out is None:
            self.file_name = Path(options.get(b"filename", b"").decode(errors="replace")).name or None
            self._taking = True
            self._out = self.path.open("xb")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._taking and self._out is not None:
            part = data[start:end]
            self._hash.update(part)
            self._out.write(part)

    def _on_part_end(self) -> None:
        if self._taking and self._out is not None:
            self._out.flush()
            os.fsync(self._out.fileno())
            self.complete = True
        self._taking = False

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._out is not None:
            self._out.close()


async def receive_upload(request: Request, path: Path, field: str = "snapshot") -> Upload:
    """Write the named file of a multipart request to `path`, which must not exist.

    Raises:
        ApiError: 400, the body is not multipart or has no such file. `path` is removed then.
        ClientGone: the client went away. `path` is removed.
        OSError: no room.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise bad_request(f"the snapshot must come as multipart/form-data in the field `{field}`")
    upload = Upload(path, field)
    parser = upload.parser(options[b"boundary"])
    try:
        async for chunk in request.chunks():
            parser.write(chunk)
        parser.finalize()
        if not upload.complete:
            raise ApiError(400, f"Multipart deserialize error: Field `{field}` is missing or not complete")
    except MultipartParseError as error:
        upload.discard()
        raise bad_request(f"the multipart body cannot be read: {error}") from None
    except BaseException:
        upload.discard()
        raise
    upload.close()
    return upload
