"""The course of one call: who is asked, how long it is waited for, who is asked beside it, which answer is taken.

While nothing goes wrong it is one request in the caller's own task and one timer. Only when the provider is late does
a second request begin, in a task of its own; the first good answer ends the other.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.catalogue import Key, Target
from reanimate.gateway.llm.endpoints import endpoint_at
from reanimate.gateway.llm.failover.asking import AttemptFailed
from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.budget import full_jitter
from reanimate.gateway.llm.failover.candidates import Candidates
from reanimate.gateway.llm.failover.health import NOBODY_THERE, SILENCE, Line
from reanimate.gateway.llm.failover.hedging import Hedging
from reanimate.gateway.llm.failover.lateness import Lateness
from reanimate.gateway.llm.failover.opened import Opened
from reanimate.gateway.llm.failover.shared import Shared
from reanimate.gateway.llm.failover.trial import Trial, ask
from reanimate.gateway.llm.failover.verdict import AllFailed, Tried, all_failed, passed_on, why_not
from reanimate.gateway.llm.failover.waiting import Waiting
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.wire.outgoing import Outgoing, Refusal

__all__ = ["Build", "Course"]

Build = Callable[[Call, Target, Key | None], Outgoing | Refusal]

_RETRY_BASE_S = 0.02
_NOBODY: frozenset[str] = frozenset()


class _Superseded(Exception):
    """Another answer was faster, or nobody waits any more."""


class Course:
    """One call on its way."""

    __slots__ = (
        "_build",
        "_call",
        "_candidates",
        "_closed",
        "_final",
        "_hedging",
        "_here",
        "_left",
        "_loop",
        "_pending",
        "_purpose",
        "_retry",
        "_shared",
        "_tasks",
        "_tried",
        "_waiting",
        "_won",
    )  # fmt: skip

    def __init__(self, shared: Shared, call: Call, build: Build, candidates: Candidates, purpose: str) -> None:
        self._shared = shared
        self._loop = shared.loop
        self._call = call
        self._build = build
        self._candidates = candidates
        self._purpose = purpose
        left = call.route.settings.attempts - len(call.attempts)
        self._left = max(left, 1) if purpose == "continuation" else left
        self._pending: list[Trial] = []
        self._here: Trial | None = None
        """The request that is underway in the caller's own task."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tried: list[Tried] = []
        self._retry: Line | None = None
        self._final: tuple[Target, Failure] | None = None
        """A refusal that nobody else would decide otherwise."""
        self._won: Opened | None = None
        self._waiting = Waiting(shared.loop, shared.health.time, call.deadline)
        self._hedging = Hedging(shared, call, self._pending, self._hedge)
        self._closed = False

    async def run(self) -> Opened:
        """Return the first good answer. Whatever comes of it, `close` is called then.

        Raises:
            AllFailed: there is none.
        """
        purpose = self._purpose
        while True:
            if self._won is not None:
                return self._won
            if self._final is not None:
                raise passed_on(self._final[0].name, self._final[1])
            now = self._shared.health.time()
            if (line := self._retry) is not None and not self._pending:
                self._retry = None
                await self._ask_again(line)
                continue
            if self._pending:
                await self._waiting.wait()
                continue
            picked = self._pick(now, _NOBODY)
            if picked is not None:
                await self._ask_here(*picked, purpose)
                purpose = "next" if purpose == "first" else purpose
                continue
            if self._left > 0 and await self._waiting.hope(self._shared, self._candidates):
                continue
            if (pause := self._worth_waiting(now)) is None:
                raise self._give_up(now)
            await self._waiting.pause(pause)
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
        await self._waiting.pause(full_jitter(random.random(), 0, base_s=_RETRY_BASE_S, cap_s=_RETRY_BASE_S))
        out = self._build(self._call, line.target, line.key)
        if line.breaker.standing is Standing.CLOSED and isinstance(out, Outgoing):
            await self._ask_here(line, out, "retry")
        else:
            self._candidates.is_done(line.target)

    def wake(self) -> None:
        """Look at what has happened."""
        self._waiting.wake()

    # Asking

    def _begin(self, line: Line, purpose: str) -> Trial:
        settings = self._call.route.settings
        stream = self._call.prompt.stream
        now = self._shared.health.time()
        needs = self._call.prompt.needs
        lateness = Lateness(settings, line.state.latency(stream).p95, now, self._call.deadline, stream=stream)
        tokens = needs.input_tokens + needs.output_tokens
        one = Trial(self._shared, line, purpose, lateness, stream=stream, tokens=tokens)
        self._left -= 1
        self._candidates.is_asked(line)
        self._call.attempts.append(one.attempt)
        self._pending.append(one)
        if purpose != "retry":
            line.state.retries.asked()
        self._hedging.arm(lateness.due, now)
        return one

    async def _ask_here(self, line: Line, out: Outgoing, purpose: str) -> None:
        """Ask in the caller's own task. Afterwards there is an answer, or a failure is written down."""
        one = self._here = self._begin(line, purpose)
        try:
            opened = await ask(self._shared, self._call, one, out)
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
        one = self._begin(line, self._purpose if self._purpose == "continuation" else "hedge")
        task = self._loop.create_task(self._beside(one, out))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beside(self, one: Trial, out: Outgoing) -> None:
        try:
            opened = await ask(self._shared, self._call, one, out)
        except AttemptFailed as failed:
            if not self._closed:
                self._failed(one, failed.failure)
                if self._here is not None and self._final is None:
                    self._hedge(self._here)
        except _Superseded:
            pass
        else:
            self._take(one, opened)
        finally:
            if one in self._pending:  # it ended as nothing should: nobody is to wait for it
                self._pending.remove(one)
                one.end(None)
            self._interrupt()

    def _interrupt(self) -> None:
        """Have the caller's own task look at what has happened."""
        here = self._here
        if here is not None and not here.ended and (self._won is not None or self._final is not None):
            self._leave(here)
        self.wake()

    # What comes of it

    def _take(self, one: Trial, opened: Opened) -> None:
        """A good answer: the first one is taken."""
        now = self._shared.health.time()
        if self._won is not None or self._final is not None or self._closed:
            self._leave(one)
            return
        attempt, line = one.attempt, one.line
        self._won = opened
        self._pending.remove(one)
        attempt.served = True
        line.state.latency(opened.reader is not None).add(now - attempt.began)
        if opened.reader is not None:
            attempt.first_token_at = now
            self._shared.health.heard(line, now)
            opened.on_finished = one.finish
        else:
            answer = opened.answer
            if answer is not None:
                attempt.usage = answer.usage
                attempt.ended_by(answer.finish, bool(answer.text or answer.tool_calls), answer.refused)
            self._shared.health.succeeded(line, now)
            one.end(attempt.usage)
        for other in tuple(self._pending):
            self._leave(other)
        self._note_degraded(line)
        self._call.degraded.extend(f"asked without {what}" for what in opened.left_out)

    def _note_degraded(self, line: Line) -> None:
        """Say for the caller why it was not the first choice that answered."""
        first = self._candidates.first
        if first is not None and first.name != line.target.name and self._purpose == "first":
            known = self._shared.health.of(first).lines[0].why
            self._call.degraded.append(why_not(first.name, self._call.attempts, known))

    def _leave(self, one: Trial) -> None:
        """Do not wait for this one any longer."""
        if one in self._pending:
            self._pending.remove(one)
        if self._won is not None:
            one.lose(self._call.prompt.needs.input_tokens)
        else:
            one.end(None)
        one.response.abort(_Superseded())

    def _failed(self, one: Trial, failure: Failure) -> None:
        """A provider failed: what follows depends on what helps."""
        now = self._shared.health.time()
        line, target = one.line, one.line.target
        if one in self._pending:
            self._pending.remove(one)
        one.attempt.failure = failure
        if failure.status is not None:
            one.attempt.status = failure.status
        one.end(Usage() if failure.status is not None else None)
        self._shared.health.failed(line, failure, one.attempt.began, now)
        endpoint = self._call.prompt.endpoint
        if failure.kind == "bad_request" and endpoint_at(endpoint, target.provider) is not endpoint:
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

    def _may_retry(self, one: Trial, failure: Failure) -> bool:
        """Say whether this is a lone failure, which may be over at once."""
        return (
            one.attempt.purpose != "retry"
            and one is self._here
            and not self._pending
            and self._left > 0
            and failure.retry_after_s is None
            and one.line.breaker.standing is Standing.CLOSED
            and self._shared.health.time() < self._call.deadline
            and one.line.state.retries.spend()
        )

    # Asking a second one

    def _hedge(self, one: Trial) -> None:
        """Ask a second provider."""
        one.lateness.hedged = True
        if not self._call.route.settings.hedge or self._closed or self._won is not None:
            return
        asked = frozenset(other.line.target.provider.name for other in self._pending)
        if (picked := self._pick(self._shared.health.time(), asked)) is not None:
            self._ask_beside(*picked)

    # The end

    def _give_up(self, now: float) -> AllFailed:
        tried = list(self._tried)
        names = {one.target for one in tried}
        for line in self._candidates.open_lines():
            if line.why is not None and line.name not in names:
                pause = max(line.breaker.probe_at - now, 0.0)
                tried.append(Tried(line.name, line.why, asked=False, pause_s=pause))
        return all_failed(self._call.route.name, tried, self._candidates.unfit, late=now >= self._call.deadline)

    def close(self) -> None:
        """Nobody waits any more: end what is underway."""
        self._closed = True
        self._hedging.close()
        for one in tuple(self._pending):
            self._leave(one)
