"""The gateway's own probes: only of a target in trouble, so that no user's request is ever sent to find out."""

import asyncio
import logging
from urllib.parse import quote

import orjson

from reanimate.gateway.vector.breaker import Standing, Trouble
from reanimate.gateway.vector.fleet import Fleet
from reanimate.gateway.vector.targets import Target
from reanimate.gateway.vector.upstream import TargetFailed, Upstream

__all__ = ["Prober"]

log = logging.getLogger("reanimate.gateway")

_EVERY_S = 0.25
_MISSING_EVERY_S = 0.5
"""When nothing is wrong but that a collection is missing, which may be so for long."""


class Prober:
    """For each target: is it up, are the names there that it once answered for, does each troubled name answer."""

    def __init__(self, fleet: Fleet, upstream: Upstream, hang_limit_s: float) -> None:
        self._fleet = fleet
        self._upstream = upstream
        self._timeout_s = hang_limit_s

    async def watch(self, target: Target) -> None:
        """Probe `target` whenever that is wanted, and then every 0.25 s until it is well, until cancelled."""
        wanted = self._fleet.wanted[target.name]
        while True:
            await wanted.wait()
            wanted.clear()
            await self.probe(target)
            health = self._fleet.health[target.name]
            if health.is_troubled:
                wanted.set()
                await asyncio.sleep(_EVERY_S if health.is_failing else _MISSING_EVERY_S)

    async def probe(self, target: Target) -> None:
        """Probe once, and tell the fleet."""
        try:
            await self._ask(target, "/healthz")
            names = await self._names(target)
            if names is None:
                self._fleet.health[target.name].unseen()
            else:
                await self._compare(target, names)
            await self._probe_names(target)
        except TargetFailed as failure:
            self._fleet.went_wrong(target, failure.trouble, failure.detail)
        else:
            self._fleet.went_well(target)

    def _identity(self, target: Target) -> list[tuple[str, str]]:
        return self._fleet.identities.get(target.name, [])

    async def _ask(self, target: Target, path: str) -> tuple[int, bytes]:
        status, body = await self._upstream.get(target, path, self._identity(target), self._timeout_s)
        if status >= 500:
            raise TargetFailed(Trouble.HTTP, f"answered {status} to GET {path}")
        return status, body

    async def _names(self, target: Target) -> set[str] | None:
        """Return the collections and aliases of `target`; None if we may not see them, or perhaps not all."""
        if any(value.count(".") == 2 for _, value in self._identity(target)):
            return None  # a JWT of a client may be good for some collections only
        names: set[str] = set()
        for path, key, field in (("/collections", "collections", "name"), ("/aliases", "aliases", "alias_name")):
            status, body = await self._ask(target, path)
            if status != 200:
                return None
            try:
                names.update(str(item[field]) for item in orjson.loads(body)["result"][key])
            except (ValueError, KeyError, TypeError) as error:
                raise TargetFailed(Trouble.HTTP, f"answered something unreadable to GET {path}: {error}") from error
        return names

    async def _elsewhere(self, target: Target) -> set[str] | None:
        """Return the names that the other targets online list; None unless all of them do."""
        names: set[str] = set()
        for other in self._fleet.online:
            if other is target:
                continue
            try:
                listed = None if self._fleet.is_out(other) else await self._names(other)
            except TargetFailed:
                listed = None
            if listed is None:
                return None
            names |= listed
        return names

    async def _compare(self, target: Target, names: set[str]) -> None:
        health = self._fleet.health[target.name]
        gone, again = health.compare(names, await self._elsewhere(target) if health.absent(names) else None)
        if gone:
            log.warning("target %s answers, but lacks %s", target.name, ", ".join(sorted(gone)))
        if again:
            log.warning("target %s has %s again", target.name, ", ".join(sorted(again)))

    async def _probe_names(self, target: Target) -> None:
        """Ask for each name in trouble; requests without a name are judged by what has been asked already."""
        health = self._fleet.health[target.name]
        now = asyncio.get_running_loop().time()
        for name, breaker in list(health.names.items()):
            if breaker.standing is Standing.UP:
                continue
            try:
                if name:
                    await self._ask(target, f"/collections/{quote(name, safe='')}")
            except TargetFailed as failure:
                if failure.trouble is not Trouble.HTTP:
                    raise
                breaker.failed(now)
            else:
                if breaker.probed_well(now):
                    log.warning("target %s is asked for %s again", target.name, name or "requests without a name")
