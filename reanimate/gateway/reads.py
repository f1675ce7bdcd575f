"""A read: asked of one target, then of the next, until one answers as a healthy server would.

A target that hangs is not given up when the next one is asked: whichever answers first is taken, so a slow answer is
late but not lost. Only when every target that still owes an answer is known to be out does the client get an error.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from reanimate.gateway.breaker import Standing, Trouble
from reanimate.gateway.figures import Figures, Outcome
from reanimate.gateway.fleet import Fleet
from reanimate.gateway.request import ClientGone, Request
from reanimate.gateway.routing import Route
from reanimate.gateway.shares import Plan
from reanimate.gateway.switchboard import Switchboard
from reanimate.gateway.upstream import Answer, Attempt, TargetFailed, Upstream, missing_name

__all__ = ["Reads"]

_BODY_LIMIT = 16 * 1024 * 1024
"""A request body up to here is kept, so that it can be sent to another target."""
_TICK_S = 0.05
"""How often a read that waits looks up: has the client gone, is the target out, is it time to ask another."""
_LONGEST_S = 30.0
_SHORTLY = {
    Trouble.REFUSED: "{} refused",
    Trouble.RESET: "{} broke the connection",
    Trouble.CUT: "{} broke off within its answer",
    Trouble.TIMEOUT: "{} hung",
    Trouble.HTTP: "{} answered with an error",
    Trouble.MISSING: "collection missing on {}",
}
"""What the client reads in `X-Reanimate-Degraded`."""


@dataclass(slots=True)
class _Course:
    """What has happened to one read so far."""

    request: Request
    route: Route
    body: bytes | AsyncIterator[bytes]
    plan: Plan
    order: tuple[str, ...]
    asked: int = 0
    pending: list[Attempt] = field(default_factory=list)
    failures: list[tuple[str, TargetFailed]] = field(default_factory=list)


async def _first_of(tasks: Iterable[asyncio.Task[Answer]], timeout_s: float) -> None:
    """Return when one of the tasks is done, or after `timeout_s`. A fraction of the cost of `asyncio.wait`."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    timer = loop.call_later(timeout_s, wake)
    for task in tasks:
        task.add_done_callback(wake)
    try:
        await woken
    finally:
        timer.cancel()
        for task in tasks:
            task.remove_done_callback(wake)


def _judge(answer: Answer, route: Route) -> Answer:
    """Return an answer that may be passed on.

    Raises:
        TargetFailed: it is a 5xx, or says that the collection does not exist; another target may know better.
    """
    if answer.status >= 500:
        if answer.rest is not None:  # an error too large to be kept is not worth passing on
            answer.discard()
            raise TargetFailed(Trouble.HTTP, f"answered {answer.status}")
        raise TargetFailed(Trouble.HTTP, f"answered {answer.status}", answer)
    if (answer.status == 404 or answer.status == 200) and (name := missing_name(answer, route)) is not None:
        raise TargetFailed(Trouble.MISSING, f"has no collection {name}", answer)
    return answer


