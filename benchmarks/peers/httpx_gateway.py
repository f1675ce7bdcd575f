"""A gateway by hand, as one would write it in an afternoon: uvicorn, httpx, a backup, and a breaker of twenty lines.

    python -m benchmarks.peers.httpx_gateway --port N --main URL --backup URL

The main provider is left alone for 5 s after five failures in a row. Whatever is not a success within 2 s, or a
stream that has not begun, is asked of the backup; what a stream then brings is passed on as it comes.
"""

import argparse
import time
from typing import Any

import httpx
import uvicorn

__all__ = ["main"]

FAILURES, COOL_S, TIMEOUT_S = 5, 5.0, 2.0


class Breaker:
    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0

    def allows(self) -> bool:
        return time.monotonic() >= self._open_until

    def ended(self, well: bool) -> None:
        self._failures = 0 if well else self._failures + 1
        if self._failures >= FAILURES:
            self._open_until = time.monotonic() + COOL_S


class Gateway:
    def __init__(self, upstreams: list[str]) -> None:
        self._upstreams = [(url, Breaker()) for url in upstreams]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = await self._asked(scope["path"], body)
        if answer is None:
            await send({"type": "http.response.start", "status": 502, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})
            return
        try:
            headers = [(b"content-type", answer.headers.get("content-type", "application/json").encode())]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async for part in answer.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    async def _asked(self, path: str, body: bytes) -> httpx.Response | None:
        for url, breaker in self._upstreams:
            if not breaker.allows():
                continue
            headers = {"content-type": "application/json", "authorization": "Bearer key"}
            request = self._client.build_request("POST", url + path, content=body, headers=headers)
            try:
                answer = await self._client.send(request, stream=True)
            except httpx.HTTPError:
                breaker.ended(False)
                continue
            if answer.status_code < 400:
                breaker.ended(True)
                return answer
            breaker.ended(False)
            await answer.aclose()
        return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--main", required=True)
    parser.add_argument("--backup", required=True)
    given = parser.parse_args()
    uvicorn.run(
        Gateway([given.main, given.backup]), host="127.0.0.1", port=given.port, http="httptools", loop="uvloop",
        lifespan="off", log_level="error", access_log=False, timeout_keep_alive=75,
    )  # fmt: skip


if __name__ == "__main__":
    main()
