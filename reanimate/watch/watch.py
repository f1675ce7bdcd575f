"""The watch put together: samples come in, verdicts are turned into alarms, and its own sight is kept in question."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reanimate.clock import utcnow
from reanimate.watch.accusation import data_alarm, data_fingerprint, down_alarm, down_fingerprint
from reanimate.watch.backup_vigil import BackupVigil
from reanimate.watch.blindness import Blindness
from reanimate.watch.data_judge import DataState
from reanimate.watch.data_vigil import DataVigil, WatchedCollection
from reanimate.watch.dependencies import Dependency, Kind
from reanimate.watch.desk import Desk
from reanimate.watch.judge import Standing, State, is_flapping, turn, weigh
from reanimate.watch.llm_vigil import LlmVigil, is_about_llm_calls
from reanimate.watch.outbox import Outbox
from reanimate.watch.probe import Prober
from reanimate.watch.recovery_points import is_about_backups
from reanimate.watch.sample import Sample
from reanimate.watch.sight import Sight, look
from reanimate.watch.vigil import Vigil

__all__ = ["Observation", "Watch"]

log = logging.getLogger(__name__)

TICK_S = 0.1
STALL_S = 0.5
"""A tick this late means that the process did not run; what it sampled meanwhile says nothing about others."""
LOOK_AROUND_EVERY_S = 0.5
OBSERVATION_COUNTS_S = 30.0
INTAKE = "part:web"


@dataclass(frozen=True)
class Observation:
    """What a gateway saw: evidence and a reason to look, never a verdict."""

    at: str
    target: str
    kind: str
    collection: str | None
    detail: str
    seen: float
    """When it came in, in seconds of the monotonic clock."""

    def as_evidence(self) -> dict[str, Any]:
        where = f" on {self.collection}" if self.collection else ""
        return {
            "at": self.at,
            "check": "gateway",
            "found": self.kind,
            "expected": "answered",
            "detail": f"the gateway saw it{where}: {self.detail}",
        }


@dataclass
class Watch:
    """All state of the process. Verdicts are made in the event loop, one at a time."""

    dependencies: tuple[Dependency, ...]
    prober: Prober
    desk: Desk
    outbox: Outbox
    blindness: Blindness
    data: dict[str, DataVigil] = field(default_factory=dict)
    """By target name."""
    backups: BackupVigil | None = None
    llm: LlmVigil | None = None
    """Of the gateway's LLM calls; without a provider in the settings there is none."""
    observations: deque[Observation] = field(default_factory=lambda: deque(maxlen=200))
    observed: dict[tuple[str, str], int] = field(default_factory=dict)
    stalls: int = 0
    remember_good: Callable[[str, str], None] = lambda target, collection: None
    """Called when a collection was seen good on a target; a replica is judged only on those."""

    def __post_init__(self) -> None:
        self.vigils = {one.key: Vigil(one, self.prober, self._sampled, self._overdue) for one in self.dependencies}
        self._undecided: set[str] = set()
        self._looked_around = float("-inf")
        for vigil in self.vigils.values():
            if down_fingerprint(vigil.dependency) in self.desk.firing:  # raised before a restart: resolve or keep it
                vigil.standing = Standing(time.monotonic(), state=State.DOWN, seen_up=True)

    # -- what the process runs ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for vigil in self.vigils.values():
                group.create_task(vigil.run())
            for data in self.data.values():
                group.create_task(data.run())
            if self.llm is not None:
                group.create_task(self.llm.run())
            group.create_task(self.desk.run())
            group.create_task(self.outbox.send_forever())
            group.create_task(self._tick())

    async def _tick(self) -> None:
        """Notice when this process itself was held up, and say again what has been firing for long."""
        while True:
            slept_from = time.monotonic()
            await asyncio.sleep(TICK_S)
            late = time.monotonic() - slept_from - TICK_S
            if late > STALL_S:
                self.stalls += 1
                log.warning("this process did not run for %.1f s; the samples of that time are discarded", late)
                for vigil in self.vigils.values():
                    vigil.forget()
            self._drop_unwatched()
            if self.backups:
                self.backups.judge()
            self.desk.resend(utcnow())

    def _drop_unwatched(self) -> None:
        """End alarms about what the settings, or the newest backups, no longer name."""
        for fingerprint, alarm in list(self.desk.firing.items()):
            if is_about_backups(alarm) or (self.llm is not None and is_about_llm_calls(alarm)):
                continue
            vigil = self.vigils.get(alarm.subject)
            collection = alarm.labels.get("collection")
            data = self.data.get(vigil.dependency.name) if vigil else None
            if vigil is None or (collection is not None and data is not None and not data.expects(collection)):
                self.desk.resolve(fingerprint, utcnow(), ended="it is no longer watched")

    def observe(self, target: str, kind: str, collection: str | None, detail: str) -> bool:
        """Take in what a gateway saw and look at once. Returns False when no such target is watched."""
        vigil = self.vigils.get(f"{Kind.VECTOR}:{target}")
        if vigil is None:
            return False
        seen = Observation(utcnow().isoformat(), target, kind, collection, detail, time.monotonic())
        self.observations.append(seen)
        self.observed[target, kind] = self.observed.get((target, kind), 0) + 1
        vigil.kick()
        if kind == "missing" and target in self.data:
            self.data[target].kick()
        return True

    def observe_llm(self, target: str, kind: str, detail: str, standing: str | None) -> bool:
        """Take in what a gateway saw of an LLM provider. Returns False when no provider is in the settings."""
        if self.llm is None:
            return False
        self.observed[target, kind] = self.observed.get((target, kind), 0) + 1
        self.llm.observe(target, kind, detail, standing)
        return True

    # -- liveness ----------------------------------------------------------------------------------------------------

    def _sampled(self, vigil: Vigil, sample: Sample) -> None:
        if not sample.silent and self.blindness.now:
            self._sight_returns()
        if sample.silent:
            self._look_around(vigil)
        if sample.ok:
            self._heard(vigil)
        if self.blindness.now:
            return
        self._weigh(vigil)
        for key in list(self._undecided - {vigil.dependency.key}):
            self._weigh(self.vigils[key])

    def _heard(self, vigil: Vigil) -> None:
        """After a gap, however short, the server may be another one, and an empty one."""
        if vigil.standing.good == 1 and vigil.dependency.name in self.data and vigil.dependency.kind is Kind.VECTOR:
            self.data[vigil.dependency.name].kick()
        if vigil.dependency.key == INTAKE and len(self.outbox):
            self.outbox.hurry()

    def _overdue(self, vigil: Vigil) -> None:
        self._look_around(vigil)

    def _look_around(self, suspect: Vigil) -> None:
        """Ask everybody else too, so that it is known in time whether the watch sees at all."""
        now = time.monotonic()
        if now - self._looked_around >= LOOK_AROUND_EVERY_S:
            self._looked_around = now
            for vigil in self.vigils.values():
                if vigil is not suspect:
                    vigil.kick(1)

    def _weigh(self, vigil: Vigil) -> None:
        now = time.monotonic()
        rules = vigil.dependency.rules
        self._undecided.discard(vigil.dependency.key)
        state = weigh(vigil.standing, vigil.outstanding, now, rules)
        if state is State.DOWN is not vigil.standing.state and not self._may_accuse(vigil):
            return
        if state is not vigil.standing.state:
            log.info("%s is %s (was %s)", vigil.dependency.key, state, vigil.standing.state)
            vigil.standing = turn(vigil.standing, state, now, rules)
            if state is State.DOWN:
                self._raise_down(vigil)
        if state is State.UP:
            self._settle(vigil)

    def _may_accuse(self, vigil: Vigil) -> bool:
        """A refusal proves that somebody is there; silence accuses only when the watch hears somebody else."""
        first = vigil.standing.first_failure
        if first is None or not vigil.standing.silent:
            return True
        match look((one.view for one in self.vigils.values()), first.asked):
            case Sight.SEES:
                return True
            case Sight.UNSURE:
                self._undecided.add(vigil.dependency.key)
            case Sight.BLIND:
                self.blindness.begin(first.at)
        return False

    def _sight_returns(self) -> None:
        self.blindness.end(utcnow())
        self._undecided.clear()
        for vigil in self.vigils.values():
            vigil.forget()
            vigil.kick(1)

    def _raise_down(self, vigil: Vigil) -> None:
        dependency, standing = vigil.dependency, vigil.standing
        flapping = is_flapping(standing, time.monotonic(), dependency.rules)
        observed = self._observed_lately(dependency)
        now = utcnow()
        self.desk.fire(down_alarm(dependency, standing, observed, flapping=flapping, now=now), now)

    def _observed_lately(self, dependency: Dependency) -> list[dict[str, Any]]:
        since = time.monotonic() - OBSERVATION_COUNTS_S
        return [
            seen.as_evidence()
            for seen in self.observations
            if dependency.kind is Kind.VECTOR and seen.target == dependency.name and seen.seen >= since
        ]

    def _settle(self, vigil: Vigil) -> None:
        """End the alarm of a dependency that is up; of a vector target only when its data is there too."""
        fingerprint = down_fingerprint(vigil.dependency)
        if fingerprint not in self.desk.firing:
            return
        since = vigil.standing.good_since
        if vigil.dependency.kind is Kind.VECTOR and vigil.dependency.name in self.data:
            data = self.data[vigil.dependency.name]
            if since is None or not data.is_good_since(since):
                return
        self.desk.resolve(fingerprint, utcnow())

    # -- data --------------------------------------------------------------------------------------------------------

    def may_probe_data(self, target: str) -> bool:
        """Say whether a data probe would tell anything: not while the target is failing or the watch is blind."""
        standing = self.vigils[f"{Kind.VECTOR}:{target}"].standing
        return standing.good > 0 and not standing.failures and not self.blindness.now

    def data_probed(self, data: DataVigil, watched: WatchedCollection) -> None:
        """Turn a data verdict into alarms."""
        vigil = self.vigils[f"{Kind.VECTOR}:{data.server.name}"]
        ill = watched.standing.state in (DataState.LOST, DataState.SILENT)
        if down_fingerprint(vigil.dependency) in self.desk.firing:
            if ill:
                self._tell_came_back_without_data(vigil, watched)
            elif vigil.standing.state is State.UP:
                self._settle(vigil)
        elif ill:
            self._raise_data(vigil, watched)
        if watched.standing.state is DataState.GOOD:
            self.remember_good(vigil.dependency.name, watched.name)
            for state in (DataState.LOST, DataState.SILENT):
                self.desk.resolve(data_fingerprint(vigil.dependency, watched.name, state), utcnow())

    def _tell_came_back_without_data(self, vigil: Vigil, watched: WatchedCollection) -> None:
        """An empty server is no recovered one: say so once, within the alarm that is firing anyway."""
        alarm = self.desk.firing[down_fingerprint(vigil.dependency)]
        note = f"answers again, but {watched.name} is not there as backed up"
        if alarm.annotations.get("data") != note and watched.outcome is not None:
            self.desk.fire(alarm.with_evidence(tuple(watched.outcome.as_evidence()), data=note), utcnow())

    def _raise_data(self, vigil: Vigil, watched: WatchedCollection) -> None:
        dependency, standing, outcome = vigil.dependency, watched.standing, watched.outcome
        if outcome is None or data_fingerprint(dependency, watched.name, standing.state) in self.desk.firing:
            return
        alarm = data_alarm(
            dependency,
            watched.name,
            watched.manifest.id,
            standing.state,
            outcome,
            self._observed_lately(dependency),
            since=standing.bad_since or outcome.at,
        )
        self.desk.fire(alarm, utcnow())