class Reads:
    """Answers reads."""

    def __init__(
        self, fleet: Fleet, upstream: Upstream, switchboard: Switchboard, figures: Figures, hang_limit_s: float
    ) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._switchboard = switchboard
        self._figures = figures
        self._hang_limit_s = hang_limit_s
        self._loop = asyncio.get_running_loop()

    async def handle(self, request: Request, route: Route) -> None:
        """Answer one read, and count how it went."""
        began = self._loop.time()
        outcome = Outcome.FAILED
        try:
            outcome = await self._answer(request, route)
        except ClientGone:
            outcome = Outcome.ABANDONED
        finally:
            self._figures.read(outcome, (self._loop.time() - began) * 1000)

    async def _answer(self, request: Request, route: Route) -> Outcome:
        plan = self._switchboard.plan(route.name)
        order = self._fleet.by_standing(plan.order(random.random()), route.name)
        body = await request.body(_BODY_LIMIT)
        course = _Course(request, route, body if body is not None else request.stream(), plan, order)
        if body is None:
            course.order = order[:1]  # too large to be kept, so it can be sent only once
        try:
            answer = await self._run(course)
        finally:
            for attempt in course.pending:
                _drop(attempt)
        if answer is None:
            return await self._give_up(course)
        return await self._pass_on(course, answer)

    async def _run(self, course: _Course) -> Answer | None:
        """Return the first answer that will do, or None when nobody has one."""
        deadline = self._loop.time() + _LONGEST_S
        self._ask_next(course)
        while course.pending:
            await _first_of([attempt.task for attempt in course.pending], _TICK_S)
            for attempt in [attempt for attempt in course.pending if attempt.task.done()]:
                course.pending.remove(attempt)
                answer = self._take(course, attempt)
                if answer is not None:
                    return answer
            if course.request.is_body_read and course.pending and course.request.gone().done():
                raise ClientGone
            now = self._loop.time()
            stalled = [attempt for attempt in course.pending if self._is_stalled(attempt, course.route, now)]
            if (
                len(stalled) == len(course.pending)
                and not self._ask_next(course)
                and self._is_hopeless(course, now > deadline)
            ):
                return None
        return None

    def _ask_next(self, course: _Course) -> bool:
        """Ask the next target in order; False if there is none left."""
        if course.asked >= len(course.order):
            return False
        target = self._fleet.targets[course.order[course.asked]]
        course.asked += 1
        attempt = Attempt(target, self._loop.time())
        attempt.task = self._loop.create_task(self._ask(attempt, course))
        course.pending.append(attempt)
        return True

    async def _ask(self, attempt: Attempt, course: _Course) -> Answer:
        self._figures.asked(attempt.target.name)
        try:
            answer = await self._upstream.ask(attempt, course.request, course.route, course.body)
        except TargetFailed as failure:
            if failure.trouble is not Trouble.RESET or not isinstance(course.body, bytes):
                raise
            # An idle connection may have been closed under us; a new one tells whether the server lives.
            answer = await self._upstream.ask(attempt, course.request, course.route, course.body)
        return _judge(answer, course.route)

    def _take(self, course: _Course, attempt: Attempt) -> Answer | None:
        """Take the result of a finished attempt: an answer, or a failure that is written down."""
        try:
            return attempt.task.result()
        except TargetFailed as failure:
            course.failures.append((attempt.target.name, failure))
            if failure.trouble is not Trouble.MISSING:
                self._figures.failed(attempt.target.name)
            if failure.answer is None and not attempt.accused:
                self._fleet.failed(attempt.target, course.route.name, failure.trouble, failure.detail)
        return None

    def _is_stalled(self, attempt: Attempt, route: Route, now: float) -> bool:
        """Say whether another target should be asked without waiting longer for this one."""
        if attempt.accused:
            return True
        silent_s = now - attempt.progress
        if silent_s >= self._hang_limit_s:
            attempt.accused = True
            self._figures.failed(attempt.target.name)
            detail = f"no answer within {self._hang_limit_s:g} s"
            self._fleet.failed(attempt.target, route.name, Trouble.TIMEOUT, detail)
            return True
        # Others have found out meanwhile that it hangs: no need to wait for the limit too.
        return silent_s >= _TICK_S and self._fleet.standing(attempt.target.name, route.name) is not Standing.UP

    def _is_hopeless(self, course: _Course, late: bool) -> bool:
        """Say whether to stop waiting, all having been asked: the time is up, or all that owe an answer are out."""
        if not late and not all(a.accused and self._fleet.is_out(a.target) for a in course.pending):
            return False
        for attempt in course.pending:
            course.failures.append((attempt.target.name, TargetFailed(Trouble.TIMEOUT, "no answer")))
        return True

    async def _pass_on(self, course: _Course, answer: Answer) -> Outcome:
        self._settle(course, answer)
        reason = self._why_degraded(course, answer)
        headers = [*answer.headers, (b"x-reanimate-target", answer.target.name.encode())]
        if reason is not None:
            headers.append((b"x-reanimate-degraded", reason.encode("ascii", "replace")))
        request = course.request
        await request.start(answer.status, headers)
        if answer.rest is None:
            await request.send(answer.body, more=False)
            return Outcome.ANSWERED if reason is None else Outcome.DEGRADED
        return await self._stream(course, answer, reason)

    async def _stream(self, course: _Course, answer: Answer, reason: str | None) -> Outcome:
        """Pass on an answer too large to be kept. If it breaks off, so does the client's connection."""
        request = course.request
        gone = request.gone() if request.is_body_read else None
        if answer.body:
            await request.send(answer.body, more=True)
        try:
            async with contextlib.aclosing(answer.remainder()) as remainder:
                async for chunk in remainder:
                    if gone is not None and gone.done():
                        return Outcome.ABANDONED
                    await request.send(chunk, more=True)
        except TargetFailed as failure:
            self._figures.failed(answer.target.name)
            self._fleet.failed(answer.target, course.route.name, failure.trouble, failure.detail)
            return Outcome.FAILED
        await request.send(b"", more=False)
        return Outcome.ANSWERED if reason is None else Outcome.DEGRADED

    def _settle(self, course: _Course, answer: Answer) -> None:
        """Tell what the good answer proves: who is well, and that what failed elsewhere failed there only."""
        name = course.route.name
        identity = self._upstream.identity(course.request)
        if answer.status < 400:
            self._fleet.answered(answer.target, name, identity)
        for target, failure in course.failures:
            if failure.answer is None or answer.status >= 400:
                continue
            if failure.trouble is Trouble.HTTP:
                self._fleet.broke(self._fleet.targets[target], name, failure.detail)
            elif name is not None and missing_name(failure.answer, course.route) == name:
                self._fleet.lost(self._fleet.targets[target], name)

    def _why_degraded(self, course: _Course, answer: Answer) -> str | None:
        """Return why this answer is not the primary's, or None if it is."""
        primary = self._fleet.primary.name
        if answer.target.name == primary:
            return None
        for target, failure in course.failures:
            if target == primary:
                return _SHORTLY[failure.trouble].format(primary)
        if any(attempt.target.name == primary for attempt in course.pending):
            return _SHORTLY[Trouble.TIMEOUT].format(primary)
        if primary in course.plan.held or course.plan.weights[0] < 100:
            return "switched by control plane"
        match self._fleet.standing(primary, course.route.name):
            case Standing.MISSING:
                return _SHORTLY[Trouble.MISSING].format(primary)
            case Standing.OUT if self._fleet.is_out(self._fleet.primary):
                trouble = self._fleet.health[primary].trouble or Trouble.TIMEOUT
                return f"{primary} is out: {_SHORTLY[trouble].format(primary)}"
            case _:
                return f"{primary} is passed over after failures"

    async def _give_up(self, course: _Course) -> Outcome:
        """Nobody has a good answer: pass on the most telling one, or say what was tried."""
        chosen = self._most_telling(course)
        if chosen is not None:
            headers = [*chosen.headers, (b"x-reanimate-target", chosen.target.name.encode())]
            await course.request.start(chosen.status, headers)
            await course.request.send(chosen.body, more=False)
            return Outcome.ANSWERED if chosen.status < 500 else Outcome.FAILED
        await course.request.refuse(503, self._account(course), retry_after_s=1)
        return Outcome.FAILED

    def _most_telling(self, course: _Course) -> Answer | None:
        """Return the failed answer that is fit to be passed on.

        "There is no such collection" is believed when all targets say so; from the primary alone only while nothing
        suggests that the collection was ever there. Else the client might take a lost collection for one to create.
        """
        missing = {target: f.answer for target, f in course.failures if f.trouble is Trouble.MISSING}
        if missing.keys() == self._fleet.targets.keys():
            return next(iter(missing.values()))
        for _, failure in course.failures:
            if failure.answer is not None and failure.trouble is Trouble.HTTP:
                return failure.answer
        said = missing.get(self._fleet.primary.name)
        return said if said is not None and not self._fleet.has_known(course.route.name) else None

    def _account(self, course: _Course) -> str:
        tried = [f"{target}: {failure.detail}" for target, failure in course.failures]
        tried += [f"{target}: held by the control plane, not asked" for target in course.plan.held]
        return "reanimate gateway: no vector target could answer this read (" + "; ".join(tried) + ")"


def _drop(attempt: Attempt) -> None:
    """End an attempt whose answer is not needed any more."""
    if not attempt.task.done():
        attempt.task.cancel()
    elif not attempt.task.cancelled() and attempt.task.exception() is None:
        attempt.task.result().discard()
