"""The other processes: started by the first, started again when they die, ended with it."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from reanimate.deathsig import die_with_parent
from reanimate.gateway.processes.channel import Channel, Message, open_channel

__all__ = ["Crew"]

log = logging.getLogger("reanimate.gateway")

_ANSWER_WITHIN_S = 1.0
_END_WITHIN_S = 5.0
_SHORT_S = 5.0
"""Who lives for less is started again later and later."""
_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0


class Crew:
    """All workers, as the first process sees them."""

    def __init__(
        self, size: int, *, greet: Callable[[Channel], None], hear: Callable[[Channel, Message], None]
    ) -> None:
        """`greet` tells a new worker how things are; `hear` gets what a worker says without being asked."""
        self._size = size
        self._greet = greet
        self._hear = hear
        self._channels: set[Channel] = set()
        self._ready: set[Channel] = set()
        """Those that have begun to listen."""
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what keeps each worker, until it is cancelled."""
        return [self._keep(number) for number in range(1, self._size + 1)]

    def say(self, message: Message) -> None:
        """Tell all of them."""
        for channel in self._channels:
            channel.say(message)

    async def ask(self, what: str, **more: Any) -> list[Message]:
        """Return what they answer; who does not within a second is left out."""
        asked = {}
        for channel in self._ready:
            number = next(self._numbers)
            asked[number] = self._asked[number] = asyncio.get_running_loop().create_future()
            channel.say({"ask": what, "number": number, **more})
        if not asked:
            return []
        done, _ = await asyncio.wait(asked.values(), timeout=_ANSWER_WITHIN_S)
        for number in asked:
            del self._asked[number]
        return [future.result() for future in done]

    async def _keep(self, number: int) -> None:
        """Run one worker, again and again."""
        loop, pause = asyncio.get_running_loop(), 0.0
        while True:
            began = loop.time()
            code = await self._run(number)
            pause = 0.0 if loop.time() - began > _SHORT_S else min(max(pause * 2, _PAUSE_S), _LONGEST_PAUSE_S)
            log.error("process %d of the gateway ended (%d); its requests are lost, it is started again", number, code)
            await asyncio.sleep(pause)

    async def _run(self, number: int) -> int:
        """Run one worker once; return its exit code. When this is cancelled, it is ended."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "reanimate.gateway", "--worker", str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), preexec_fn=die_with_parent(signal.SIGTERM),
            )  # fmt: skip
        channel = await open_channel(ours, self._heard, self._lost)
        self._channels.add(channel)
        self._greet(channel)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        finally:
            channel.close()

    def _lost(self, channel: Channel) -> None:
        self._channels.discard(channel)
        self._ready.discard(channel)

    def _heard(self, channel: Channel, message: Message) -> None:
        self._ready.add(channel)
        if (number := message.get("answer")) is None:
            self._hear(channel, message)
        elif (future := self._asked.get(number)) is not None and not future.done():
            future.set_result(message)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask a worker to end, and make it end."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_END_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
