"""`python -m reanimate.gateway`: exit code 0 after a signal, 1 with one line when it cannot start."""

import argparse
import asyncio
import logging
import sys

import uvloop

from reanimate.config import load_settings
from reanimate.errors import ReanimateError
from reanimate.gateway.process import find_addresses, serve
from reanimate.logs import log_to_stderr
from reanimate.secrets import Secrets

__all__ = ["main"]


def main() -> int:
    """Run the gateway; return the exit code."""
    log_to_stderr(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m reanimate.gateway")
    parser.add_argument("--worker", type=int, metavar="FD", help="how the first process starts the others")
    worker = parser.parse_args().worker
    try:
        settings = load_settings()
        secrets = Secrets.load_or_create(settings.home)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, find_addresses(settings), secrets, worker))
    except ReanimateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
