"""Quotas of calls: reserved before a call is sent, settled when it is known what it used."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Target
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.quota.book import Book
from reanimate.gateway.llm.quota.lender import Lender
from reanimate.gateway.llm.quota.purse import METERS, Purse
from reanimate.gateway.llm.quota.purses import Plan, Purses
from reanimate.gateway.llm.quota.refusal import refusal
from reanimate.gateway.llm.quota.reservation import Amounts, Reservation, estimate
from reanimate.llm_settings import LlmSettings
from reanimate.quota.passes import PASS_HEADER, read_pass

__all__ = ["Quota", "Reservation"]

_SYNC_EVERY_S = 5.0
_CLOSE_WITHIN_S = 2.0
_PASS_HEADER = PASS_HEADER.encode()


Short = tuple[tuple[Purse, int], ...]
"""Purses without room, and how much a call needs of each."""


class _Waiter:
    """A call that waits for a lease, with the purses that have no room for it."""

    __slots__ = ("call", "future", "short")

    def __init__(self, call: Call, future: "asyncio.Future[Reservation]") -> None:
        self.call = call
        self.future = future
        self.short: Short = ()


class Quota:
    """All quotas of this gateway. Reserving does not leave the process while a lease has room."""

    def __init__(
        self,
        settings: LlmSettings,
        session: aiohttp.ClientSession,
        *,
        home: Path,
        web_url: str,
        control_key: str,
        gateway: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._currency = settings.currency
        self._key = control_key
        self._clock = clock
        self._book = Book(home)
        self._purses = Purses(settings, self._book)
        self._waiting: list[_Waiter] = []
        self._lender = Lender(
            session,
            self._purses,
            self._book,
            web_url=web_url,
            control_key=control_key,
            gateway=gateway,
            clock=clock,
            wishes=self._wishes,
            serve=self._serve,
        )

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the calls until it is cancelled."""
        return [self._lender.run(), self._keep()]

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            if self._purses.by_key:
                await asyncio.to_thread(self._book.sync)

    async def close(self) -> None:
        """Give back what is held, if the control plane listens, and close the book."""
        for purse in self._purses.by_key.values():
            purse.renewed_drawn, purse.asked_at, purse.wanted = purse.drawn, 0.0, False
        try:
            async with asyncio.timeout(_CLOSE_WITHIN_S):
                await self._lender.last_word()
        except TimeoutError:
            pass  # it runs out by itself
        for purse in self._purses.by_key.values():
            purse.leave_book(Book.loose())
        self._book.close()

    def configure(self, settings: LlmSettings) -> None:
        """Take other settings; what was used stays used."""
        self._currency = settings.currency
        self._purses.configure(settings)

    async def reserve(self, call: Call) -> Reservation:
        """Reserve what the call may use; suspended only when no lease has room for it.

        Raises:
            Rejected: 429, `quota_exhausted`.
        """
        found = self._try(call)
        if isinstance(found, Reservation):
            return found
        waiter = _Waiter(call, asyncio.get_running_loop().create_future())
        self._look(waiter)
        if not waiter.future.done():
            self._waiting.append(waiter)
            self._lender.hurry()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                waiter.future.result().release()
            raise

    def _try(self, call: Call) -> "Reservation | Short":
        """Reserve, or return the purses that have no room."""
        now = self._clock()
        plan = self._purses.plan(call.tenant, call.route, now)
        if plan.targets:
            return self._try_targets(call, plan, now)
        if not plan.common:
            return Reservation(call, plan, None, (), (0, 0, 0))
        return self._take(call, plan, None, plan.common, estimate(call, plan.first), now)

    def _try_targets(self, call: Call, plan: Plan, now: float) -> "Reservation | Short":
        """Reserve with the first target whose own quotas, if it has any, are not used up."""
        first: Short = ()
        for choice in (*call.route.targets, *call.route.cheaper):
            target = choice.target
            own = plan.targets.get(target.name, ())
            purses = (*plan.common, *own)
            found = self._take(call, plan, target if own else None, purses, estimate(call, target), now)
            if isinstance(found, Reservation) or not self._is_any_out(found, now):
                return found  # or a lease is waited for
            first = first or found
        return first

    def _is_any_out(self, short: Short, now: float) -> bool:
        return any(self._is_out(purse, amount, now) for purse, amount in short)

    def _take(
        self, call: Call, plan: Plan, target: Target | None, purses: tuple[Purse, ...], amounts: Amounts, now: float
    ) -> "Reservation | Short":
        for purse in purses:
            if purse.drawn + amounts[purse.meter] > purse.ceiling:
                return self._take_with_reserve(call, plan, target, purses, amounts, now)
        held = tuple([(purse, amounts[purse.meter]) for purse in purses])
        for purse, amount in held:
            if purse.take(amount):
                self._lender.want(purse)
        return Reservation(call, plan, target, held, amounts)

    def _take_with_reserve(
        self, call: Call, plan: Plan, target: Target | None, purses: tuple[Purse, ...], amounts: Amounts, now: float
    ) -> "Reservation | Short":
        """Take the reserve in the place of each purse that is out, if the call may."""
        held: list[tuple[Purse, int]] = []
        short: list[tuple[Purse, int]] = []
        for purse in purses:
            amount = amounts[purse.meter]
            if purse.drawn + amount > purse.ceiling and self._is_out(purse, amount, now):
                purse = self._reserve_for(call, purse, now) or purse
            (held if purse.drawn + amount <= purse.ceiling else short).append((purse, amount))
        if short:
            return tuple(short)
        for purse, amount in held:
            purse.take(amount)
        return Reservation(call, plan, target, tuple(held), amounts)

    def _is_out(self, purse: Purse, amount: int, now: float) -> bool:
        return self._lender.is_away or purse.is_hopeless(amount, now)

    def _reserve_for(self, call: Call, purse: Purse, now: float) -> Purse | None:
        """Return the reserve behind `purse`, if the glass is broken or the call belongs to the recovery of a P0."""
        incident = next(
            (self._incident(value, now) for name, value in call.request.headers if name == _PASS_HEADER), None
        )
        if incident is None and purse.open_until <= now:
            return None
        reserve = self._purses.reserve_of(purse)
        if reserve is not None:
            reserve.incident = incident or ""
        return reserve

    def _incident(self, value: bytes, now: float) -> str | None:
        return read_pass(value.decode("latin-1"), self._key, now)

    def _look(self, waiter: _Waiter) -> None:
        """Give a call that waits its reservation or its refusal, if either is clear now."""
        found = self._try(waiter.call)
        if isinstance(found, Reservation):
            waiter.future.set_result(found)
            return
        assert isinstance(found, tuple)
        waiter.short = found
        now = self._clock()
        for purse, amount in found:
            if self._is_out(purse, amount, now):
                purse.wanted = purse.wanted or self._lender.is_away  # for when it is back
                waiter.future.set_exception(self._refusal(purse, amount, now))
                return

    def _refusal(self, purse: Purse, amount: int, now: float) -> Rejected:
        since = self._lender.away_since
        return refusal(purse, amount, away_s=None if since is None else now - since, currency=self._currency, now=now)

    def _serve(self) -> None:
        """Look at everybody who waits, in the order in which they came."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.future.done():
                self._look(waiter)
                if not waiter.future.done():
                    self._waiting.append(waiter)
        if self._waiting:
            self._lender.hurry()

    def _wishes(self) -> dict[Purse, tuple[int, int]]:
        wishes: dict[Purse, tuple[int, int]] = {}
        for waiter in self._waiting:
            if not waiter.future.done():
                for purse, amount in waiter.short:
                    first, all_of_them = wishes.get(purse, (amount, 0))
                    wishes[purse] = first, all_of_them + amount
        return wishes

    def bars(self, call: Call, target: Target) -> str | None:
        """Return the name of a quota for exactly this target (not for the whole route) that is used up, if one is."""
        now = self._clock()
        plan = self._purses.plan(call.tenant, call.route, now)
        if plan.targets and (own := plan.targets.get(target.name)):
            amounts = estimate(call, target)
            for purse in own:
                amount = amounts[purse.meter]
                if purse.drawn + amount > purse.ceiling and self._is_out(purse, amount, now):
                    return purse.key.quota
        return None

    def low(self, call: Call) -> bool:
        """Say whether a quota of this call is low, by its own `low_at`."""
        plan = self._purses.plan(call.tenant, call.route, self._clock())
        return any(purse.share_left <= 1.0 - purse.terms.quota.low_at for purse in plan.common)

    def lowest(self, call: Call) -> float:
        """Return the share that is left of the call's tightest quota; 1.0 when it has none."""
        plan = self._purses.plan(call.tenant, call.route, self._clock())
        return min((purse.share_left for purse in plan.common), default=1.0)

    def figures(self) -> list[dict[str, Any]]:
        """Return what is known of every account in the windows that are open."""
        now = self._clock()
        away = self._lender.away_since
        return [
            {
                "quota": purse.key.quota,
                "tenant": purse.key.tenant,
                "meter": METERS[purse.meter].value,
                "pot": purse.key.pot,
                "starts": purse.key.starts,
                "ends": purse.ends,
                "limit": purse.limit,
                "spent": purse.others + purse.spent,
                "spent_here": purse.spent,
                "underway": purse.underway,
                "held": max(0, purse.granted - purse.drawn),
                "share_left": round(purse.share_left, 4),
                "away_s": None if away is None else round(now - away, 1),
            }
            for purse in self._purses.by_key.values()
            if now < purse.ends
        ]
