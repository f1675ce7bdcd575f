"""One Qdrant server, or anything that speaks its REST API: thin typed calls, every failure mapped to `errors` here."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from reanimate.errors import (
    Busy,
    NotFound,
    ReanimateError,
    Refused,
    ServerFailed,
    Unreachable,
)

__all__ = ["Json", "ServerIdentity", "VectorServer"]

_LIMIT = re.compile(r'Limit exceeded \d+ > (\d+) for "limit"')
"""How strict mode refuses a page that is too long."""

Json = dict[str, Any]

DEFAULT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 60.0
"""Calls that change collections wait for consensus or for segments to be built on disk."""

KEY_HINT = "check the API key configured for this target (a read-only key cannot create or restore)"


@dataclass(frozen=True)
class ServerIdentity:
    """What `GET /` says: `title` tells a real server from a standby, `version` is the API's."""

    title: str
    version: str


class VectorServer:
    """A vector target. Cheap to make; the HTTP client is shared and never closed here."""

    def __init__(
        self,
        name: str,
        url: str,
        api_key: str | None,
        http: httpx.AsyncClient,
        peers: Sequence[str] = (),
        *,
        reads_files: bool = False,
    ) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.reads_files = reads_files
        """A standby of our own on this machine, and the key is its control key: it takes files by name."""
        self.peer_urls = tuple(peer.rstrip("/") for peer in peers)
        """The peers of a cluster, each by its own URL; empty for a single server, which is reached at `url`."""
        self._http = http
        self._headers = {"api-key": api_key} if api_key else {}

    def __repr__(self) -> str:
        return f"VectorServer({self.name!r}, {self.url!r})"

    def peer_servers(self) -> "list[VectorServer]":
        """Return a client for each peer of the cluster; for a single server, itself."""
        return [self.at(url) for url in self.peer_urls] or [self]

    def at(self, url: str) -> "VectorServer":
        """Return a client of one peer, with the same key."""
        peer = VectorServer(self.name, url, None, self._http)
        peer._headers = self._headers
        return peer

    # -- the server ------------------------------------------------------------------------------------------------

    async def version(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ServerIdentity:
        """Ask what it is.

        Raises:
            Unreachable, ServerFailed, Refused: as every call of this class does.
        """
        answer = await self.request("GET", "/", doing="asking for the version", timeout_s=timeout_s)
        body = self._json(answer, "asking for the version")
        if not isinstance(body, dict) or "version" not in body:
            raise ServerFailed(
                f"asking {self.name} ({self.url}) for its version: the answer is not a vector server's",
                hint="check the URL of this target",
            )
        return ServerIdentity(title=str(body.get("title", "")), version=str(body["version"]))

    async def collections(self) -> list[str]:
        """Return the names of all collections, aliases not among them."""
        result = await self._call("GET", "/collections", doing="listing collections")
        return sorted(row["name"] for row in result["collections"])

    async def aliases(self) -> dict[str, str]:
        """Return alias -> collection, for the whole server."""
        result = await self._call("GET", "/aliases", doing="listing aliases")
        return {row["alias_name"]: row["collection_name"] for row in result["aliases"]}

    async def update_aliases(self, actions: Sequence[Json]) -> None:
        """Apply alias actions in one call: a reader sees all or none, but a refused one leaves earlier ones applied."""
        await self._call(
            "POST",
            "/collections/aliases",
            doing="switching aliases",
            json={"actions": list(actions)},
            timeout_s=WRITE_TIMEOUT_S,
        )

    # -- collections -----------------------------------------------------------------------------------------------

    async def exists(self, name: str) -> bool:
        """Say whether a collection or alias of that name exists."""
        result = await self._call("GET", self.path(name, "exists"), doing=f"looking for {name!r}")
        return bool(result["exists"])

    async def info(self, name: str) -> Json:
        """Return status, config and payload schema.

        Raises:
            NotFound: there is no such collection or alias.
        """
        result: Json = await self._call("GET", self.path(name), doing=f"reading the description of {name!r}")
        return result

    async def exact_count(self, name: str) -> int:
        """Count the points one by one; the count in `info` is an estimate."""
        return await self.count(name)

    async def count(self, name: str, *, exact: bool = True) -> int:
        """Count the points.

        Raises:
            Refused: strict mode of the collection forbids exact counting.
        """
        result = await self._call(
            "POST",
            self.path(name, "points/count"),
            doing=f"counting the points of {name!r}",
            json={"exact": exact},
            timeout_s=WRITE_TIMEOUT_S,
        )
        return int(result["count"])

    async def create_collection(self, name: str, body: Json) -> None:
        """Create it from the body of `PUT /collections/{name}`.

        Raises:
            Refused: it exists, or the server does not take this config.
        """
        doing = f"creating the collection {name!r}"
        await self._call("PUT", self.path(name), doing=doing, json=body, timeout_s=WRITE_TIMEOUT_S)

    async def patch_collection(self, name: str, body: Json) -> None:
        """Change what can be changed of a collection; an empty optimizer table wakes a sleeping optimizer."""
        doing = f"changing the collection {name!r}"
        await self._call("PATCH", self.path(name), doing=doing, json=body, timeout_s=WRITE_TIMEOUT_S)

    async def delete_collection(self, name: str) -> None:
        """Delete it and see that it is gone; one that was never there is fine.

        Raises:
            ServerFailed: the server said yes and it is still there.
            Refused: the name is an alias; deleting it would delete nothing.
        """
        if name in await self.aliases():
            raise Refused(f"deleting the collection {name!r} on {self.name}: the name is an alias")
        doing = f"deleting the collection {name!r}"
        await self._call("DELETE", self.path(name), doing=doing, timeout_s=WRITE_TIMEOUT_S)
        for _ in range(20):
            try:
                await self.info(name)
            except NotFound:
                return
            await asyncio.sleep(0.1)
        raise ServerFailed(f"{doing} on {self.name}: it answered yes, and the collection is still there")

    async def create_index(self, name: str, field: str, schema: Any) -> None:
        """Create a payload index; `schema` is a type name or the long form with parameters."""
        await self._call(
            "PUT",
            self.path(name, "index"),
            doing=f"creating the payload index {field!r} of {name!r}",
            json={"field_name": field, "field_schema": schema},
            params={"wait": "true"},
            timeout_s=600.0,
        )

    # -- points ----------------------------------------------------------------------------------------------------

    async def retrieve(self, name: str, ids: Iterable[int | str], *, shard_key: str | int | None = None) -> list[Json]:
        """Return the points of these ids that exist, with payload and vectors; of one shard key, if it is given."""
        body: Json = {"ids": list(ids), "with_payload": True, "with_vector": True}
        if shard_key is not None:
            body["shard_key"] = shard_key
        result: list[Json] = await self._call(
            "POST",
            self.path(name, "points"),
            doing=f"reading points of {name!r}",
            json=body,
            timeout_s=30.0,
        )
        return result

    async def query(self, name: str, body: Json) -> list[Json]:
        """Run one query and return its points."""
        result = await self._call(
            "POST", self.path(name, "points/query"), doing=f"querying {name!r}", json=body, timeout_s=30.0
        )
        points: list[Json] = result["points"]
        return points

    async def query_batch(self, name: str, bodies: Sequence[Json]) -> list[list[Json]]:
        """Run many queries in one request and return the points of each."""
        result = await self._call(
            "POST",
            self.path(name, "points/query/batch"),
            doing=f"querying {name!r}, {len(bodies)} at once",
            json={"searches": list(bodies)},
            timeout_s=600.0,
        )
        return [one["points"] for one in result]

    async def scroll(
        self,
        name: str,
        *,
        limit: int = 256,
        offset: int | str | None = None,
        only: Json | None = None,
        ids_only: bool = False,
    ) -> Json:
        """Return one page in the order of ids: `points`, with payload and vectors unless only ids are wanted.

        `next_page_offset` is where the next one begins; `only` is a filter. Where strict mode of the collection limits
        pages, it is as long as that allows.
        """
        body: Json = {"limit": limit, "offset": offset, "with_payload": not ids_only, "with_vector": not ids_only}
        if only is not None:
            body["filter"] = only
        path, doing = self.path(name, "points/scroll"), f"scrolling {name!r}"
        try:
            result: Json = await self._call("POST", path, doing=doing, json=body, timeout_s=30.0)
        except Refused as error:
            allowed = _LIMIT.search(str(error))
            if allowed is None or int(allowed[1]) < 1:
                raise
            result = await self._call("POST", path, doing=doing, json=body | {"limit": int(allowed[1])}, timeout_s=30.0)
        return result

    async def upsert(self, name: str, points: Sequence[Json], *, shard_key: str | int | None = None) -> None:
        """Write points and wait until they are applied."""
        body: Json = {"points": list(points)}
        if shard_key is not None:
            body["shard_key"] = shard_key
        await self._call(
            "PUT",
            self.path(name, "points"),
            doing=f"writing {len(points)} points into {name!r}",
            json=body,
            params={"wait": "true"},
            timeout_s=WRITE_TIMEOUT_S,
        )

    async def delete_points(self, name: str, ids: Iterable[int | str], *, shard_key: str | int | None = None) -> None:
        """Delete points by their ids and wait until it is done; ids that are not there are fine."""
        wanted = list(ids)
        body: Json = {"points": wanted}
        if shard_key is not None:
            body["shard_key"] = shard_key
        await self._call(
            "POST",
            self.path(name, "points/delete"),
            doing=f"deleting {len(wanted)} points of {name!r}",
            json=body,
            params={"wait": "true"},
            timeout_s=WRITE_TIMEOUT_S,
        )

    # -- transport -------------------------------------------------------------------------------------------------

    @staticmethod
    def path(collection: str, *rest: str) -> str:
        """Return the path of a collection's resource; collection names may hold any character but a slash."""
        return "/".join(["/collections", quote(collection, safe=""), *rest])

    def build(
        self,
        method: str,
        path: str,
        *,
        timeout: httpx.Timeout,
        headers: Mapping[str, str] | None = None,
        **content: Any,
    ) -> httpx.Request:
        """Build a request with this target's key; for transfers, which stream and send it themselves."""
        merged = {**self._headers, **(headers or {})}
        return self._http.build_request(method, self.url + path, headers=merged, timeout=timeout, **content)

    async def send(self, request: httpx.Request, *, doing: str, stream: bool = False) -> httpx.Response:
        """Send; an answer with an error status is read and raised, anything below 400 is returned.

        Raises:
            Unreachable: refused, reset or timed out.
            ServerFailed, NotFound, Refused, Busy: by the status of the answer.
        """
        try:
            answer = await self._http.send(request, stream=stream)
            if answer.status_code >= 400 and stream:
                await answer.aread()
                await answer.aclose()
        except httpx.HTTPError as error:
            raise self.unreachable(doing, error) from error
        except httpx.InvalidURL as error:
            raise Refused(f"{doing} on {self.name}: {self.url} is not a usable URL: {error}") from error
        if answer.status_code >= 400:
            raise self._status_error(answer, doing)
        return answer

    async def request(self, method: str, path: str, *, doing: str, timeout_s: float, **content: Any) -> httpx.Response:
        """Make one small call and return the answer, its body read."""
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, DEFAULT_TIMEOUT_S))
        return await self.send(self.build(method, path, timeout=timeout, **content), doing=doing)

    async def _call(
        self, method: str, path: str, *, doing: str, timeout_s: float = DEFAULT_TIMEOUT_S, **content: Any
    ) -> Any:
        """Make one call of the REST API and return what its envelope holds."""
        return self.result(await self.request(method, path, doing=doing, timeout_s=timeout_s, **content), doing)

    def result(self, answer: httpx.Response, doing: str) -> Any:
        """Open the envelope {"result", "status", "time"}."""
        body = self._json(answer, doing)
        if not isinstance(body, dict) or "result" not in body:
            raise ServerFailed(f"{doing} on {self.name} ({self.url}): the answer has no result: {answer.text[:200]!r}")
        return body["result"]

    def _json(self, answer: httpx.Response, doing: str) -> Any:
        try:
            return orjson.loads(answer.content)
        except ValueError as error:
            raise ServerFailed(
                f"{doing} on {self.name} ({self.url}): the answer cannot be read: {answer.text[:200]!r}"
            ) from error

    def unreachable(self, doing: str, error: httpx.HTTPError) -> Unreachable:
        """Say in our words what the transport said."""
        timed_out = isinstance(error, httpx.TimeoutException)
        found = "no answer in time" if timed_out else (str(error) or type(error).__name__)
        return Unreachable(
            f"{doing} on {self.name} ({self.url}): {found} ({type(error).__name__})",
            hint="see whether the server runs and this address is right",
        )

    def _status_error(self, answer: httpx.Response, doing: str) -> ReanimateError:
        status = answer.status_code
        message = f"{doing} on {self.name} ({self.url}): HTTP {status}, {_reason(answer)}"
        if status in (401, 403):
            return Refused(message, hint=KEY_HINT)
        kind: type[ReanimateError] = STATUS_ERRORS.get(status, ServerFailed if status >= 500 else Refused)
        return kind(message)


STATUS_ERRORS: dict[int, type[ReanimateError]] = {
    404: NotFound,
    408: Unreachable,
    429: Busy,
    501: Refused,  # a standby names what it does not do; asking again changes nothing
}


def _reason(answer: httpx.Response) -> str:
    """Return the server's own words: {"status": {"error": …}}, or the plain text it sent instead."""
    try:
        words = answer.json()["status"]["error"]
    except (ValueError, KeyError, TypeError):
        words = answer.text
    return str(words).strip()[:500] or "no reason given"
