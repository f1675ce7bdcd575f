"""Asking the control plane for leases: one request at a time, in which everything that is wanted, and everything that
was used, goes together. Its silence is no failure of a call: see `Purse.go_on_alone`.
"""

import asyncio
import logging
from collections.abc import Callable

import aiohttp

from reanimate.errors import InputInvalid
from reanimate.gateway.llm.quota.book import Book
from reanimate.gateway.llm.quota.purse import Purse
from reanimate.gateway.llm.quota.purses import Purses
from reanimate.quota.demand import Ask, Reply

__all__ = ["Lender"]

log = logging.getLogger("reanimate.gateway")

_TIMEOUT_S = 1.5
"""A call that waits for a lease waits no longer than this; then the control plane counts as away."""
_TRY_FIRST_S = 0.25
_TRY_AGAIN_S = 1.0
_TICK_S = 0.25
_AT_ONCE = 200
_KEPT_S = 120.0
"""A purse is kept for a while after its window: a clock may be put back."""


class Lender:
    """The other side of all purses.

    `wishes` tells what calls wait for: of each purse, what the first of them needs, and all of them. `serve` is called
    when there is news for them.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        purses: Purses,
        book: Book,
        *,
        web_url: str,
        control_key: str,
        gateway: str,
        clock: Callable[[], float],
        wishes: Callable[[], dict[Purse, tuple[int, int]]],
        serve: Callable[[], None],
    ) -> None:
        self._session = session
        self._purses = purses
        self._book = book
        self._url = f"{web_url}/quota/leases"
        self._headers = {"Authorization": f"Bearer {control_key}", "Content-Type": "application/json"}
        self._gateway = gateway
        self._clock = clock
        self._wishes = wishes
        self._serve = serve
        self._woken = asyncio.Event()
        self._next_try = 0.0
        self.away_since: float | None = None
        self.asked = 0
        """How many requests were answered."""
        purses.on_new = self._on_new

    @property
    def is_away(self) -> bool:
        return self.away_since is not None

    def _on_new(self, purse: Purse) -> None:
        if self.is_away:
            purse.go_on_alone()

    def want(self, purse: Purse) -> None:
        """Have a purse filled soon; nobody waits for it."""
        purse.wanted = True
        self._woken.set()

    def hurry(self) -> None:
        """Say that somebody waits."""
        self._woken.set()

    async def run(self) -> None:
        """Ask whenever something is wanted, and renew in time, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_TICK_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                await self.ask()
            except Exception:  # whatever it was, calls wait for leases: it is told, and asked again
                log.exception("asking for leases failed")
                self._lament("an error of the gateway's own")

    async def ask(self) -> None:
        """Ask for what is wanted now, if anything is. While the control plane is away, only each second."""
        now = self._clock()
        if self.is_away and now < self._next_try:
            self._serve()
            return
        wishes = self._wishes()
        due = [
            *wishes,
            *(purse for purse in self._purses.by_key.values() if purse not in wishes and self._is_due(purse, now)),
        ]
        if due:
            await self._ask(due[:_AT_ONCE], wishes, now)
            if len(due) > _AT_ONCE:
                self._woken.set()

    async def last_word(self) -> None:
        """Tell what was used and give back the rest, also to a control plane that was away just now."""
        self._next_try = 0.0
        await self.ask()

    def _is_due(self, purse: Purse, now: float) -> bool:
        if purse.wanted or self.is_away:
            return True
        if now - purse.asked_at < purse.terms.quota.lease_s / 2:
            return False
        untold = purse.granted != purse.told or purse.drawn != purse.told or purse.underway > 0
        return untold or now >= purse.ends + _KEPT_S

    async def _ask(self, due: list[Purse], wishes: dict[Purse, tuple[int, int]], now: float) -> None:
        demands = tuple(purse.demand(*wishes.get(purse, (0, 0)), now) for purse in due)
        body = Ask(self._gateway, self._book.name, self._book.next_seq(), demands).encode()
        try:
            reply = await self._post(body)
            if len(reply.lent) != len(due):
                raise InputInvalid(f"it answered {len(reply.lent)} of {len(due)} demands")
        except (aiohttp.ClientError, OSError, InputInvalid) as error:
            self._lament(str(error) or type(error).__name__)
            return
        self.asked += 1
        now = self._clock()
        for purse, demand, lent in zip(due, demands, reply.lent, strict=True):
            purse.lent(demand, lent, now)
            if now >= purse.ends + _KEPT_S and not purse.underway and demand.spent == purse.spent:
                self._purses.close(purse)
        if self.is_away:
            self.away_since = None
            log.warning("the control plane lends quota again")
        self._serve()

    async def _post(self, body: bytes) -> Reply:
        """Send a request, and once more if its answer was lost: said twice, it is the same."""
        for last in (False, True):
            try:
                async with (
                    asyncio.timeout(_TIMEOUT_S),
                    self._session.post(self._url, data=body, headers=self._headers) as answer,
                ):
                    said = await answer.read()
                    if answer.status != 200:
                        raise InputInvalid(f"it answered {answer.status}: {said[:200].decode(errors='replace')}")
                    return Reply.decode(said)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if last:
                    raise
        raise AssertionError("unreachable")

    def _lament(self, problem: str) -> None:
        now = self._clock()
        self._next_try = now + (_TRY_AGAIN_S if self.is_away else _TRY_FIRST_S)
        if not self.is_away:
            self.away_since = now
            log.warning("the control plane lends no quota, what is held is given out, and no more: %s", problem)
        for purse in self._purses.by_key.values():
            purse.go_on_alone()
        self._serve()
