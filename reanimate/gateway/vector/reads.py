"""A read: who is asked, and what the client is told about the answer it gets, or about why it gets none."""

import asyncio
import contextlib
import random

from reanimate.gateway.request import ClientGone, Request
from reanimate.gateway.vector.breaker import Standing, Trouble
from reanimate.gateway.vector.figures import Figures, Outcome
from reanimate.gateway.vector.fleet import Fleet
from reanimate.gateway.vector.race import Course, Race
from reanimate.gateway.vector.routing import Route
from reanimate.gateway.vector.switches import VectorSwitches
from reanimate.gateway.vector.upstream import Answer, TargetFailed, Upstream, missing_name

__all__ = ["Reads"]

_BODY_LIMIT = 16 * 1024 * 1024
"""A request body up to here is kept, so that it can be sent to another target."""
_OFFLINE = "offline"
"""How old the answer is stands beside it, in `X-Reanimate-Snapshot-Age`."""
_SHORTLY = {
    Trouble.REFUSED: "{} refused",
    Trouble.RESET: "{} broke the connection",
    Trouble.CUT: "{} broke off within its answer",
    Trouble.TIMEOUT: "{} hung",
    Trouble.HTTP: "{} answered with an error",
    Trouble.MISSING: "collection missing on {}",
}
"""What the client reads in `X-Reanimate-Degraded`."""


class Reads:
    """Answers reads."""

    def __init__(
        self, fleet: Fleet, upstream: Upstream, switches: VectorSwitches, figures: Figures, hang_limit_s: float
    ) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._switches = switches
        self._figures = figures
        self._race = Race(fleet, upstream, figures, hang_limit_s)
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
        plan = self._switches.plan(route.name)
        order = self._fleet.by_standing(plan.order(random.random()), route.name)
        body = await request.body(_BODY_LIMIT)
        course = Course(request, route, body if body is not None else request.stream(), plan, order)
        if body is None:
            course.order = order[:1]  # too large to be kept, so it can be sent only once
        else:
            course.last_resort = self._last_resort(route.name)
        answer = await self._race.run(course)
        if answer is None and course.last_resort:
            answer = await self._race.run_last(course)
        if answer is None:
            return await self._give_up(course)
        return await self._pass_on(course, answer)

    def _last_resort(self, name: str | None) -> tuple[str, ...]:
        """Return the offline standbys that the switches allow: they answer when nobody else can, and never before."""
        return tuple(one.name for one in self._fleet.offline if self._switches.bound(one.name, name) > 0)

    async def _pass_on(self, course: Course, answer: Answer) -> Outcome:
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

    async def _stream(self, course: Course, answer: Answer, reason: str | None) -> Outcome:
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

    def _settle(self, course: Course, answer: Answer) -> None:
        """Tell what the good answer proves: who is well, and that what failed elsewhere failed there only."""
        name = course.route.name
        identity = self._upstream.identity(course.request)
        if answer.status < 400:
            self._fleet.answered(answer.target, name, identity)
        if answer.target.is_offline:
            return  # what an old copy still holds proves nothing against the others
        for target, failure in course.failures:
            if failure.answer is None or answer.status >= 400:
                continue
            if failure.trouble is Trouble.HTTP:
                self._fleet.broke(self._fleet.targets[target], name, failure.detail)
            elif name is not None and missing_name(failure.answer, course.route) == name:
                self._fleet.lost(self._fleet.targets[target], name)

    def _why_degraded(self, course: Course, answer: Answer) -> str | None:
        """Return why this answer is not the primary's, or None if it is."""
        primary = self._fleet.primary.name
        if answer.target.name == primary:
            return None
        if answer.target.is_offline:
            return _OFFLINE
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

    async def _give_up(self, course: Course) -> Outcome:
        """Nobody has a good answer: pass on the most telling one, or say what was tried."""
        chosen = self._most_telling(course)
        if chosen is not None:
            headers = [*chosen.headers, (b"x-reanimate-target", chosen.target.name.encode())]
            await course.request.start(chosen.status, headers)
            await course.request.send(chosen.body, more=False)
            return Outcome.ANSWERED if chosen.status < 500 else Outcome.FAILED
        await course.request.refuse(503, self._account(course), retry_after_s=1)
        return Outcome.FAILED

    def _most_telling(self, course: Course) -> Answer | None:
        """Return the failed answer that is fit to be passed on.

        "There is no such collection" is believed when all targets say so; from the primary alone only while nothing
        suggests that the collection was ever there. Else the client might take a lost collection for one to create.
        """
        missing = {target: f.answer for target, f in course.failures if f.trouble is Trouble.MISSING}
        if missing.keys() >= {target.name for target in self._fleet.online}:
            return next(iter(missing.values()))
        for _, failure in course.failures:
            if failure.answer is not None and failure.trouble is Trouble.HTTP:
                return failure.answer
        said = missing.get(self._fleet.primary.name)
        return said if said is not None and not self._fleet.has_known(course.route.name) else None

    def _account(self, course: Course) -> str:
        tried = [f"{target}: {failure.detail}" for target, failure in course.failures]
        tried += [f"{target}: held by the control plane, not asked" for target in course.plan.held]
        return "reanimate gateway: no vector target could answer this read (" + "; ".join(tried) + ")"
