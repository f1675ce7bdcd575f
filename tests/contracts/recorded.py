"""The recorded exchanges: played against a server under names of their own, and compared with what was recorded."""

import asyncio
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import zstandard
from qdrant_server import FULL_KEY, READ_ONLY_KEY, QdrantServer

__all__ = ["RECORDINGS", "Exchange", "Player", "differences", "exchanges", "points_of", "snapshot"]

Json = dict[str, Any]

RECORDINGS = Path(__file__).parent / "recordings"
_TOLERANCE = 1e-4
_REFUSED_UNREAD = ("upload, bad checksum form", "upload, unknown priority")
"""A server answers these before it has read the body and closes the connection, so that the answer may be lost."""
_ABOUT_EVERYTHING = ("full snapshot", "full snapshots")
"""These are about all that a server holds; they are not for somebody else's server."""
_NAME_KEYS = ("collection_name", "alias_name", "old_alias_name", "new_alias_name")


@dataclass(frozen=True)
class Exchange:
    """One request and what a real server answered."""

    name: str
    request: Json
    response: Json


def exchanges() -> list[Exchange]:
    lines = (RECORDINGS / "rest.jsonl").read_text().splitlines()
    loaded = [json.loads(line) for line in lines]
    return [Exchange(one["name"], one["request"], one["response"]) for one in loaded]


def snapshot(name: str) -> bytes:
    """Return a recorded snapshot file."""
    with (RECORDINGS / f"{name}.zst").open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def points_of(collection: str) -> dict[int | str, Json]:
    """Return every point that the recorded snapshots of a collection hold, by id."""
    lines = (RECORDINGS / f"{collection}.points.jsonl").read_text().splitlines()
    return {point["id"]: point for point in map(json.loads, lines)}


