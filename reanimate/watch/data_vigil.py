"""One vector target's data being watched: a cheap look each interval, the full probe less often or when told to."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from reanimate.backups.manifest import VectorManifest
from reanimate.backups.probe import DataReport, probe_data
from reanimate.clock import utcnow
from reanimate.errors import ReanimateError, Refused, ServerFailed
from reanimate.vector.server import VectorServer
from reanimate.watch.data_findings import losses_in
from reanimate.watch.data_judge import DataOutcome, DataStanding, DataState, Loss, judge_data, reprobe_after
from reanimate.watch.expectations import Expectations

__all__ = ["DataVigil", "WatchedCollection"]

log = logging.getLogger(__name__)

LONGEST_PROBE_S = 10.0
KICKED_GAP_S = 1.0
"""Full probes count every point: those who ask for one all the time get one each second."""
FRESH_S = 0.5
"""An expectation older than this is read anew before it is held against a target that failed."""


@dataclass
class WatchedCollection:
    """One collection on one target, by the name readers use."""

    name: str
    manifest: VectorManifest
    standing: DataStanding = field(default_factory=DataStanding)
    outcome: DataOutcome | None = None
    report: DataReport | None = None
    due: float = 0.0
    probed_from: float = float("-inf")
    """When the last finished probe was begun, in seconds of the monotonic clock."""
    probes: int = 0
    error: str | None = None
    """Why it cannot be judged, when the server refuses to be asked."""


class DataVigil:
    """Probes one target's collections one after the other, as long as the target answers at all."""

    def __init__(
        self,
        server: VectorServer,
        role: str,
        expectations: Expectations,
        *,
        glance_s: float,
        interval_s: float,
        min_count_ratio: float,
        may_probe: Callable[[], bool],
        on_outcome: "Callable[[DataVigil, WatchedCollection], None]",
        ever_good: frozenset[str] = frozenset(),
    ) -> None:
        self.server = server
        self.role = role
        self.collections: dict[str, WatchedCollection] = {}
        self._expectations = expectations
        self._glance_s = glance_s
        self._interval_s = interval_s
        self._min_count_ratio = min_count_ratio
        self._may_probe = may_probe
        self._on_outcome = on_outcome
        self._ever_good = ever_good
        self._kicked = False
        self._kicked_at = float("-inf")
        self._stir = asyncio.Event()

    def kick(self) -> None:
        """Look at once: a glance for what is missing, and the full probe unless that was done a moment ago."""
        self._kicked = True
        self._kicked_at = time.monotonic()
        self._stir.set()

    def expects(self, collection: str) -> bool:
        """Say whether that collection is to be judged here; true as long as the catalog was not read."""
        return not self._expectations.loaded or collection in self._expectations.current

    def is_good_since(self, moment: float) -> bool:
        """Say whether all data was found good by probes begun after `moment`; true when nothing is expected here."""
        return not self._kicked and all(
            watched.standing.state is DataState.GOOD
            and watched.outcome is not None
            and watched.outcome.good
            and watched.probed_from >= moment
            for watched in self.collections.values()
            if not self._not_judged(watched)
        )

    def _not_judged(self, watched: WatchedCollection) -> bool:
        never_seeded = self.role == "replica" and not watched.standing.ever_good and watched.probes > 0
        return never_seeded or watched.error is not None

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            self._stir.clear()
            if self._kicked:
                await self._expectations.refresh(if_older_than_s=FRESH_S)
            self._follow_expectations()
            if self._may_probe():
                if self._kicked:
                    # A backup taken just after the last reading is not known yet: kicked until it was read since.
                    self._kicked = self._expectations.asked_at < self._kicked_at
                    for watched in self.collections.values():
                        watched.due = min(watched.due, watched.probed_from + KICKED_GAP_S)
                await self._glance()
                for watched in list(self.collections.values()):
                    if time.monotonic() >= watched.due:
                        await self._probe(watched)
            await self._wait()

    async def _wait(self) -> None:
        now = time.monotonic()
        next_due = min((watched.due for watched in self.collections.values()), default=now + self._glance_s)
        wait = self._glance_s if not self._may_probe() else min(self._glance_s, max(0.0, next_due - now))
        if self._kicked and self._may_probe():
            wait = max(0.0, min(wait, self._expectations.asked_at + FRESH_S - now))
        try:
            async with asyncio.timeout(wait):
                await self._stir.wait()
        except TimeoutError:
            pass

    def _follow_expectations(self) -> None:
        current = self._expectations.current
        for name in self.collections.keys() - current.keys():
            del self.collections[name]
        for name, manifest in current.items():
            if name in self.collections:
                self.collections[name].manifest = manifest
            else:
                standing = DataStanding(ever_good=name in self._ever_good)
                self.collections[name] = WatchedCollection(name, manifest, standing)

    async def _glance(self) -> None:
        """Look whether the names readers use are still there; if not, have the full probe decide at once."""
        if not self.collections:
            return
        try:
            async with asyncio.timeout(LONGEST_PROBE_S):
                there = {*await self.server.collections(), *await self.server.aliases()}
        except (ReanimateError, TimeoutError):
            return  # the liveness probe and the full probe judge a server that does not answer
        for watched in self.collections.values():
            if watched.name not in there and watched.standing.state is not DataState.LOST and not watched.standing.lost:
                watched.due = 0.0

    async def _probe(self, watched: WatchedCollection) -> None:
        begun = time.monotonic()
        outcome = await self._outcome(watched)
        watched.due = time.monotonic() + self._interval_s
        if outcome is None or not (self._may_probe() or outcome.good):
            return  # nothing was learnt, or the target went down meanwhile, which says it all
        watched.outcome = outcome
        watched.probes += 1
        watched.probed_from = begun
        watched.standing = judge_data(watched.standing, watched.outcome, must_have_been_good=self.role == "replica")
        watched.due = time.monotonic() + reprobe_after(watched.standing, watched.outcome, self._interval_s)
        self._on_outcome(self, watched)

    async def _outcome(self, watched: WatchedCollection) -> DataOutcome | None:
        """Probe once. None when the server refuses to be asked (a key, a right): that is no loss of data."""
        at = utcnow()
        try:
            async with asyncio.timeout(max(LONGEST_PROBE_S, self._interval_s)):
                watched.report = await probe_data(self.server, watched.manifest, self._min_count_ratio)
        except Refused as error:
            if str(error) != watched.error:
                log.warning("the data of %s on %s cannot be judged: %s", watched.name, self.server.name, error)
            watched.error = str(error)
            return None
        except ServerFailed as error:
            return DataOutcome(at, losses=(Loss("reads", "answers", "errors", str(error)),))
        except (ReanimateError, TimeoutError) as error:
            return DataOutcome(at, silent=True, detail=str(error) or "no answer in time")
        watched.error = None
        return DataOutcome(at, losses_in(watched.report, self.role))
