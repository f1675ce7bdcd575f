"""What another process than the first does beside its requests: it obeys what it is told, and tells what it sees."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import orjson

from reanimate.gateway.llm.accounts.sharing import follow, line_of, said_of
from reanimate.gateway.llm.failover.health import Change
from reanimate.gateway.llm.plane import LlmPlane
from reanimate.gateway.processes.channel import Channel, Message, open_channel
from reanimate.gateway.switchboard import Switchboard
from reanimate.gateway.vector.plane import VectorPlane
from reanimate.switches.document import Claim

__all__ = ["Worker"]

_TELL_EVERY_S = 0.1
"""What is counted is told so often: as much is lost when the process is killed."""


class Worker:
    """The other side of `First`."""

    def __init__(
        self,
        llm: LlmPlane,
        vector: VectorPlane,
        switchboard: Switchboard,
        *,
        read_settings: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        """`ended` is called when the first process is gone."""
        self._llm = llm
        self._vector = vector
        self._switchboard = switchboard
        self._read_settings = read_settings
        self._ended = ended
        self._follows = False
        self._channel: Channel | None = None
        llm.health.on_change.append(self._line_changed)

    async def join(self, fd: int) -> None:
        """Open the way to the first process."""
        self._channel = await open_channel(socket.socket(fileno=fd), self._hear, lambda _: self._ended())
        self._channel.say({"say": "ready"})

    async def tell(self) -> None:
        """Tell what was counted, again and again, until cancelled; then the rest."""
        channel = self._channel
        assert channel is not None
        try:
            while True:
                await asyncio.sleep(_TELL_EVERY_S)
                if not channel.is_full:
                    channel.say({"say": "counts", **self._counts()})
        finally:
            channel.say({"say": "counts", **self._counts()})
            channel.close()

    def _counts(self) -> dict[str, Any]:
        return {"llm": self._llm.drain(), "vector": self._vector.drain()}

    def _hear(self, channel: Channel, message: Message) -> None:
        if (what := message.get("ask")) is not None:
            channel.say({"answer": message["number"], **self._answer(channel, what, message)})
            return
        match message["say"]:
            case "switches":
                self._switchboard.follow(orjson.dumps(message["document"]))
            case "holds":
                own = {cause: [Claim(*claim) for claim in claims] for cause, claims in message["own"].items()}
                self._llm.switches.hold(own)
            case "line" if (line := line_of(self._llm.health, message)) is not None:
                self._follows = True
                follow(self._llm.health, line, message)
                self._follows = False
            case "settings":
                self._read_settings()

    def _answer(self, channel: Channel, what: str, message: Message) -> dict[str, Any]:
        lookups = self._llm.observer.lookups
        match what:
            case "now":
                # Not in the answer: one that comes too late is not heard.
                channel.say({"say": "counts", **self._counts()})
                return {"now": self._llm.now_here()}
            case "call":
                record = lookups.get(message["id"])
                return {"call": orjson.loads(record) if record is not None else None}
            case _:
                return {"calls": lookups.failed(message["limit"])}

    def _line_changed(self, change: Change) -> None:
        if not self._follows and self._channel is not None:
            self._channel.say(said_of(change.line))