def _upload_of(exchange: Exchange) -> bytes:
    """The recordings say only that a file was uploaded; its name says which."""
    if exchange.name.endswith("garbage"):
        return b"this is no snapshot at all; " * 1000
    if exchange.name in _REFUSED_UNREAD:
        return b"refused before it is read"
    whole = snapshot("docs.collection.snapshot")
    if exchange.name == "upload, truncated":
        return whole[: len(whole) // 2]
    if exchange.name.startswith("shard upload") and not exchange.name.endswith("a collection snapshot"):
        return snapshot("docs.shard-0.snapshot")
    return whole


class Player:
    """Plays recorded exchanges in order. Collections get a prefix, so that a server with others is left alone."""

    def __init__(self, server: QdrantServer, client: httpx.AsyncClient, prefix: str) -> None:
        self._server = server
        self._client = client
        self._bare = httpx.AsyncClient(
            base_url=server.url, timeout=120.0, limits=httpx.Limits(max_keepalive_connections=0)
        )
        """Sends the keys of each exchange only, on a connection of its own: a server closes it on an early refusal."""
        self._prefix = prefix
        self._now: dict[str, str] = {}
        """Recorded names and hashes of snapshots -> those of this run."""

    def possible(self, exchange: Exchange) -> bool:
        """Say whether the keys that the exchange is about are known, and it may be played on this server."""
        headers = exchange.request.get("headers") or {}
        if exchange.name in _ABOUT_EVERYTHING and not self._server.is_standby:
            return False
        if headers.get("api-key") == READ_ONLY_KEY and self._server.read_only_key is None:
            return False
        about_keys = "api-key" in headers or "authorization" in headers
        return self._server.key is not None or not about_keys

    async def play(self, exchange: Exchange) -> httpx.Response:
        """Send the request as it was recorded, with the names and snapshots of this run."""
        request = exchange.request
        headers = {"api-key": self._server.key or ""} | {
            name: self._key(value) for name, value in (request.get("headers") or {}).items()
        }
        options: Json = {"params": request.get("params"), "headers": {k: v for k, v in headers.items() if v}}
        if "json" in request:
            options["json"] = self._rewritten(request["json"])
        if "content" in request:
            options["content"] = request["content"]
        if "multipart" in request:
            options["files"] = {"snapshot": ("x.snapshot", _upload_of(exchange))}
        answer = await self._sent(exchange, options)
        self._learn(exchange, answer)
        return answer

    async def _sent(self, exchange: Exchange, options: Json) -> httpx.Response:
        method, path = exchange.request["method"], self._path(exchange.request["path"])
        for _ in range(20 if exchange.name in _REFUSED_UNREAD else 0):
            try:
                return await self._bare.request(method, path, **options)
            except httpx.ReadError:
                await asyncio.sleep(0.05)
        return await self._bare.request(method, path, **options)

    def _key(self, value: str | None) -> str | None:
        if value is None:
            return None
        value = value.replace(READ_ONLY_KEY, self._server.read_only_key or "")
        return value.replace(FULL_KEY, self._server.key or "")

    def _path(self, path: str) -> str:
        for recorded, now in self._now.items():
            path = path.replace(recorded, now)
        return re.sub(r"^/collections/(?!aliases$)", f"/collections/{self._prefix}", path)

    def _rewritten(self, body: Any) -> Any:
        if isinstance(body, list):
            return [self._rewritten(one) for one in body]
        if not isinstance(body, dict):
            return body
        rewritten = {}
        for key, value in body.items():
            if key in _NAME_KEYS:
                value = self._prefix + value
            elif key == "location":
                value = self._location(value)
            elif key == "checksum":
                value = self._now.get(value, value)
            elif key == "api_key":
                value = self._key(value)
            rewritten[key] = self._rewritten(value)
        return {key: value for key, value in rewritten.items() if value is not None}

    def _location(self, location: str) -> str:
        own = re.fullmatch(r"http://127\.0\.0\.1:6333(/.*)", location)
        return self._server.url + self._path(own[1]) if own else location

    def _learn(self, exchange: Exchange, answer: httpx.Response) -> None:
        """Remember what the snapshot of this exchange is called now."""
        recorded = exchange.response.get("json", {}).get("result")
        if answer.status_code != 200 or not isinstance(recorded, dict) or "checksum" not in recorded:
            return
        made = answer.json()["result"]
        self._now |= {recorded["name"]: made["name"], recorded["checksum"]: made["checksum"]}

    def plain(self, value: Any) -> Any:
        """Return an answer with the prefix taken away, and without collections that are not of this run."""
        if isinstance(value, str):
            return value.replace(self._prefix, "")
        if isinstance(value, list):
            return [self.plain(one) for one in value]
        if not isinstance(value, dict):
            return value
        kept = dict(value)
        for names, key in (("collections", "name"), ("aliases", "collection_name")):
            if isinstance(kept.get(names), list):
                kept[names] = [one for one in kept[names] if one[key].startswith(self._prefix)]
        return {key: self.plain(one) for key, one in kept.items()}

    async def clean(self) -> None:
        """Remove what the exchanges left."""
        await self._bare.aclose()
        for one in (await self._client.get("/collections")).json()["result"]["collections"]:
            if one["name"].startswith(self._prefix):
                base = f"/collections/{one['name']}"
                for found in (await self._client.get(f"{base}/snapshots")).json()["result"]:
                    await self._client.delete(f"{base}/snapshots/{found['name']}")
                await self._client.delete(base)


_ANY_NUMBER = ("operation_id", "version", "segments_count", "indexed_vectors_count", "peer_id")
"""Counted or chosen by the server; only that they are whole numbers is promised."""

_PATTERNS: dict[str, str] = {
    "creation_time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "checksum": r"[0-9a-f]{64}",
}
_SNAPSHOT_NAME = re.compile(r"(?P<head>.+?)-(\d+-)?\d{4}(-\d\d){5}\.snapshot")

_MESSAGES = (
    "Format error in JSON body: ",
    "Service internal error: File IO error: Malformed tar archive, reached unknown entry",
    "Service internal error: File IO error: failed to unpack `",
    "Service internal error: Can't restore snapshot in local mode with missing data at shard: ",
    "Service internal error: Http request error: error sending request for url (http://127.0.0.1:9/x.snapshot)",
    "Wrong input: Snapshot is not compatible with existing collection: Collection vectors: ",
    "Validation error in query parameters: [checksum: Validation error: invalid_sha256_hash ",
)
"""Errors of which only the start is promised: what follows are paths, positions and the words of a parser."""

_HEADERS: dict[str, Callable[[str], str]] = {
    "content-type": lambda value: value,
    "accept-ranges": lambda value: value,
    "content-range": lambda value: re.sub(r"\d+$", "SIZE", value),
    "content-disposition": lambda value: _SNAPSHOT_NAME.sub(r"\g<head>-TIME.snapshot", value),
}
_OWN_CONTENT = ("service / without key", "telemetry", "search matrix", "partial manifest")
"""Titles, random samples and segment ids: each server and each run has its own."""
_ANY_POINTS = {
    "query order_by": ("score", "order_value", "payload"),
    "scroll filter order_by": ("order_value", "payload"),
    "query sample": ("score",),
    "query fusion": (),
}
"""Of points with the same value, with the same score in a list that is fused, or of random ones, any may be answered.
What of each point is compared all the same."""


def differences(exchange: Exchange, answer: httpx.Response, plain: Callable[[Any], Any]) -> list[str]:
    """Say how an answer differs from the recorded one, apart from what is not promised."""
    recorded = exchange.response
    if answer.status_code != recorded["status"]:
        return [f"status {answer.status_code} instead of {recorded['status']}: {answer.text[:300]}"]
    found = _header_differences(recorded["headers"], answer, plain)
    if "json" in recorded:
        if exchange.name in _OWN_CONTENT:
            return found + _present(recorded["json"], answer.json())
        expected, actual = (_comparable(exchange, one) for one in (recorded["json"], plain(answer.json())))
        found += list(_compared("", expected, actual))
    elif exchange.name == "metrics":
        families = ("app_info", "collections_total", "collection_points", "rest_responses_total")
        found += [f"{name} is missing" for name in families if f"\n# TYPE {name} " not in answer.text]
    elif "text" in recorded and plain(answer.text) != recorded["text"]:
        found.append(f"text {answer.text!r} instead of {recorded['text']!r}")
    if exchange.name == "snapshot download range" and len(answer.content) != recorded["bytes"]:
        found.append(f"{len(answer.content)} bytes instead of {recorded['bytes']}")
    return found


def _present(recorded: Json, actual: Json) -> list[str]:
    """The version is the promise; title and build are the server's own."""
    return [f"{key} is missing" for key in ("title", "version") if key in recorded and key not in actual]


def _header_differences(recorded: Json, answer: httpx.Response, plain: Callable[[Any], Any]) -> list[str]:
    found = []
    for name, normal in _HEADERS.items():
        if name not in recorded:
            continue
        expected, actual = normal(recorded[name]), normal(plain(answer.headers.get(name, "")))
        if expected != actual:
            found.append(f"header {name} {actual!r} instead of {expected!r}")
    return found


def _comparable(exchange: Exchange, body: Any) -> Any:
    """Leave out what differs from run to run."""
    body = {key: value for key, value in body.items() if key not in ("time", "usage")}
    if exchange.name in _ANY_POINTS:
        points = body["result"]["points"]
        kept = _ANY_POINTS[exchange.name]
        body["result"] = {**body["result"], "points": [{k: p[k] for k in kept if k in p} for p in points]}
    return body


def _compared(where: str, expected: Any, actual: Any) -> list[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        return _compared_objects(where, expected, actual)
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return [f"{where}: {len(actual)} elements instead of {len(expected)}: {actual!r} / {expected!r}"[:600]]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [found for i, (one, other) in pairs for found in _compared(f"{where}[{i}]", one, other)]
    if isinstance(expected, float) and isinstance(actual, (int, float)) and not isinstance(actual, bool):
        close = math.isclose(expected, actual, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        return [] if close else [f"{where}: {actual} instead of {expected}"]
    return (
        []
        if expected == actual and type(expected) is type(actual)
        else [f"{where}: {actual!r} instead of {expected!r}"]
    )


def _compared_objects(where: str, expected: Json, actual: Json) -> list[str]:
    if set(expected) != set(actual):
        return [f"{where}: keys {sorted(actual)} instead of {sorted(expected)}"]
    found: list[str] = []
    for key, one in expected.items():
        other, place = actual[key], f"{where}.{key}"
        if key in _ANY_NUMBER:
            if not isinstance(other, int) or isinstance(other, bool):
                found.append(f"{place}: {other!r} is no number")
        elif key in _PATTERNS and isinstance(one, str):
            if not re.fullmatch(_PATTERNS[key], str(other)):
                found.append(f"{place}: {other!r} is not of the form of {one!r}")
        elif key == "error" and (start := next((m for m in _MESSAGES if str(one).startswith(m)), None)):
            if not str(other).startswith(start):
                found.append(f"{place}: {other!r} instead of {start!r}…")
        elif key == "name" and (named := _SNAPSHOT_NAME.fullmatch(str(one))):
            now = _SNAPSHOT_NAME.fullmatch(str(other))
            if now is None or now["head"] != named["head"]:
                found.append(f"{place}: {other!r} is not of the form of {one!r}")
        elif key == "size" and "creation_time" in expected:
            if not isinstance(other, int) or other <= 0:
                found.append(f"{place}: {other!r} is no size")
        else:
            found += _compared(place, one, other)
    return found
