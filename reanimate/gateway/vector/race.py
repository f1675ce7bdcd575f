"""Asking one target after the other until one answers as a healthy server would.

A target that hangs is not given up when the next one is asked: whichever answers first is taken, so a slow answer is
late but not lost. Only when every target that still owes an answer is known to be out is there none.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from reanimate.gateway.request import ClientGone, Request
from reanimate.gateway.vector.breaker import Standing, Trouble
from reanimate.gateway.vector.figures import Figures
from reanimate.gateway.vector.fleet import Fleet
from reanimate.gateway.vector.routing import Route
from reanimate.gateway.vector.shares import Plan
from reanimate.gateway.vector.upstream import Answer, Attempt, TargetFailed, Upstream, missing_name

__all__ = ["Course", "Race"]

_TICK_S = 0.05
"""How often a read that waits looks up: has the client gone, is the target out, is it time to ask another."""
_LONGEST_S = 30.0
_PATIENCE = 3
"""So many times the limit a server that lives may be silent about one name while an offline standby could answer."""


@dataclass(slots=True)
class Course:
    """What has happened to one read so far."""

    request: Request
    route: Route
    body: bytes | AsyncIterator[bytes]
    plan: Plan
    order: tuple[str, ...]
    last_resort: tuple[str, ...] = ()
    """Offline standbys, for when nobody in `order` can answer."""
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


class Race:
    """Runs reads."""

    def __init__(self, fleet: Fleet, upstream: Upstream, figures: Figures, hang_limit_s: float) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._figures = figures
        self._hang_limit_s = hang_limit_s
        self._loop = asyncio.get_running_loop()

    async def run(self, course: Course) -> Answer | None:
        """Return the first answer that will do, or None when nobody has one; `course` tells what happened.

        Raises:
            ClientGone: the client left.
        """
        try:
            return await self._run(course)
        finally:
            for attempt in course.pending:
                _drop(attempt)

    async def run_last(self, course: Course) -> Answer | None:
        """Ask the last resort, after `run` found nobody."""
        course.order, course.last_resort, course.asked, course.pending = course.last_resort, (), 0, []
        return await self.run(course)

    async def _run(self, course: Course) -> Answer | None:
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
            stalled = [
                attempt for attempt in course.pending if self._is_stalled(attempt, course.request, course.route, now)
            ]
            if (
                len(stalled) == len(course.pending)
                and not self._ask_next(course)
                and self._is_hopeless(course, now, late=now > deadline)
            ):
                return None
        return None

    def _ask_next(self, course: Course) -> bool:
        """Ask the next target in order; False if there is none left."""
        if course.asked >= len(course.order):
            return False
        target = self._fleet.targets[course.order[course.asked]]
        course.asked += 1
        attempt = Attempt(target, self._loop.time())
        attempt.task = self._loop.create_task(self._ask(attempt, course))
        course.pending.append(attempt)
        return True

    async def _ask(self, attempt: Attempt, course: Course) -> Answer:
        self._figures.asked(attempt.target.name)
        try:
            answer = await self._upstream.ask(attempt, course.request, course.route, course.body)
        except TargetFailed as failure:
            if failure.trouble is not Trouble.RESET or not isinstance(course.body, bytes):
                raise
            # An idle connection may have been closed under us; a new one tells whether the server lives.
            answer = await self._upstream.ask(attempt, course.request, course.route, course.body)
        return _judge(answer, course.route)

    def _take(self, course: Course, attempt: Attempt) -> Answer | None:
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

    def _is_stalled(self, attempt: Attempt, request: Request, route: Route, now: float) -> bool:
        """Say whether another target should be asked without waiting longer for this one."""
        if attempt.accused:
            return True
        if not request.is_body_read:  # it has not heard the whole question yet
            attempt.progress = now
            return False
        silent_s = now - attempt.progress
        if silent_s >= self._hang_limit_s:
            attempt.accused = True
            self._figures.failed(attempt.target.name)
            detail = f"no answer within {self._hang_limit_s:g} s"
            self._fleet.failed(attempt.target, route.name, Trouble.TIMEOUT, detail)
            return True
        # Others have found out meanwhile that it hangs: no need to wait for the limit too.
        return silent_s >= _TICK_S and self._fleet.standing(attempt.target.name, route.name) is not Standing.UP

    def _is_hopeless(self, course: Course, now: float, *, late: bool) -> bool:
        """Say whether to stop waiting, all having been asked: the time is up, or all that owe an answer are out."""
        if not late and not all(self._is_given_up(attempt, course, now) for attempt in course.pending):
            return False
        for attempt in course.pending:
            course.failures.append((attempt.target.name, TargetFailed(Trouble.TIMEOUT, "no answer")))
        return True

    def _is_given_up(self, attempt: Attempt, course: Course, now: float) -> bool:
        """Say whether nothing is to be expected of a target any more. With a last resort that is seen sooner."""
        out = self._fleet.is_out(attempt.target)
        if not course.last_resort:
            return attempt.accused and out
        silent_s = now - attempt.progress
        stuck = self._fleet.standing(attempt.target.name, course.route.name) is Standing.OUT
        return out or (stuck and silent_s >= _PATIENCE * self._hang_limit_s)


def _drop(attempt: Attempt) -> None:
    """End an attempt whose answer is not needed any more."""
    if not attempt.task.done():
        attempt.task.cancel()
    elif not attempt.task.cancelled() and attempt.task.exception() is None:
        attempt.task.result().discard()
