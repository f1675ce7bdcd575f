"""The peer of alert-to-switch: a reverse proxy whose upstream stands in a file, and a webhook that rewrites the file.

    python -m benchmarks.peers.file_proxy --port N --config FILE --poll 2 --upstream primary=URL --upstream replica=URL

`POST /alert` writes the file. With `--poll 0` the proxy is told at once, as `nginx -s reload` would; else it looks
into the file every so many seconds. Nobody is authenticated, nothing is stored, and nobody looks whether the other
upstream is there: less to do than we have. `POST /alert/over` goes back.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiohttp import web

__all__ = ["main"]


class FileProxy:
    """Sends everything to the upstream that its file names."""

    def __init__(self, config: Path, upstreams: dict[str, str], poll_s: float) -> None:
        self._config = config
        self._upstreams = upstreams
        self._poll_s = poll_s
        self._session: aiohttp.ClientSession | None = None
        self._point_to("primary")
        self._upstream = "primary"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/alert", self._alert)
        app.router.add_post("/alert/over", self._over)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        app.cleanup_ctx.append(self._running)
        return app

    async def _running(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as self._session:
            poll = asyncio.create_task(self._look_again_and_again())
            yield
            poll.cancel()
            with suppress(asyncio.CancelledError):
                await poll

    def _point_to(self, upstream: str) -> None:
        fresh = self._config.with_suffix(".new")
        fresh.write_text(upstream)
        fresh.replace(self._config)

    def _reload(self) -> None:
        self._upstream = self._config.read_text()

    async def _look_again_and_again(self) -> None:
        while self._poll_s:
            await asyncio.sleep(self._poll_s)
            self._reload()

    async def _alert(self, request: web.Request) -> web.Response:
        await request.json()
        return self._changed("replica")

    async def _over(self, _: web.Request) -> web.Response:
        return self._changed("primary")

    def _changed(self, upstream: str) -> web.Response:
        self._point_to(upstream)
        if not self._poll_s:
            self._reload()
        return web.Response(status=202)

    async def _pass_on(self, request: web.Request) -> web.Response:
        assert self._session is not None
        upstream = self._upstream
        url = self._upstreams[upstream] + request.path_qs
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        async with self._session.request(request.method, url, data=await request.read(), headers=headers) as answer:
            body = await answer.read()
        return web.Response(status=answer.status, body=body, headers={"X-Upstream": upstream})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--poll", type=float, required=True)
    parser.add_argument("--upstream", action="append", required=True)
    given = parser.parse_args()
    upstreams = dict(item.split("=", 1) for item in given.upstream)
    web.run_app(
        FileProxy(given.config, upstreams, given.poll).app(), host="127.0.0.1", port=given.port, print=lambda *_: None
    )


if __name__ == "__main__":
    main()
