"""What the first process shares with the others: switches, holds of rules, the standing of providers, and figures.

It decides. A worker that sees a provider fail says so; what follows from it is told to all of them from here, and
probes are made here only. What a worker counts is added to what is counted here.
"""

from collections.abc import Coroutine, Mapping
from typing import Any

import orjson

from reanimate.gateway.llm.accounts.sharing import line_of, said_of, take_report
from reanimate.gateway.llm.failover.health import Change
from reanimate.gateway.llm.plane import LlmPlane
from reanimate.gateway.processes.channel import Channel, Message
from reanimate.gateway.processes.crew import Crew
from reanimate.gateway.switchboard import Switchboard
from reanimate.gateway.vector.plane import VectorPlane
from reanimate.switches.document import Claim

__all__ = ["First"]


class First:
    """The first process's side."""

    def __init__(self, llm: LlmPlane, vector: VectorPlane, switchboard: Switchboard, processes: int) -> None:
        self._llm = llm
        self._vector = vector
        self._switchboard = switchboard
        self._crew = Crew(processes - 1, greet=self._greet, hear=self._hear)
        llm.health.on_change.append(self._line_changed)
        llm.switches.on_hold.append(self._held)
        switchboard.on_obeyed.append(self._obeyed)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what keeps the others, until it is cancelled."""
        return self._crew.background()

    def read_settings(self) -> None:
        """Have the others read the settings again, changed or not."""
        self._crew.say({"say": "settings"})

    async def refresh(self) -> None:
        """Have what all processes counted up to this moment."""
        self._llm.others = [answer["now"] for answer in await self._crew.ask("now")]

    async def call(self, call_id: str) -> bytes | None:
        """Return the record of a call that another process answered."""
        for answer in await self._crew.ask("call", id=call_id):
            if answer["call"] is not None:
                return orjson.dumps(answer["call"])
        return None

    async def failed_calls(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest calls that failed in the others."""
        return [call for answer in await self._crew.ask("failed", limit=limit) for call in answer["calls"]]

    def _greet(self, channel: Channel) -> None:
        """Tell a new process how things are."""
        if self._switchboard.document is not None:
            channel.say(_switches(self._switchboard.document.encode()))
        channel.say(_holds(self._llm.switches.own))
        for line in self._llm.health.lines():
            channel.say(said_of(line))

    def _hear(self, channel: Channel, message: Message) -> None:
        match message["say"]:
            case "counts":
                self._absorb(message)
            case "line" if (line := line_of(self._llm.health, message)) is not None:
                if not take_report(self._llm.health, line, message):
                    channel.say(said_of(line))

    def _absorb(self, counts: Message) -> None:
        self._llm.absorb(counts["llm"])
        self._vector.absorb(counts["vector"])

    def _line_changed(self, change: Change) -> None:
        self._crew.say(said_of(change.line))

    def _held(self, own: Mapping[str, tuple[Claim, ...]]) -> None:
        self._crew.say(_holds(own))

    def _obeyed(self, document: bytes) -> None:
        self._crew.say(_switches(document))


def _switches(document: bytes) -> Message:
    return {"say": "switches", "document": orjson.loads(document)}


def _holds(own: Mapping[str, tuple[Claim, ...]]) -> Message:
    held = {cause: [[claim.switch, claim.scope, claim.value] for claim in claims] for cause, claims in own.items()}
    return {"say": "holds", "own": held}
