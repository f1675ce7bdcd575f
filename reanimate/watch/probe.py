"""The prober: asks one URL once, on a fresh connection, and says what came of it. It never raises for a failure.

A fresh connection each time, because an old one may go on working where no new one can be made.
"""

import asyncio
import time
from urllib.parse import urlsplit

import aiohttp

from reanimate.watch.sample import FailureKind, Sample, kind_of

__all__ = ["Prober"]


class Prober:
    """Owns the connections of all probes. Close it when done."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "reanimate-watch"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, url: str, *, timeout_s: float, healthy_below: int = 500) -> Sample:
        """Probe `url` (http, https or tcp), waiting no longer than `timeout_s` in all.

        Raises:
            OwnTroubleError: this process lacked something; nothing was learnt about the other side.
        """
        asked = time.monotonic()
        kind: FailureKind | None
        try:
            async with asyncio.timeout(timeout_s):
                kind, detail = await (self._connect(url) if url.startswith("tcp:") else self._get(url, healthy_below))
        except (OSError, EOFError, aiohttp.ClientError) as error:
            kind = kind_of(error)
            detail = said_by(error, kind, timeout_s)
        except ValueError as error:  # a URL that cannot be asked; shown, never accused as silence
            kind, detail = FailureKind.HTTP, f"the URL cannot be asked: {error}"
        return Sample.of(asked, time.monotonic(), kind, detail)

    async def _get(self, url: str, healthy_below: int) -> tuple[FailureKind | None, str]:
        async with self._session.get(url, allow_redirects=False) as answer:
            healthy = answer.status < healthy_below
            return None if healthy else FailureKind.HTTP, f"HTTP {answer.status}"

    async def _connect(self, url: str) -> tuple[FailureKind | None, str]:
        parts = urlsplit(url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.close()
        return None, "connected"


def said_by(error: BaseException, kind: FailureKind, timeout_s: float) -> str:
    """Say in a few words what happened; the kernel's own words only where they add something."""
    match kind:
        case FailureKind.TIMEOUT:
            return f"no answer within {timeout_s:g} s"
        case FailureKind.REFUSED:
            return "connection refused"
        case FailureKind.RESET:
            return "connection reset"
        case _:
            return str(error) or type(error).__name__
