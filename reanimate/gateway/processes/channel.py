"""What the processes of one gateway say to each other: JSON, a line each, over a pair of connected sockets."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson

__all__ = ["Channel", "Message", "open_channel"]

Message = Mapping[str, Any]
_FULL = 1024 * 1024


class Channel(asyncio.Protocol):
    """One end."""

    def __init__(self, hear: "Callable[[Channel, Message], None]", lost: "Callable[[Channel], None]") -> None:
        self._hear = hear
        self._lost = lost
        self._rest = b""
        self._transport: asyncio.Transport

    @property
    def is_full(self) -> bool:
        """Whether the other end does not listen at present."""
        return self._transport.get_write_buffer_size() > _FULL

    def say(self, message: Message) -> None:
        """Say something; nobody waits for it to be heard."""
        if not self._transport.is_closing():
            self._transport.write(orjson.dumps(message) + b"\n")

    def close(self) -> None:
        """Close it once all was said."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(self, orjson.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)


async def open_channel(
    sock: socket.socket, hear: Callable[[Channel, Message], None], lost: Callable[[Channel], None]
) -> Channel:
    """Return the end of a pair of sockets that `sock` is."""
    sock.setblocking(False)
    _, channel = await asyncio.get_running_loop().create_unix_connection(lambda: Channel(hear, lost), sock=sock)
    return channel
