"""`python -m reanimate.web`: run the web process until told to stop."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import uvicorn
import uvloop

from reanimate.bootstrap import open_services
from reanimate.errors import ConfigInvalid, ReanimateError
from reanimate.logs import log_to_stderr
from reanimate.web.app import create_app

__all__ = ["main"]

log = logging.getLogger("reanimate.web")


def _listen(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    Raises:
        ConfigInvalid: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigInvalid(
            f"the web process cannot listen on {host}:{port}: {error.strerror}",
            hint="end what listens there, or set web.port",
        ) from error
    listener.set_inheritable(False)
    return listener


async def _serve() -> None:
    async with open_services() as services:
        listener = _listen(services.settings.web.host, urlsplit(services.addresses.web).port or 80)
        config = uvicorn.Config(
            create_app(services),
            http="httptools",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=30,
        )
        server = uvicorn.Server(config)

        def leave(*_: object) -> None:
            server.should_exit = True

        _on_signal(leave)  # uvicorn raises the signal once more after its own clean end
        log.info("listening at %s", services.addresses.web)
        await server.serve(sockets=[listener])


def _on_signal(handler: Callable[..., None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def main() -> int:
    """Run, and return the exit code: 0 after a signal, 1 with one line on standard error when it cannot start."""
    log_to_stderr()
    for noisy in ("httpx", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _on_signal(lambda *_: sys.exit(0))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve())
    except ReanimateError as error:
        log.error("%s", error)  # noqa: TRY400 - one line for the log of a supervised process, no traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
