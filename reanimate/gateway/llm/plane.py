"""The LLM plane put together: what is asked, what it counted, and what runs beside it."""

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from reanimate.config import Settings
from reanimate.gateway.llm.accounts.metrics import render
from reanimate.gateway.llm.accounts.observer import Observer
from reanimate.gateway.llm.cache.cache import LlmCache
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.failover.failover import Failover
from reanimate.gateway.llm.failover.health import Health
from reanimate.gateway.llm.failover.observations import LlmObservations
from reanimate.gateway.llm.failover.pools import Pools
from reanimate.gateway.llm.failover.probes import Prober
from reanimate.gateway.llm.failover.standings import standings
from reanimate.gateway.llm.handler import Handler
from reanimate.gateway.llm.policies.degradation.kept import KeptHolds
from reanimate.gateway.llm.policies.degradation.quotas import used_by_scope
from reanimate.gateway.llm.policies.places import Places
from reanimate.gateway.llm.policies.policies import Policies
from reanimate.gateway.llm.quota.quota import Quota
from reanimate.gateway.llm.streams.delivery import Delivery
from reanimate.gateway.llm.underway import Underway
from reanimate.gateway.llm.wire.crossing import translate_answer
from reanimate.gateway.request import Request

__all__ = ["LlmPlane", "open_llm_plane"]


class LlmPlane:
    """Everything under `/v1/`: OpenAI's and Anthropic's APIs."""

    def __init__(self, settings: Settings, *, home: Path, quota: Quota, pools: Pools, is_first: bool = True) -> None:
        """Of several processes only the first makes probes and looks after the rules."""
        self._is_first = is_first
        self.others: list[Mapping[str, Any]] = []
        """What is so now in the other processes, each as it says with `now_here`."""
        llm = settings.llm
        catalogue = Catalogue(llm)
        underway = Underway()
        self._underway = underway
        self.quota = quota
        self.observer = Observer(llm)
        self._llm = llm
        self.policies = Policies(
            llm,
            underway,
            window=lambda seconds: self.observer.figures.window(seconds),
            quota_used=lambda: used_by_scope(quota.figures(), self._llm),
            processes=settings.gateway.processes,
            places=Places(home / "places", settings.gateway.processes) if settings.gateway.processes > 1 else None,
            kept=KeptHolds(home / "rules.json") if is_first else None,
        )
        self.switches = self.policies.switches
        self.health = Health()
        self.health.use(catalogue)
        self._cache = LlmCache(home / "cache", llm)
        self._prober = Prober(self.health, pools, llm.probe_tokens_per_hour)
        modes = self.policies.modes
        failover = Failover(self.health, pools, order=modes, bars=quota.bars, translate=translate_answer)
        self._handler = Handler(
            catalogue,
            modes=modes,
            gate=self.policies.gate,
            cache=self._cache,
            quota=quota,
            failover=failover,
            delivery=Delivery(failover),
            observer=self.observer,
            underway=underway,
        )

    def handle(self, request: Request) -> Coroutine[Any, Any, None]:
        """Answer one request."""
        return self._handler.handle(request)

    def use(self, settings: Settings) -> None:
        """Take over changed settings; calls underway end as they began."""
        catalogue = Catalogue(settings.llm)
        self._llm = settings.llm
        self.health.use(catalogue)
        self._prober.use(catalogue)
        self.quota.configure(settings.llm)
        self.policies.take(settings.llm)
        self.observer.take(settings.llm)
        self._cache.take(settings.llm)
        self._handler.use(catalogue)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the calls until it is cancelled."""
        parts = (self._cache, self.quota, self.observer, *((self.policies,) if self._is_first else ()))
        work = [work for part in parts for work in part.background()]
        return [self._prober.run(), *work] if self._is_first else work

    def drain(self) -> dict[str, Any]:
        """Return what was counted since the last time, for the first process to `absorb`, and forget it."""
        return {"figures": self.observer.figures.drain(), "genai": self.observer.genai.drain()}

    def absorb(self, drained: Mapping[str, Any]) -> None:
        """Add what another process of this gateway counted."""
        self.observer.figures.absorb(drained["figures"])
        self.observer.genai.absorb(drained["genai"])

    def status(self, since: datetime | None) -> dict[str, Any]:
        """Return the counts from a moment on, and what is so now."""
        return {**self.observer.status(since), **self._now()}

    def metrics(self) -> str:
        """Return the counts since the start as Prometheus text."""
        return render({**self.observer.figures.lifetime(), **self._now()}, self.observer.genai)

    def _now(self) -> dict[str, Any]:
        return {
            "health": standings(self.health),
            "probes": self._prober.shown(),
            "policies": self.policies.status(),
            "quota": self.quota.figures(),
            "currency": self._llm.currency,
            **summed([self.now_here(), *self.others]),
        }

    def now_here(self) -> dict[str, dict[str, int]]:
        """Return what is so now in this process, and adds up over several."""
        return {
            "cache": self._cache.status(),
            "underway": {
                "calls": len(self._underway),
                "streams": sum(call.prompt.stream for call in self._underway),
            },
        }


def summed(parts: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Return tables of numbers added up. The files of the cache are shared by all processes: they count once."""
    return {
        name: {
            key: value if key == "disk_bytes" else sum(part[name][key] for part in parts)
            for key, value in table.items()
        }
        for name, table in parts[0].items()
    }


@asynccontextmanager
async def open_llm_plane(
    settings: Settings,
    session: aiohttp.ClientSession,
    *,
    home: Path,
    web_url: str,
    watch_url: str,
    control_key: str,
    is_first: bool = True,
) -> AsyncIterator[LlmPlane]:
    """Open the plane; on leaving, connections are closed and leases given back."""
    async with AsyncExitStack() as stack:
        observations = LlmObservations(session, watch_url, control_key)
        stack.push_async_callback(observations.close)
        pools = Pools()
        stack.push_async_callback(pools.close)
        quota = Quota(
            settings.llm,
            session=session,
            home=home,
            web_url=web_url,
            control_key=control_key,
            gateway=settings.gateway.name,
        )
        stack.push_async_callback(quota.close)
        plane = LlmPlane(settings, home=home, quota=quota, pools=pools, is_first=is_first)
        observations.listen(plane.health, changes=is_first)
        yield plane
