"""Start a standby server: `python -m reanimate.standby --name primary --port 6333 --data DIR [--read-only]`.

Keys come from the environment: REANIMATE_STANDBY_API_KEY, REANIMATE_STANDBY_READ_ONLY_KEY, and
REANIMATE_STANDBY_CONTROL_KEY for whoever loads copies of backups into it.
"""

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from reanimate.errors import ConfigInvalid
from reanimate.standby.app import make_app
from reanimate.standby.auth import Keys
from reanimate.standby.server import StandbyServer
from reanimate.standby.storage import Storage

__all__ = ["main"]

_STOP_WITHIN_S = 3
_BACKLOG = 256


class _Server(uvicorn.Server):
    """A server that SIGTERM ends with code 0; its base class would send the signal to itself again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exit code 2 when the port or the data directory cannot be had."""
    given = _arguments()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    keys = Keys(
        full=os.environ.get("REANIMATE_STANDBY_API_KEY") or None,
        read_only=os.environ.get("REANIMATE_STANDBY_READ_ONLY_KEY") or None,
        refuse_writes=given.read_only or given.offline,
        control=os.environ.get("REANIMATE_STANDBY_CONTROL_KEY") or None,
    )
    storage = Storage(given.data)
    try:
        storage.open()
        listener = _listen(given.host, given.port)
    except ConfigInvalid as error:
        print(f"standby {given.name}: {error}", file=sys.stderr)
        sys.exit(2)
    server = StandbyServer(given.name, storage, keys, offline=given.offline)
    config = uvicorn.Config(
        make_app(server),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
        server_header=False,
        date_header=True,
    )
    host, port = listener.getsockname()[:2]
    logging.getLogger(__name__).info(
        "standby %s listens on http://%s:%d, data in %s", given.name, host, port, given.data
    )
    _Server(config).run(sockets=[listener])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="reanimate.standby", description="A Qdrant-compatible standby server.")
    parser.add_argument("--name", default="standby")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory of its own")
    parser.add_argument("--read-only", action="store_true", help="refuse every write, whatever the key")
    parser.add_argument(
        "--offline", action="store_true", help="hold copies of backups: read-only, opened on demand, their age told"
    )
    return parser.parse_args()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # from here on nobody is turned away: who comes early waits
    except OSError as error:
        raise ConfigInvalid(f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another port") from error
    return listener


if __name__ == "__main__":
    main()
