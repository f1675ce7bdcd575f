"""One shard copy: a process that owns one engine shard and answers requests on the socket it was given.

The engine holds the interpreter while it works and aborts the process on some damaged data, so each shard lives alone.
A request and an answer are four bytes of length and that much JSON. `python -m reanimate.standby.shard FD`.
"""

from __future__ import annotations  # the engine's stubs name types that do not exist when it runs

import ctypes
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import qdrant_edge as edge

from reanimate.standby import answers
from reanimate.standby.engine_config import edge_config
from reanimate.standby.errors import ApiError, internal, not_found, wrong_input
from reanimate.standby.filters import build_filter, point_id
from reanimate.standby.queries import build_order_by, build_query_request, payload_selector, vector_selector
from reanimate.standby.updates import build_update
from reanimate.standby.wal import ensure_log

__all__ = ["Shard", "main"]

Json = dict[str, Any]

_LENGTH = struct.Struct("<I")
_FLUSH_EVERY_S = 5.0
_PR_SET_PDEATHSIG = 1
_NO_POINT = re.compile(r"No point with id (\S+)")
_ENGINE_TROUBLE = re.compile(r"\bIO\b|I/O|[Ss]ervice (?:internal|runtime)|corrupt|RocksDB|mmap|panic|out of memory")


class Shard:
    """The engine's shard and the requests it answers; every public method named in `OPERATIONS` is one."""

    def __init__(self) -> None:
        self._opened: edge.EdgeShard | None = None
        self._unflushed_since: float | None = None

    @property
    def engine(self) -> edge.EdgeShard:
        if self._opened is None:
            raise internal("the shard has not been opened")
        return self._opened

    def create(self, path: str, config: Json) -> Json:
        """Make an empty shard in a directory that holds none."""
        self._opened = edge.EdgeShard.create(path, edge_config(config))
        self._opened.flush()
        return self.info()

    def load(self, path: str, config: Json) -> Json:
        """Open the shard in `path`. What was logged and not applied when the last process died is applied now."""
        ensure_log(Path(path))
        self._opened = edge.EdgeShard.load(path, edge_config(config))
        return self.info()

    def info(self) -> Json:
        return {**answers.info(self.engine), "version": self._version()}

    def manifest(self) -> Json:
        """Say every file of every segment with the number of the operation that changed it last."""
        return dict(self.engine.snapshot_manifest())

    def _version(self) -> int:
        """The number of the newest operation that is in the segments."""
        manifest = self.engine.snapshot_manifest()
        return max((one.get("segment_version") or 0 for one in manifest.values()), default=0)

    def probe(self) -> Json:
        """Read what a client would read; a shard that fails here must not be served."""
        count = self.engine.count(edge.CountRequest(exact=True))
        found, _ = self.engine.scroll(edge.ScrollRequest(limit=1, with_payload=True, with_vector=True))
        if count and not found:
            raise internal(f"the shard counts {count} points and returns none")
        if found:
            self.engine.retrieve([found[0].id], True, True)
        return {"count": count}

    def query(self, requests: list[Json]) -> list[list[Json]]:
        batch = edge.QueryBatchRequest([build_query_request(one) for one in requests])
        found = self.engine.query_batch(batch)
        return [
            [answers.hit(point, with_vector=bool(request.get("with_vector"))) for point in points]
            for request, points in zip(requests, found, strict=True)
        ]

    def scroll(self, request: Json) -> Json:
        offset, order_by = request.get("offset"), request.get("order_by")
        found, following = self.engine.scroll(
            edge.ScrollRequest(
                offset=point_id(offset) if offset is not None else None,
                limit=request["limit"],
                filter=build_filter(request.get("filter")),
                with_payload=payload_selector(request.get("with_payload"), default=True),
                with_vector=vector_selector(request.get("with_vector")),
                order_by=build_order_by(order_by) if order_by is not None else None,
            )
        )
        return {
            "points": [answers.record(point) for point in found],
            "next_page_offset": None if following is None else answers.plain_id(following),
        }

    def retrieve(self, ids: list[Any], with_payload: Any = None, with_vector: Any = None) -> list[Json]:
        wanted: list[int | UUID | str] = [point_id(one) for one in ids]
        found = self.engine.retrieve(wanted, payload_selector(with_payload), vector_selector(with_vector))
        return [answers.record(point) for point in found]

    def count(self, selected: Json | None = None, exact: bool = True) -> int:
        return int(self.engine.count(edge.CountRequest(exact=exact, filter=build_filter(selected))))

    def facet(self, key: str, limit: int, exact: bool, selected: Json | None = None) -> list[Json]:
        found = self.engine.facet(edge.FacetRequest(key, limit, exact, build_filter(selected)))
        return [{"value": one.value, "count": one.count} for one in found.hits]

    def update(self, operations: list[Json]) -> None:
        """Apply the operations in order. When this returns they are in the write-ahead log, safe from a kill."""
        built = [build_update(one) for one in operations]
        if self._unflushed_since is None:
            self._unflushed_since = time.monotonic()
        for one in built:
            self.engine.update(one)

    def flush(self) -> int:
        """Write everything to the segments, so that the files alone, without the log, hold all points.

        Returns the number of the newest operation in them.
        """
        self.engine.flush()
        self._unflushed_since = None
        return self._version()

    def flush_when_due(self) -> None:
        since = self._unflushed_since
        if since is not None and time.monotonic() - since >= _FLUSH_EVERY_S:
            self.flush()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


OPERATIONS: dict[str, Callable[..., Any]] = {
    "create": Shard.create,
    "load": Shard.load,
    "info": Shard.info,
    "manifest": Shard.manifest,
    "probe": Shard.probe,
    "query": Shard.query,
    "scroll": Shard.scroll,
    "retrieve": Shard.retrieve,
    "count": Shard.count,
    "facet": Shard.facet,
    "update": Shard.update,
    "flush": Shard.flush,
    "close": Shard.close,
}


def as_api_error(error: Exception) -> ApiError:
    """Say an engine's error as a server would: the engine raises plain `Exception` with the same words."""
    text = str(error)
    if missing := _NO_POINT.search(text):
        return not_found(f"No point with id {missing[1]} found")
    if _ENGINE_TROUBLE.search(text) or isinstance(error, (OSError, MemoryError)):
        return internal(text)
    return wrong_input(text)


def _answer(shard: Shard, request: bytes) -> bytes:
    try:
        message = orjson.loads(request)
        operation = OPERATIONS[message.pop("op")]
        return orjson.dumps({"ok": operation(shard, **message)}, option=orjson.OPT_NON_STR_KEYS)
    except ApiError as error:
        found = error
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is the answer to this request only
        found = as_api_error(error)
    return orjson.dumps({"status": found.status, "error": found.text})


def _read(connection: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def serve(connection: socket.socket) -> None:
    """Answer requests in order until the other side is gone."""
    shard = Shard()
    while True:
        connection.settimeout(1.0)
        try:
            first = connection.recv(1)
        except TimeoutError:
            shard.flush_when_due()
            continue
        connection.settimeout(None)
        rest = _read(connection, _LENGTH.size - 1) if first else None
        if rest is None:
            break
        body = _read(connection, _LENGTH.unpack(first + rest)[0])
        if body is None:
            break
        answer = _answer(shard, body)
        connection.sendall(_LENGTH.pack(len(answer)) + answer)
        shard.flush_when_due()
    shard.close()


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies. Other systems rely on the socket's end alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
