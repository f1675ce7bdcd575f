"""Telling the watch at once what was seen: sent aside, never in the way of a request, dropped if it fails."""

import asyncio
from collections.abc import Callable, Mapping

import aiohttp

__all__ = ["Sender"]

_TIMEOUT_S = 0.3
_PER_SECOND = 5


class Sender:
    """At most five observations a second for each target and kind."""

    def __init__(self, session: aiohttp.ClientSession, watch_url: str, control_key: str) -> None:
        self._session = session
        self._url = f"{watch_url}/observations"
        self._headers = {"Authorization": f"Bearer {control_key}"}
        self._sent: dict[tuple[str, str], tuple[int, int]] = {}
        self._underway: set[asyncio.Task[None]] = set()
        self._time: Callable[[], float] = asyncio.get_running_loop().time

    def send(self, target: str, kind: str, body: Mapping[str, str | None]) -> None:
        """Send one observation aside."""
        second = int(self._time())
        last, count = self._sent.get((target, kind), (second, 0))
        count = count + 1 if last == second else 1
        self._sent[target, kind] = (second, count)
        if count > _PER_SECOND:
            return
        task = asyncio.get_running_loop().create_task(self._send({"target": target, "kind": kind, **body}))
        self._underway.add(task)
        task.add_done_callback(self._underway.discard)

    async def _send(self, body: Mapping[str, str | None]) -> None:
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._session.post(self._url, json=body, headers=self._headers) as answer,
            ):
                await answer.read()
        except (aiohttp.ClientError, OSError):
            # The watch probes by itself; this only makes it sooner. Without a watch there is nobody to tell.
            return

    async def close(self) -> None:
        """Drop what is underway."""
        for task in list(self._underway):
            task.cancel()
        await asyncio.gather(*self._underway, return_exceptions=True)
