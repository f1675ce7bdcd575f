"""The vector plane put together: what is asked, what it counted, and what runs beside it."""

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from reanimate.gateway.request import Request
from reanimate.gateway.vector.figures import Figures
from reanimate.gateway.vector.fleet import Fleet
from reanimate.gateway.vector.metrics import render
from reanimate.gateway.vector.observations import Observations
from reanimate.gateway.vector.prober import Prober
from reanimate.gateway.vector.protection import Protection
from reanimate.gateway.vector.reads import Reads
from reanimate.gateway.vector.routing import Kind, classify
from reanimate.gateway.vector.switches import VectorSwitches
from reanimate.gateway.vector.targets import Target
from reanimate.gateway.vector.totals import Totals
from reanimate.gateway.vector.upstream import Upstream
from reanimate.gateway.vector.writes import Writes

__all__ = ["VectorPlane", "open_vector_plane"]


class VectorPlane:
    """Everything that is not an LLM call: Qdrant's REST API."""

    def __init__(
        self,
        fleet: Fleet,
        upstream: Upstream,
        switches: VectorSwitches,
        figures: Figures,
        totals: Totals,
        hang_s: float,
    ) -> None:
        self._fleet = fleet
        self._figures = figures
        self._totals = totals
        self.switches = switches
        self._prober = Prober(fleet, upstream, hang_s)
        self._reads = Reads(fleet, upstream, switches, figures, hang_s)
        protection = Protection(fleet, upstream, hang_s)
        self._writes = Writes(fleet, upstream, switches, protection, figures, totals, hang_s)

    async def handle(self, request: Request) -> None:
        """Classify, then hand over."""
        route = classify(request.method, request.path)
        if route.kind is Kind.READ:
            await self._reads.handle(request, route)
        else:
            await self._writes.handle(request, route)

    def drain(self) -> dict[str, Any]:
        """Return what was counted since the last time, for the first process to `absorb`, and forget it."""
        return {"figures": self._figures.drain(), "totals": self._totals.drain()}

    def absorb(self, drained: Mapping[str, Any]) -> None:
        """Add what another process of this gateway counted."""
        self._figures.absorb(drained["figures"])
        self._totals.absorb(drained["totals"])

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the requests until it is cancelled."""
        return [self._totals.keep(), *(self._prober.watch(target) for target in self._fleet.targets.values())]

    def status(self, since: datetime | None) -> dict[str, Any]:
        """Return the counts from a moment on, and what is so now."""
        return self._with_targets(self._figures.since(since))

    def metrics(self) -> str:
        """Return the counts since the start as Prometheus text."""
        return render(self._with_targets(self._figures.lifetime()))

    def _with_targets(self, figures: dict[str, Any]) -> dict[str, Any]:
        counted = figures["targets"]
        targets = {}
        for name, target in self._fleet.targets.items():
            since = self._fleet.out_since.get(name)
            targets[name] = {
                "requests": counted.get(name, {}).get("requests", 0),
                "failures": counted.get(name, {}).get("failures", 0),
                "state": "out" if self._fleet.is_out(target) else "up",
                "out_since": since.isoformat() if since else None,
                "missing": sorted(self._fleet.health[name].missing),
            }
        return {**figures, "targets": targets, "totals": {"writes_acknowledged": dict(self._totals.acknowledged)}}


@asynccontextmanager
async def open_vector_plane(
    targets: tuple[Target, ...],
    session: aiohttp.ClientSession,
    *,
    home: Path,
    is_first: bool = True,
    watch_url: str,
    control_key: str,
    hang_limit_s: float,
    clock: Callable[[], float],
) -> AsyncIterator[VectorPlane]:
    """Open the connections to the targets; on leaving, what was counted is on disk.

    Of several processes the first keeps the totals of all.
    """
    observations = Observations(session, watch_url, control_key)
    fleet = Fleet(targets, observations)
    totals = Totals(home / "totals.json" if is_first else None)
    switches = VectorSwitches(tuple(target.name for target in fleet.online))
    try:
        async with Upstream(targets, hang_limit_s) as upstream:
            yield VectorPlane(fleet, upstream, switches, Figures(clock), totals, hang_limit_s)
    finally:
        totals.save()
        await observations.close()
