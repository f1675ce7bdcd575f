"""A small vector server with faults that can be switched: what stands behind the gateway in its tests.

`python vector_target.py NAME PORT` runs one as a process of its own, to be killed.
"""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

MISSING = "Not found: Collection `{}` doesn't exist!"
BIG = b"x" * 1024 * 1024


def _ok(result: Any) -> web.Response:
    return web.json_response({"result": result, "status": "ok", "time": 0.0})


def _error(status: int, words: str) -> web.Response:
    return web.json_response({"status": {"error": words}, "time": 0.0}, status=status)


class VectorTarget:
    """Answers like the real one where the gateway looks, and says who it is in `served_by`.

    `fault`: hang, http, reset, cut, slow, garbage; it applies to what `faulty` says: a part of the path, or everything.
    """

    def __init__(self, name: str, *, port: int = 0, api_key: str | None = None) -> None:
        self.name = name
        self.port = port
        self.api_key = api_key
        self.collections: set[str] = {"kb"}
        self.aliases: dict[str, str] = {}
        self.fault: str | None = None
        self.faulty: str = "/"
        self.seen: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.writes = 0
        self.left = 0
        """How many clients went away before they had an answer."""
        self.uploaded: tuple[int, str] | None = None
        self.download_mib = 0
        self.slow_s = 0.3
        self.extra_headers: dict[str, str] = {}
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked_for(self, part: str) -> int:
        """How many requests with `part` in their path came."""
        return sum(part in path for _, path in self.seen)

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 40)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path))
        self.headers.append({key.lower(): value for key, value in request.headers.items()})
        if self.fault is not None and self.faulty in request.path:
            failed = await self._fail(request)
            if failed is not None:
                return failed
        if self.api_key is not None and request.path != "/healthz" and request.headers.get("api-key") != self.api_key:
            return web.Response(status=401, text="Invalid API key or JWT")
        answer = await self._answer(request)
        if not answer.prepared:
            answer.headers.update(self.extra_headers)
        return answer

    async def _fail(self, request: web.Request) -> web.StreamResponse | None:
        match self.fault:
            case "hang":
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.left += 1
                    raise
            case "slow":
                await asyncio.sleep(self.slow_s)
                return None
            case "http":
                return _error(500, "Service internal error: on purpose")
            case "reset":
                assert request.transport is not None
                request.transport.abort()
            case "garbage":
                assert request.transport is not None
                request.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")
                request.transport.close()
            case "cut":
                response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000"})
                await response.prepare(request)
                await response.write(b'{"result":')
                assert request.transport is not None
                request.transport.abort()
        return web.Response(status=500)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        match parts:
            case [""]:
                return web.json_response({"title": self.name, "version": "1.18.3"})
            case ["healthz" | "readyz" | "livez"]:
                return web.Response(text="healthz check passed")
            case ["collections"]:
                return _ok({"collections": [{"name": name} for name in sorted(self.collections)]})
            case ["aliases"]:
                aliases = [{"alias_name": a, "collection_name": c} for a, c in self.aliases.items()]
                return _ok({"aliases": aliases})
            case ["collections", "aliases"]:
                return _ok(True)
            case ["collections", name, *rest]:
                return await self._collection(request, name, rest)
            case _:
                return web.Response(status=404)

    async def _collection(self, request: web.Request, name: str, rest: list[str]) -> web.StreamResponse:
        there = name in self.collections or name in self.aliases
        if rest == ["exists"]:
            return _ok({"exists": there})
        if request.method == "PUT" and not rest:
            if there:
                return _error(409, f"Wrong input: Collection `{name}` already exists!")
            self.collections.add(name)
            return _ok(True)
        if request.method == "DELETE" and not rest:
            self.collections.discard(name)
            return _ok(there)
        if not there:
            return _error(404, MISSING.format(name))
        if rest[-1:] == ["upload"]:
            return await self._take_upload(request)
        if rest == ["snapshots", "big"] or rest == ["points", "big"]:
            return await self._send_big(request)
        body = await request.read()
        self.bodies.append(body)
        if rest == ["points", "query"] or request.method == "GET":
            return _ok({"served_by": self.name, "points": [], "sent": len(body)})
        if rest == ["points"] and request.method == "PUT":
            self.writes += 1
            return _ok({"operation_id": self.writes, "status": "completed"})
        return _ok({"served_by": self.name})

    async def _take_upload(self, request: web.Request) -> web.Response:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        self.uploaded = (size, digest.hexdigest())
        return _ok(True)

    async def _send_big(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/octet-stream"})
        response.content_length = self.download_mib * len(BIG)
        await response.prepare(request)
        for number in range(self.download_mib):
            if self.fault == "cut late" and number == self.download_mib // 2:
                assert request.transport is not None
                request.transport.abort()
                return response
            try:
                await response.write(BIG)
            except (ConnectionError, asyncio.CancelledError):
                self.left += 1
                raise
        return response


@asynccontextmanager
async def running(*targets: VectorTarget) -> AsyncIterator[tuple[VectorTarget, ...]]:
    """Run targets in this process."""
    for target in targets:
        await target.start()
    try:
        yield targets
    finally:
        for target in targets:
            await target.stop()


async def _main(name: str, port: int) -> None:
    target = VectorTarget(name, port=port)
    await target.start()
    print(target.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
