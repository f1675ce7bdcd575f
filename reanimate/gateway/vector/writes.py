"""A write, and what concerns one server: sent to the primary once, never to another, and never answered falsely."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import orjson

from reanimate.gateway.request import ClientGone, Request
from reanimate.gateway.vector.breaker import Trouble
from reanimate.gateway.vector.figures import Figures, Outcome
from reanimate.gateway.vector.fleet import Fleet
from reanimate.gateway.vector.protection import Protection
from reanimate.gateway.vector.routing import Act, Kind, Route
from reanimate.gateway.vector.switches import VectorSwitches
from reanimate.gateway.vector.totals import Totals
from reanimate.gateway.vector.upstream import Answer, Attempt, TargetFailed, Upstream, missing_name

__all__ = ["Writes"]

log = logging.getLogger("reanimate.gateway")

_KEPT_BODY = 1024 * 1024
"""A body up to here is taken in before it is sent, which is quicker; a larger one is streamed."""
_RETRY_AFTER_S = 2
_TICK_S = 0.1


class Writes:
    """Answers writes, and requests about the primary itself."""

    def __init__(
        self,
        fleet: Fleet,
        upstream: Upstream,
        switches: VectorSwitches,
        protection: Protection,
        figures: Figures,
        totals: Totals,
        hang_limit_s: float,
    ) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._switches = switches
        self._protection = protection
        self._figures = figures
        self._totals = totals
        self._hang_limit_s = hang_limit_s
        self._loop = asyncio.get_running_loop()

    async def handle(self, request: Request, route: Route) -> None:
        """Answer one write or one request about the primary; writes are counted."""
        outcome = Outcome.FAILED
        try:
            outcome = await self._answer(request, route)
        except ClientGone:
            outcome = Outcome.ABANDONED
        finally:
            if route.kind is Kind.WRITE:
                self._figures.write(outcome)
        if route.kind is Kind.WRITE and outcome is Outcome.ACKNOWLEDGED and route.name is not None:
            self._totals.count(route.name)

    async def _answer(self, request: Request, route: Route) -> Outcome:
        kept = await request.body(_KEPT_BODY)
        body: bytes | AsyncIterator[bytes] = kept if kept is not None else request.stream()
        refusal = await self._refusal(request, route, kept or b"")
        if refusal is not None:
            return await self._refuse(request, refusal)
        if route.act is Act.DROP:
            log.warning("%s asks to delete collection %s", request.client, route.name)
        primary = self._fleet.primary
        self._figures.asked(primary.name)
        attempt = Attempt(primary, self._loop.time())
        attempt.task = self._loop.create_task(self._upstream.ask(attempt, request, route, body))
        try:
            answer = await self._wait(attempt, request)
        except TargetFailed as failure:
            return await self._failed(request, route, failure)
        finally:
            attempt.task.cancel()
        return await self._pass_on(request, route, answer)

    async def _refusal(self, request: Request, route: Route, body: bytes) -> str | None:
        """Return why the primary must not be asked, or None."""
        primary = self._fleet.primary
        if self._fleet.is_out(primary):
            return f"{primary.name} is out ({self._fleet.health[primary.name].why}); nothing was sent"
        if route.kind is not Kind.WRITE:
            return None
        names = (None, *_names_in(body)) if route.act is Act.ALIASES else (route.name,)
        for name in names:
            if self._switches.holds_writes(primary.name, name):
                return f"writes to {name or primary.name} are held by the control plane; nothing was sent"
        if route.name is not None and await self._is_lost(route, route.name, self._upstream.identity(request)):
            return _lost(route.name, primary.name)
        return None

    async def _is_lost(self, route: Route, name: str, identity: list[tuple[str, str]]) -> bool:
        """Say whether this write would go to a collection that was lost. Asks only when there is reason to."""
        reason = route.act is Act.CREATE or name in self._fleet.health[self._fleet.primary.name].missing
        return reason and route.act is not Act.DROP and await self._protection.is_lost(name, identity)

    async def _wait(self, attempt: Attempt, request: Request) -> Answer:
        """Wait for the answer as long as the primary lives: a write may take its time.

        Raises:
            TargetFailed: there is none, or the primary was found out while it was awaited.
            ClientGone: nobody waits for it any more.
        """
        while True:
            await asyncio.wait((attempt.task,), timeout=_TICK_S)
            if attempt.task.done():
                return attempt.task.result()
            if request.is_body_read and request.gone().done():
                raise ClientGone
            silent_s = self._loop.time() - attempt.progress
            if silent_s < self._hang_limit_s or not request.is_body_read:
                continue
            if not attempt.accused:
                attempt.accused = True
                # A slow write is no failure. Probes tell soon whether the server still lives.
                self._fleet.wanted[attempt.target.name].set()
            elif self._fleet.is_out(attempt.target):
                raise TargetFailed(Trouble.TIMEOUT, f"no answer within {silent_s:.1f} s, and it is out")

    async def _failed(self, request: Request, route: Route, failure: TargetFailed) -> Outcome:
        primary = self._fleet.primary
        self._figures.failed(primary.name)
        self._fleet.failed(primary, route.name, failure.trouble, failure.detail)
        if failure.trouble is Trouble.REFUSED:
            return await self._refuse(request, f"{primary.name} is out ({failure.detail}); nothing was sent")
        status = 504 if failure.trouble is Trouble.TIMEOUT else 502
        await request.refuse(
            status,
            f"reanimate gateway: the outcome is unknown: {primary.name} {failure.detail}. "
            "It may or may not have been applied; it was not sent a second time",
        )
        return Outcome.FAILED

    async def _refuse(self, request: Request, why: str) -> Outcome:
        await request.refuse(503, f"reanimate gateway: {why}", retry_after_s=_RETRY_AFTER_S)
        return Outcome.REFUSED

    async def _pass_on(self, request: Request, route: Route, answer: Answer) -> Outcome:
        primary = self._fleet.primary
        if (
            route.kind is Kind.WRITE
            and answer.status == 404
            and route.name is not None
            and missing_name(answer, route) == route.name
            and await self._protection.is_held_elsewhere(route.name, self._upstream.identity(request))
        ):
            return await self._refuse(request, _lost(route.name, primary.name))
        if answer.status >= 500:
            self._figures.failed(primary.name)
            self._fleet.wanted[primary.name].set()
        elif answer.status < 300:
            self._fleet.answered(primary, route.name, self._upstream.identity(request))
        await request.start(answer.status, [*answer.headers, (b"x-reanimate-target", primary.name.encode())])
        if answer.rest is None:
            await request.send(answer.body, more=False)
        elif not await self._stream(request, route, answer):
            return Outcome.FAILED
        if answer.status >= 500:
            return Outcome.FAILED
        return Outcome.REJECTED if answer.status >= 300 else Outcome.ACKNOWLEDGED

    async def _stream(self, request: Request, route: Route, answer: Answer) -> bool:
        """Pass on a long answer, a snapshot for one; False if it broke off, and the client's connection with it."""
        gone = request.gone() if request.is_body_read else None
        if answer.body:
            await request.send(answer.body, more=True)
        try:
            async with contextlib.aclosing(answer.remainder()) as remainder:
                async for chunk in remainder:
                    if gone is not None and gone.done():
                        raise ClientGone
                    await request.send(chunk, more=True)
        except TargetFailed as failure:
            self._figures.failed(answer.target.name)
            self._fleet.failed(answer.target, route.name, failure.trouble, failure.detail)
            return False
        await request.send(b"", more=False)
        return True


def _lost(name: str, primary: str) -> str:
    return (
        f"protected collection {name} is missing on {primary} while a replica has it; recovery is due; "
        "nothing was changed"
    )


def _names_in(body: bytes) -> tuple[str, ...]:
    """Return every collection and alias that a request to change aliases names; none if it cannot be read."""
    try:
        actions = orjson.loads(body)["actions"]
        return tuple(
            str(value)
            for action in actions
            for fields in action.values()
            for key, value in fields.items()
            if key in ("alias_name", "old_alias_name", "new_alias_name", "collection_name")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()
