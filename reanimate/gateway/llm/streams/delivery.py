"""A streamed answer on its way to the caller: passed on as it comes, gone on with elsewhere when it breaks off.

The head goes out with the first bytes that bind. The name of a tool alone binds nobody yet, and the arguments may take
long to come: when the stream breaks off in between, another provider is asked anew, as if nothing had been.
"""

import asyncio

from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.failover.course import Build
from reanimate.gateway.llm.failover.failover import Failover
from reanimate.gateway.llm.failover.opened import Opened
from reanimate.gateway.llm.failover.verdict import AllFailed, passed_on
from reanimate.gateway.llm.failures import Failure, Help, Rejected
from reanimate.gateway.llm.marks import marks
from reanimate.gateway.llm.streams.continuing.reasons import why_not
from reanimate.gateway.llm.streams.continuing.request import Continuation
from reanimate.gateway.llm.streams.continuing.seam import NotWhole, Seam
from reanimate.gateway.llm.streams.continuing.seams import seam_for
from reanimate.gateway.llm.streams.continuing.stitch import Unstitchable
from reanimate.gateway.llm.streams.leg import Leg
from reanimate.gateway.llm.streams.reader import StreamBroken
from reanimate.gateway.llm.wire.events import Event, EventKind, Facts
from reanimate.gateway.llm.wire.outgoing import asks_for_usage, outgoing

__all__ = ["Delivery"]

_HEAD = (b"cache-control", b"no-cache")
_KEPT_AT_MOST = 2 * 1024 * 1024
"""A longer answer is not collected for the cache."""
_HELD_S = 2.0
"""For so long the name of a tool is held while signs of life come: somebody may show it, or wait for any sign."""
_MAY_BE_ASKED_AGAIN = frozenset(("reset", "cut", "no_finish", "malformed_event", "error_event"))
"""How a provider may break off and be asked to go on itself, when there is nobody else. Not one that fell silent."""


class Delivery:
    """Delivers streams."""

    def __init__(self, failover: Failover) -> None:
        self._failover = failover
        self._loop = asyncio.get_running_loop()

    async def deliver(self, call: Call, opened: Opened) -> Opened:
        """Send the whole answer, from one provider or several; return what it was begun with.

        Raises:
            Rejected: it broke off and cannot be gone on with; the head was sent already, and a part of the answer.
            asyncio.CancelledError: the caller left, or the call was stopped.
        """
        late = Rejected(504, "deadline", f"the time of route {call.route.name!r} was up before the answer was complete")
        timer = self._loop.call_at(call.deadline, call.end, late)
        try:
            return await _Stream(call, self._failover).run(opened)
        finally:
            timer.cancel()


