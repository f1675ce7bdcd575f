"""Is a collection lost rather than absent? It is when the primary lacks it and a replica has it.

Then a write must not pass: it would create an empty collection, or fill one, where a recovery is due.
"""

import asyncio
from collections.abc import Callable
from urllib.parse import quote

from reanimate.gateway.vector.breaker import Trouble
from reanimate.gateway.vector.fleet import Fleet
from reanimate.gateway.vector.targets import Target
from reanimate.gateway.vector.upstream import TargetFailed, Upstream

__all__ = ["Protection"]

_REMEMBER_S = 1.0
_REMEMBERED = 10_000

Identity = list[tuple[str, str]]


class Protection:
    """Answers from the targets themselves. Only a yes is remembered, for a second: an old no would let a write pass."""

    def __init__(self, fleet: Fleet, upstream: Upstream, timeout_s: float) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._timeout_s = timeout_s
        self._held: dict[tuple[str, str], float] = {}
        """When a target last said that it has a name."""
        self._time: Callable[[], float] = asyncio.get_running_loop().time

    async def is_lost(self, name: str, identity: Identity) -> bool:
        """Say whether the primary says that it lacks `name` while a replica says that it has it."""
        holder = await self._holder(name, identity)
        if holder is None or await self._has(self._fleet.primary, name, identity, fresh=True) is not False:
            return False
        self._fleet.lost(self._fleet.primary, name)
        return True

    async def is_held_elsewhere(self, name: str, identity: Identity) -> bool:
        """Say whether a replica has `name`; for when the primary has just said that it has not."""
        if await self._holder(name, identity) is None:
            return False
        self._fleet.lost(self._fleet.primary, name)
        return True

    async def _holder(self, name: str, identity: Identity) -> Target | None:
        for replica in self._fleet.replicas:
            if await self._has(replica, name, identity):
                return replica
        return None

    async def _has(self, target: Target, name: str, identity: Identity, *, fresh: bool = False) -> bool | None:
        """Return whether `target` has `name`; None when it does not say."""
        now = self._time()
        if not fresh and now - self._held.get((target.name, name), float("-inf")) < _REMEMBER_S:
            return True
        answer: bool | None
        try:
            status, body = await self._upstream.get(
                target, f"/collections/{quote(name, safe='')}/exists", identity, self._timeout_s
            )
            answer = b'"exists":true' in body.replace(b" ", b"") if status == 200 else None
        except TargetFailed as failure:
            answer = None
            if failure.trouble is Trouble.REFUSED:
                self._fleet.went_wrong(target, failure.trouble, failure.detail)
                self._fleet.wanted[target.name].set()
        if len(self._held) >= _REMEMBERED:
            self._held.clear()
        if answer:
            self._held[target.name, name] = now
        else:
            self._held.pop((target.name, name), None)
        return answer
