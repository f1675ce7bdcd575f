"""The course of one call: who is asked, how long it is waited for, who is asked beside it, which answer is taken.

While nothing goes wrong it is one request in the caller's own task and one timer. Only when the provider is late does
a second request begin, in a task of its own; the first good answer ends the other.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from reanimate.gateway.llm.asking import AttemptFailed, read_first, read_whole, send, upstream_endpoint
from reanimate.gateway.llm.breaker import Standing
from reanimate.gateway.llm.budget import full_jitter
from reanimate.gateway.llm.call import Attempt, Call, Usage
from reanimate.gateway.llm.candidates import Candidates
from reanimate.gateway.llm.catalogue import Key, Target
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.health import NOBODY_THERE, SILENCE, Line
from reanimate.gateway.llm.lateness import Lateness
from reanimate.gateway.llm.opened import Opened
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.verdict import AllFailed, Tried, all_failed, passed_on
from reanimate.gateway.llm.wire.outgoing import Outgoing, Refusal
from reanimate.gateway.llm.wire.scanners import scanner_for

if TYPE_CHECKING:
    from reanimate.gateway.llm.failover import Failover

__all__ = ["Build", "Course"]

Build = Callable[[Call, Target, Key | None], Outgoing | Refusal]

_RETRY_BASE_S = 0.02
_LAG_S = 0.02
"""A timer that comes this late was held up by ourselves: what has arrived meanwhile is looked at first."""
_LOOK_AGAIN_S = 0.005


class _Superseded(Exception):
    """Another answer was faster, or nobody waits any more."""


class Try:
    """One request that is underway."""

    __slots__ = ("attempt", "ended", "lateness", "line", "response", "tokens", "waits")

    def __init__(self, line: Line, purpose: str, lateness: Lateness, tokens: int) -> None:
        now = lateness.began
        self.line = line
        self.attempt = Attempt(line.target, line.key, now, purpose)
        self.lateness = lateness
        self.response = Response()
        self.tokens = tokens
        self.ended = False
        self.waits = False
        """Whether it is late, and another one is asked as soon as the provider is under suspicion."""


class Course:
    """One call on its way."""

    __slots__ = (
        "_build", "_call", "_candidates", "_closed", "_failover", "_final", "_here", "_lagged", "_left", "_loop",
        "_pending", "_purpose", "_retry", "_tasks", "_timer", "_timer_at", "_tried", "_waiter", "_won",
    )  # fmt: skip

    def __init__(self, failover: "Failover", call: Call, build: Build, candidates: Candidates, purpose: str) -> None:
        self._failover = failover
        self._loop = failover.loop
        self._call = call
        self._build = build
        self._candidates = candidates
        self._purpose = purpose
        self._left = call.route.settings.attempts
        self._pending: list[Try] = []
        self._here: Try | None = None
        """The request that is underway in the caller's own task."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tried: list[Tried] = []
        self._retry: Line | None = None
        self._final: tuple[Target, Failure] | None = None
        """A refusal that nobody else would decide otherwise."""
        self._won: Opened | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._lagged = False
        self._closed = False

    async def run(self) -> Opened:
        """Return the first good answer.

        Raises:
            AllFailed: there is none.
        """
        try:
            return await self._run()
        finally:
            self._close()

    async def _run(self) -> Opened:
        purpose = self._purpose
        while True:
            if self._won is not None:
                return self._won
            if self._final is not None:
                raise passed_on(self._final[0].name, self._final[1])
            now = self._loop.time()
            if (line := self._retry) is not None and not self._pending:
                self._retry = None
                await self._ask_again(line)
                continue
            if self._pending:
                await self._wait()
                continue
            picked = self._pick(now, frozenset())
            if picked is not None:
                await self._ask_here(*picked, purpose)
                purpose = "next" if purpose == "first" else purpose
                continue
            if (pause := self._worth_waiting(now)) is None:
                raise self._give_up(now)
            await self._pause(pause)
            self._candidates.again()

    # Who is asked

    def _pick(self, now: float, barred: frozenset[str]) -> tuple[Line, Outgoing] | None:
        """Return whom to ask now, and what to send there."""
        if self._left <= 0 or now >= self._call.deadline:
            return None
        while (line := self._candidates.next(now, barred)) is not None:
            out = self._build(self._call, line.target, line.key)
            if isinstance(out, Outgoing):
                return line, out
            self._candidates.cannot(line.target, f"cannot be asked: {out.reason}")
        return None

    def _worth_waiting(self, now: float) -> float | None:
        """Return how long to wait for somebody who is at a limit, if the call's time allows that."""
        if self._left <= 0:
            return None
        room = self._candidates.room_in(now)
        call = self._call
        until = min(call.deadline, call.began + call.route.settings.first_token_s)
        return room if room is not None and now + room < until else None

    async def _ask_again(self, line: Line) -> None:
        """Once more on the same line, quickly; unless others have found out meanwhile that it was no lone failure."""
        await self._pause(full_jitter(random.random(), 0, base_s=_RETRY_BASE_S, cap_s=_RETRY_BASE_S))
        out = self._build(self._call, line.target, line.key)
        if line.breaker.standing is Standing.CLOSED and isinstance(out, Outgoing):
            await self._ask_here(line, out, "retry")
        else:
            self._candidates.is_done(line.target)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for longer than the call has time."""
        handle = self._loop.call_later(min(seconds, max(self._call.deadline - self._loop.time(), 0.0)), self._wake)
        try:
            await self._wait()
        finally:
            handle.cancel()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Asking

    def _begin(self, line: Line, purpose: str) -> Try:
        settings = self._call.route.settings
        stream = self._call.prompt.stream
        now = self._loop.time()
        needs = self._call.prompt.needs
        lateness = Lateness(settings, line.state.latency(stream).p95, now, self._call.deadline, stream=stream)
        one = Try(line, purpose, lateness, needs.input_tokens + needs.output_tokens)
        self._left -= 1
        self._candidates.used.add(line)
        self._call.attempts.append(one.attempt)
        self._pending.append(one)
        if line.state.limits is not None:
            line.state.limits.begin(one.tokens, now)
        if purpose != "retry":
            line.state.retries.asked()
        self._arm(lateness.due)
        return one

    async def _ask_here(self, line: Line, out: Outgoing, purpose: str) -> None:
        """Ask in the caller's own task. Afterwards there is an answer, or a failure is written down."""
        one = self._here = self._begin(line, purpose)
        try:
            opened = await self._ask(one, out)
        except AttemptFailed as failed:
            self._failed(one, failed.failure)
        except _Superseded:
            pass
        else:
            self._take(one, opened)
        finally:
            self._here = None

    def _ask_beside(self, line: Line, out: Outgoing) -> None:
        """Ask in a task of its own, while another one is waited for."""
        one = self._begin(line, "hedge" if self._purpose == "first" else self._purpose)
        task = self._loop.create_task(self._beside(one, out))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beside(self, one: Try, out: Outgoing) -> None:
        try:
            opened = await self._ask(one, out)
        except AttemptFailed as failed:
            if not self._closed:
                self._failed(one, failed.failure)
                if self._here is not None and self._final is None:
                    self._hedge(self._here, self._loop.time())
        except _Superseded:
            return
        else:
            self._take(one, opened)
        self._interrupt()

    def _interrupt(self) -> None:
        """Have the caller's own task look at what has happened."""
        if (self._won is not None or self._final is not None) and self._here is not None:
            here = self._here
            self._lose(here)
            here.response.abort(_Superseded())
        self._wake()

    async def _ask(self, one: Try, out: Outgoing) -> Opened:
        call, target, response, attempt = self._call, one.line.target, one.response, one.attempt
        await send(self._failover.pools.of(target.provider), out, response)
        attempt.head_at = self._loop.time()
        attempt.status = response.status
        endpoint = upstream_endpoint(call.prompt, target.provider.wire)
        opened = Opened(attempt, target, one.line.key, response, response.status, response.headers)
        if call.prompt.stream:
            opened.reader, opened.first = await read_first(
                response,
                scanner_for(endpoint.shape, call.prompt.fields),
                idle_s=call.route.settings.idle_s,
                awaits_usage=endpoint.shape is Shape.CHAT and b'"include_usage"' in out.body,
            )
        else:
            whole = await read_whole(endpoint, response)
            opened.body, opened.answer = whole.body, whole.answer
            if endpoint is not call.prompt.endpoint and self._failover.translate is not None:
                opened.body = self._failover.translate(call, target, whole.answer)
        return opened

    # What comes of it

    def _take(self, one: Try, opened: Opened) -> None:
        """A good answer: the first one is taken."""
        now = self._loop.time()
        if self._won is not None or self._final is not None or self._closed:
            self._lose(one)
            one.response.abort()
            return
        attempt, line = one.attempt, one.line
        self._won = opened
        self._pending.remove(one)
        attempt.served = True
        line.state.latency(opened.reader is not None).add(now - attempt.began)
        if opened.reader is not None:
            attempt.first_token_at = now
            self._failover.health.heard(line, now)
            opened.on_finished = lambda opened, failure: self._finished(one, opened, failure)
        else:
            answer = opened.answer
            attempt.usage = answer.usage if answer is not None else None
            self._failover.health.succeeded(line, now)
            self._end(one, attempt.usage)
        for other in tuple(self._pending):
            self._lose(other)
            other.response.abort(_Superseded())
        self._mark_degraded(line.target)

    def _finished(self, one: Try, opened: Opened, failure: Failure | None) -> None:
        """A stream has ended, or was left by its caller."""
        now = self._loop.time()
        facts = opened.reader.facts if opened.reader is not None else None
        one.attempt.usage = facts.usage if facts is not None else None
        self._end(one, one.attempt.usage)
        if failure is not None:
            one.attempt.failure = failure
            self._failover.health.failed(one.line, failure, now)
        elif facts is not None and facts.finish is not None:
            self._failover.health.succeeded(one.line, now)

    def _end(self, one: Try, usage: Usage | None) -> None:
        if one.ended:
            return
        one.ended = True
        if one.waits:
            self._failover.waits_no_more(one.line, self)
        now = self._loop.time()
        one.attempt.ended = now
        if one.line.state.limits is not None:
            one.line.state.limits.end(one.tokens, usage.input_tokens + usage.output_tokens if usage else None, now)

    def _lose(self, one: Try) -> None:
        """Another one was faster: this one is not waited for, and what it cost is counted as far as it is known."""
        if one in self._pending:
            self._pending.remove(one)
        if one.ended:
            return
        one.attempt.lost_race = True
        one.attempt.usage = Usage(self._call.prompt.needs.input_tokens)
        state = one.line.state
        if one.line.breaker.standing is Standing.CLOSED:
            # It would have taken even longer: without this, who is always late would never be known to be slow.
            state.latency(self._call.prompt.stream).add(self._loop.time() - one.attempt.began)
        self._end(one, None)

    def _failed(self, one: Try, failure: Failure) -> None:
        """A provider failed: what follows depends on what helps."""
        now = self._loop.time()
        line, target = one.line, one.line.target
        if one in self._pending:
            self._pending.remove(one)
        one.attempt.failure = failure
        if failure.status is not None:
            one.attempt.status = failure.status
        self._end(one, Usage() if failure.status is not None else None)
        self._failover.health.failed(line, failure, now)
        if failure.kind == "bad_request" and target.provider.wire != self._call.prompt.endpoint.wire:
            # It may be the translation that it does not like.
            failure = replace(failure, help=Help.NEXT)
        pause = max(line.breaker.probe_at - now, 0.0) if line.breaker.standing is Standing.OPEN else None
        self._tried.append(Tried(line.name, failure, pause_s=pause))
        match failure.help:
            case Help.NONE:
                self._final = (target, failure)
            case Help.LARGER:
                self._candidates.is_done(target)
                self._candidates.is_too_small(target)
            case Help.RETRY if self._may_retry(one, failure):
                self._retry = line
            case Help.RETRY | Help.NEXT if failure.retry_after_s is None:
                self._candidates.is_done(target)
            case _:
                pass  # this line is held, and may be asked again when it has said so
        if failure.kind in SILENCE or failure.kind in NOBODY_THERE:
            self._candidates.is_silent(target)

    def _may_retry(self, one: Try, failure: Failure) -> bool:
        """Say whether this is a lone failure, which may be over at once."""
        return (
            one.attempt.purpose != "retry"
            and one is self._here
            and not self._pending
            and self._left > 0
            and failure.retry_after_s is None
            and one.line.breaker.standing is Standing.CLOSED
            and self._loop.time() < self._call.deadline
            and one.line.state.retries.spend()
        )

    # Lateness

    def _arm(self, due: float) -> None:
        """See to it that the timer comes at `due`, or before."""
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now - self._timer_at > _LAG_S and not self._lagged:
            self._lagged = True
            self._arm(now + _LOOK_AGAIN_S)
            return
        self._lagged = False
        for one in tuple(self._pending):
            if one.lateness.due <= now:
                self._look_at(one, now)
        if self._pending:
            self._arm(max(min(one.lateness.due for one in self._pending), now + 0.001))

    def _look_at(self, one: Try, now: float) -> None:
        """Something is due: it is late, another one may be asked, or it is given up."""
        lateness = one.lateness
        if (given_up := lateness.given_up(now, one.response)) is not None:
            one.response.abort(AttemptFailed(given_up))
            return
        if lateness.turns_late(now):
            self._failover.health.was_late(one.line, one.attempt.began, now)
        if lateness.may_be_hedged(now):
            suspect = lateness.hangs(now) or one.line.breaker.standing is not Standing.CLOSED
            if suspect or (lateness.first_look(now) and self._failover.hedges(self._call.route).spend()):
                self._hedge(one, now)
            elif not one.waits:
                one.waits = True
                self._failover.wait_for(one.line, self)
        lateness.next_due(now)

    def suspected(self, line: Line) -> None:
        """A line that this call waits for is under suspicion now: nobody needs to wait for it alone."""
        now = self._loop.time()
        for one in tuple(self._pending):
            if one.line is line and one.lateness.may_be_hedged(now):
                self._hedge(one, now)

    def _hedge(self, one: Try, now: float) -> None:
        """Ask a second provider."""
        one.lateness.hedged = True
        if not self._call.route.settings.hedge or self._closed or self._won is not None:
            return
        asked = frozenset(other.line.target.provider.name for other in self._pending)
        if (picked := self._pick(now, asked)) is not None:
            self._ask_beside(*picked)

    # The end

    def _mark_degraded(self, target: Target) -> None:
        first = self._candidates.first
        if first is None or first.name == target.name or self._purpose != "first":
            return
        why = next((one.failure.kind for one in self._tried if one.target.startswith(first.name)), None)
        if why is None:
            line = self._failover.health.of(first).lines[0]
            late = any(attempt.target.name == first.name and attempt.lost_race for attempt in self._call.attempts)
            why = "late" if late or line.why is None else line.why.kind
        self._call.degraded.append(f"{first.name}: {why}")

    def _give_up(self, now: float) -> AllFailed:
        tried = list(self._tried)
        names = {one.target for one in tried}
        for line in self._candidates.open_lines():
            if line.why is not None and line.name not in names:
                pause = max(line.breaker.probe_at - now, 0.0)
                tried.append(Tried(line.name, line.why, asked=False, pause_s=pause))
        return all_failed(self._call.route.name, tried, self._candidates.unfit, late=now >= self._call.deadline)

    def _close(self) -> None:
        """Nobody waits any more: end what is underway."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for one in tuple(self._pending):
            self._lose(one)
            one.response.abort(_Superseded())
