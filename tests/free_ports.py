"""Ports for servers that are started by a test."""

import contextlib
import random
import socket

__all__ = ["free_port"]


def free_port() -> int:
    """Return a port on which nobody listens, from below those that the system gives to connections going out."""
    while True:
        port = random.randrange(10_240, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