class _Stream:
    """One answer."""

    __slots__ = (
        "_broken", "_call", "_failover", "_first_break", "_heard", "_hides_usage", "_leg", "_lost", "_told", "_used"
    )  # fmt: skip

    def __init__(self, call: Call, failover: Failover) -> None:
        prompt = call.prompt
        self._call = call
        self._failover = failover
        self._hides_usage = prompt.endpoint.shape is Shape.CHAT and not asks_for_usage(prompt)
        self._heard = 0
        self._leg: Leg | None = None
        self._told = Facts()
        """What the caller knows of the answer."""
        self._used = Usage()
        """By the parts that have ended."""
        self._first_break: tuple[str, Failure] | None = None
        self._broken: set[str] = set()
        """Whose answers broke off."""
        self._lost: set[str] = set()
        """Of these, who is not asked to go on with it either."""

    async def run(self, opened: Opened) -> Opened:
        call = self._call
        try:
            failure = await self._begun(opened)
            while failure is not None:
                if call.request.started:
                    failure = await self._continued(failure)
                else:
                    opened = await self._open_anew(opened, failure)
                    failure = await self._begun(opened)
            return opened
        finally:
            # Whoever is still being read is left here: the caller has gone, or was told to stop.
            self._end_leg(None)
            call.usage += self._used

    async def _begun(self, opened: Opened) -> Failure | None:
        opened.attempt.served = True
        leg = self._leg = Leg(self._call, opened)
        return await self._pass_on(leg)

    async def _pass_on(self, leg: Leg) -> Failure | None:
        """Pass on what a provider gives, as it is; return why it broke off, None when it is complete."""
        call = self._call
        self._told = leg.facts
        try:
            events = leg.first()
            if not call.request.started:
                if leg.facts.tools:
                    events = await self._with_arguments(leg, events)
                await call.request.start(200, [*marks(call, provider=leg.opened.headers), _HEAD])
            while not leg.is_over:
                if data := _raw(events, self._hides_usage):
                    self._hear(data)
                    await call.request.send(data, more=True)
                events = await leg.next()
        except StreamBroken as broken:
            self._end_leg(broken.failure)
            return broken.failure
        await self._finish(_raw(events, self._hides_usage) + leg.end_mark())
        return None

    async def _with_arguments(self, leg: Leg, events: list[Event]) -> list[Event]:
        """Return the events with those that follow, until there is more in them than the names of tools.

        Raises:
            StreamBroken: it broke off before.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _HELD_S
        while _binds_nobody(leg.facts) and not leg.is_over and loop.time() < until:
            events = [*events, *await leg.next()]
        return events

    async def _open_anew(self, broken: Opened, failure: Failure) -> Opened:
        """Ask another provider, as the caller was given nothing yet.

        Raises:
            AllFailed: nobody answers.
        """
        call, name = self._call, broken.target.name
        broken.attempt.served = False
        self._used = Usage()
        if failure.help is Help.NONE:
            raise passed_on(name, failure)
        call.degraded.append(f"{name}: {failure.kind}")
        try:
            return await self._open(outgoing, "next")
        except AllFailed as failed:
            why = f"{name}: {failure.detail}; nobody else answers: {failed.message}"
            raise AllFailed(502, "all_failed", why, retry_after_s=failed.retry_after_s) from None

    async def _continued(self, failure: Failure) -> Failure | None:
        """Have another provider go on; return why it broke off too, None when the answer is complete.

        Raises:
            Rejected: nobody can go on.
        """
        continuation, opened = await self._open_continuation(failure)
        leg = self._leg = Leg(self._call, opened)
        if not self._told.id and not self._told.text_parts:
            return await self._pass_on(leg)
        seam = self._seam(leg, continuation)
        target = opened.target.name
        mark = f": reanimate continued by {target}\n\n".encode()
        try:
            events = leg.first()
            while True:
                data, problem = _stitched(seam, events)
                if data and mark:
                    self._call.degraded.append(f"continued by {target}")
                    await self._call.request.send(mark, more=True)
                    mark = b""
                if problem is not None:
                    await self._send(data)
                    raise problem
                if leg.is_over:
                    break
                await self._send(data)
                events = await leg.next()
            await self._finish(data + (b"" if self._told.complete else leg.end_mark()))
        except StreamBroken as broken:
            self._end_leg(broken.failure)
            return broken.failure
        except Unstitchable as error:
            leg.opened.attempt.served = not mark
            unfit = Failure("unstitchable", Help.NEXT, str(error), counts=False)
            self._end_leg(None)
            self._lost.add(target)
            leg.opened.attempt.failure = unfit
            return unfit
        except NotWhole as error:
            raise self._broken_off(failure, str(error)) from None
        return None

    async def _open_continuation(self, failure: Failure) -> tuple[Continuation, Opened]:
        call, told = self._call, self._told
        if (why := why_not(call, told, failure)) is not None:
            raise self._broken_off(failure, why)
        try:
            continuation = Continuation(call, told.text, len(told.text_parts))
            opened = await self._open(continuation.build, "continuation")
        except Unstitchable as error:
            raise self._broken_off(failure, str(error)) from None
        except AllFailed as failed:
            raise self._broken_off(failure, failed.message) from None
        opened.attempt.served = True
        return continuation, opened

    def _seam(self, leg: Leg, continuation: Continuation) -> Seam:
        stitch = continuation.stitch(leg.opened.target)
        return seam_for(self._call, self._told, leg.facts, stitch, self._used, shows_usage=not self._hides_usage)

    async def _open(self, build: Build, purpose: str) -> Opened:
        """Ask others to go on; where none can, those who broke off, unless they fell silent or did not fit."""
        call = self._call
        try:
            return await self._failover.open(call, build, exclude=frozenset(self._broken), purpose=purpose)
        except AllFailed:
            if self._broken == self._lost or len(call.attempts) >= call.route.settings.attempts:
                raise
        return await self._failover.open(call, build, exclude=frozenset(self._lost), purpose=purpose)

    def _end_leg(self, failure: Failure | None) -> None:
        leg, self._leg = self._leg, None
        if leg is None:
            return
        self._used += leg.usage
        leg.finished(failure)
        name = leg.opened.target.name
        self._broken.add(name)
        if failure is not None and self._first_break is None:
            self._first_break = (name, failure)
        if failure is not None and failure.kind not in _MAY_BE_ASKED_AGAIN:
            self._lost.add(name)

    def _broken_off(self, failure: Failure, why: str) -> Rejected:
        """Tell who broke off first, and why; of those who were to go on tells the list of attempts."""
        name, first = self._first_break or ("the provider", failure)
        return Rejected(502, "broken_off", f"the answer broke off: {name}: {first.detail}; not continued: {why}")

    async def _send(self, data: bytes) -> None:
        if data:
            self._hear(data)
            await self._call.request.send(data, more=True)

    def _hear(self, data: bytes) -> None:
        call = self._call
        if call.heard is not None:
            call.heard.append(data)
            self._heard += len(data)
            if self._heard > _KEPT_AT_MOST:
                call.heard = None

    async def _finish(self, data: bytes) -> None:
        call = self._call
        self._end_leg(None)
        call.was_answered()
        self._hear(data)
        await call.request.send(data, more=False)


def _binds_nobody(facts: Facts) -> bool:
    """Say whether there is nothing yet but the names of tools. What has none is run by the provider, and underway."""
    tools = any(call.is_whole or any(call.parts) or not call.name for call in facts.tools)
    return not tools and not any(facts.text_parts) and not facts.thinking and facts.welded is None


def _raw(events: list[Event], hides_usage: bool) -> bytes:
    if len(events) == 1 and not (hides_usage and events[0].kind is EventKind.USAGE):
        return events[0].raw
    return b"".join([event.raw for event in events if not hides_usage or event.kind is not EventKind.USAGE])


def _stitched(seam: Seam, events: list[Event]) -> tuple[bytes, Unstitchable | NotWhole | None]:
    """Return what is to be sent of these events, and what is wrong with the one behind."""
    parts = []
    for event in events:
        try:
            parts.append(seam.pass_on(event))
        except (Unstitchable, NotWhole) as error:
            return b"".join(parts), error
    return b"".join(parts), None
