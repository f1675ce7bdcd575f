"""The floor of a gateway in Python: bytes in, bytes out, nothing looked at.

    python -m benchmarks.peers.raw_proxy --port N --upstream HOST:PORT

One connection to the upstream for each of a client's.
"""

import argparse
import asyncio
from typing import cast

import uvloop

__all__ = ["main"]


class Upstream(asyncio.Protocol):
    def __init__(self, client: "Client") -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.connected(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._client.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.transport.close()


class Client(asyncio.Protocol):
    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._early: list[bytes] = []
        self._upstream: asyncio.Transport | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        opening = loop.create_task(loop.create_connection(lambda: Upstream(self), self._host, self._port))
        opening.add_done_callback(self._opened)

    def _opened(self, opening: "asyncio.Task[object]") -> None:
        if opening.cancelled() or opening.exception() is not None:
            self.transport.abort()

    def connected(self, upstream: asyncio.Transport) -> None:
        self._upstream = upstream
        for data in self._early:
            upstream.write(data)

    def data_received(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.write(data)
        else:
            self._early.append(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self._upstream is not None:
            self._upstream.close()


async def serve(port: int, upstream: str) -> None:
    host, _, upstream_port = upstream.rpartition(":")
    server = await asyncio.get_running_loop().create_server(
        lambda: Client(host, int(upstream_port)), "127.0.0.1", port, backlog=2048
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.upstream))


if __name__ == "__main__":
    main()
