"""Where connections come in: a port that can be open, closed, or open with nobody at the door."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Literal

from reanimate.errors import ConfigInvalid

__all__ = ["Door", "State"]

State = Literal["open", "refuse", "unaccepted"]

_BACKLOG = 2048


class Door:
    """A listening port. It stays ours while it is closed: a second socket that is bound to it never listens."""

    def __init__(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        self._host = host
        self._factory = factory
        self._state: State | None = None
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        try:
            self._keeper = self._bound(port)
        except OSError as error:
            raise ConfigInvalid(f"the provider cannot have {host}:{port}: {error.strerror or error}") from error
        self.port: int = self._keeper.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((self._host, port))
        return sock

    def turn(self, state: State) -> None:
        """Change the state; it holds at once for whoever connects from now on."""
        if state == self._state:
            return
        self._shut()
        self._state = state
        if state == "refuse":
            return
        self._socket = self._bound(self.port)
        self._socket.setblocking(False)
        self._socket.listen(_BACKLOG if state == "open" else 0)
        if state == "open":
            self._opening = asyncio.get_running_loop().create_task(self._open(self._socket))

    async def _open(self, sock: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._factory, sock=sock, backlog=_BACKLOG)

    def _shut(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # closing comes a turn of the loop later
        if self._server is not None:
            self._server.close()
            self._server = None
        elif self._socket is not None:
            self._socket.close()
        self._socket = None

    async def opened(self) -> None:
        """Wait until connections are accepted."""
        if self._opening is not None:
            await self._opening

    def close(self) -> None:
        self._shut()
        self._keeper.close()
