"""One dependency being watched: asks it on time, keeps its samples, and hands each to whoever judges."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from reanimate.watch.dependencies import Dependency
from reanimate.watch.judge import Standing, forget, next_probe_at, record
from reanimate.watch.probe import Prober
from reanimate.watch.sample import OwnTroubleError, Sample
from reanimate.watch.sight import View

__all__ = ["Vigil"]

log = logging.getLogger(__name__)

KEPT_SAMPLES = 20
MOST_OUTSTANDING = 12
BURST = 3
BURST_GAP_S = 0.1


class Vigil:
    """Probes overlap: one that hangs never keeps the next from being asked."""

    def __init__(
        self,
        dependency: Dependency,
        prober: Prober,
        on_sample: "Callable[[Vigil, Sample], None]",
        on_overdue: "Callable[[Vigil], None]",
    ) -> None:
        self.dependency = dependency
        self.standing = Standing(watched_since=time.monotonic())
        self.view = View(dependency.key)
        self.samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self.counts = {"good": 0, "failed": 0, "discarded": 0}
        self._prober = prober
        self._on_sample = on_sample
        self._on_overdue = on_overdue
        self._outstanding: dict[asyncio.Task[None], float] = {}
        self._last_asked = float("-inf")
        self._burst = 0
        self._stir = asyncio.Event()

    @property
    def outstanding(self) -> list[float]:
        """When the probes that are not answered yet were asked, oldest first."""
        return sorted(self._outstanding.values())

    def kick(self, samples: int = BURST) -> None:
        """Ask at once, `samples` times within 0.2 s, without waiting for the turn."""
        self._burst = max(self._burst, samples)
        self._stir.set()

    def forget(self) -> None:
        """Discard what is on its way and the runs it belongs to: the watch could not see in that time."""
        for task in list(self._outstanding):
            task.cancel()
        self.counts["discarded"] += len(self._outstanding)
        self._outstanding.clear()
        self.standing = forget(self.standing)

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                now = time.monotonic()
                if now >= self._due():
                    self._ask(now)
                self._stir.clear()
                await self._wait(self._due() - time.monotonic())
        finally:
            for task in self._outstanding:
                task.cancel()

    def _due(self) -> float:
        if self._burst:
            return self._last_asked + BURST_GAP_S
        return next_probe_at(self.standing, self._outstanding.values(), self._last_asked, self.dependency.rules)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stir.wait()
        except TimeoutError:
            pass

    def _ask(self, now: float) -> None:
        self._last_asked = now
        self._burst = max(0, self._burst - 1)
        if self._outstanding:
            self._on_overdue(self)
        if len(self._outstanding) >= MOST_OUTSTANDING:
            return
        task = asyncio.create_task(self._probe(), name=f"probe {self.dependency.key}")
        self._outstanding[task] = now
        task.add_done_callback(self._gone)

    def _gone(self, task: "asyncio.Task[None]") -> None:
        self._outstanding.pop(task, None)
        self._stir.set()

    async def _probe(self) -> None:
        dependency = self.dependency
        try:
            sample = await self._prober.ask(
                dependency.url, timeout_s=dependency.rules.timeout_s, healthy_below=dependency.healthy_below
            )
        except OwnTroubleError as error:
            self.counts["discarded"] += 1
            log.warning("probing %s says nothing, this process lacks something: %s", dependency.key, error)
            return
        if (task := asyncio.current_task()) is not None:
            self._outstanding.pop(task, None)
        self.samples.append(sample)
        self.counts["good" if sample.ok else "failed"] += 1
        self.view = self.view.after(sample)
        self.standing = record(self.standing, sample)
        self._on_sample(self, sample)
