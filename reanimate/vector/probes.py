"""Does a vector server answer, and if not, in which way does it not?"""

import errno
import time
from dataclasses import dataclass
from typing import Literal

import httpx

from reanimate.errors import ReanimateError, Unreachable
from reanimate.vector.server import VectorServer

__all__ = ["FailureKind", "Liveness", "probe_liveness"]

FailureKind = Literal["refused", "timeout", "unreachable", "http"]


@dataclass(frozen=True)
class Liveness:
    """Whether a server answers, and if not, in which way it does not."""

    target: str
    ok: bool
    kind: FailureKind | None
    detail: str
    latency_ms: float
    version: str | None = None


async def probe_liveness(server: VectorServer, timeout_s: float) -> Liveness:
    """Ask for the version, which needs no key. Never raises: not answering is the answer."""
    begun = time.perf_counter()
    try:
        identity = await server.version(timeout_s=timeout_s)
    except ReanimateError as error:
        latency = (time.perf_counter() - begun) * 1000
        return Liveness(server.name, False, _kind(error), str(error), round(latency, 1))
    latency = (time.perf_counter() - begun) * 1000
    return Liveness(server.name, True, None, "answers", round(latency, 1), identity.version)


def _kind(error: ReanimateError) -> FailureKind:
    if not isinstance(error, Unreachable):
        return "http"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, httpx.TimeoutException | TimeoutError):
            return "timeout"
        if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
            return "refused"
        if isinstance(cause, httpx.ConnectError) and "connection attempts failed" in str(cause).lower():
            return "refused"  # anyio tried every address of the name and hides the reasons
        cause = cause.__cause__ or cause.__context__
    return "unreachable"
