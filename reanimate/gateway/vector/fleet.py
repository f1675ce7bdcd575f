"""The targets together with how they are: every success and failure is told here, and passed on to whom it concerns."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from reanimate.clock import utcnow
from reanimate.gateway.vector.breaker import Health, Standing, Trouble
from reanimate.gateway.vector.observations import Observations
from reanimate.gateway.vector.targets import Target

__all__ = ["Fleet"]

log = logging.getLogger("reanimate.gateway")


class Fleet:
    """The primary, its replicas and the offline standbys, each with its health."""

    def __init__(self, targets: tuple[Target, ...], observations: Observations) -> None:
        self.targets = {target.name: target for target in targets}
        self.primary = next(target for target in targets if target.is_primary)
        self.online = tuple(target for target in targets if not target.is_offline)
        self.replicas = tuple(target for target in self.online if not target.is_primary)
        self.offline = tuple(target for target in targets if target.is_offline)
        """Asked when nobody online can answer; what they hold and lack says nothing about the others."""
        self.health = {target.name: Health() for target in targets}
        self.out_since: dict[str, datetime] = {}
        self.wanted = {target.name: asyncio.Event() for target in targets}
        """Set when a target is in trouble and a probe is wanted now."""
        self.identities: dict[str, list[tuple[str, str]]] = {}
        """With what a client last succeeded at each target, for probes where no key is configured; in memory only."""
        self._observations = observations
        self._time: Callable[[], float] = asyncio.get_running_loop().time

    def is_out(self, target: Target) -> bool:
        return self.health[target.name].is_out

    def standing(self, name: str, collection: str | None) -> Standing:
        return self.health[name].standing(collection)

    def has_known(self, collection: str | None) -> bool:
        """Say whether any target ever answered for this name, or lost it."""
        return any(collection in health.served or collection in health.missing for health in self.health.values())

    def by_standing(self, names: tuple[str, ...], collection: str | None) -> tuple[str, ...]:
        """Return `names` with those in trouble at the end; the order is kept otherwise."""
        standings = [self.health[name].standing(collection) for name in names]
        if not any(standings):
            return names
        return tuple(name for _, name in sorted(zip(standings, names, strict=True), key=lambda pair: pair[0]))

    def answered(self, target: Target, collection: str | None, identity: list[tuple[str, str]]) -> None:
        """A target gave a good answer."""
        self.health[target.name].answered(collection, self._time())
        if identity and target.api_key is None:
            self.identities[target.name] = identity

    def failed(self, target: Target, collection: str | None, trouble: Trouble, detail: str) -> None:
        """A target failed a user's request at once, or hung, or broke off."""
        health = self.health[target.name]
        if trouble is Trouble.REFUSED:
            self.went_wrong(target, trouble, detail)
        else:
            health.whole.suspect()
            health.name_failed(collection, self._time())
            self._tell(target, trouble, collection, detail)
        self.wanted[target.name].set()

    def broke(self, target: Target, collection: str | None, detail: str) -> None:
        """A target answered 5xx to what another one could answer: that is its own trouble, with that collection."""
        if self.health[target.name].name_failed(collection, self._time()):
            log.warning(
                "target %s is passed over for %s: %s", target.name, collection or "requests without a name", detail
            )
        self._tell(target, Trouble.HTTP, collection, detail)
        self.wanted[target.name].set()

    def lost(self, target: Target, collection: str) -> None:
        """A target says that a collection is not there, and another one has it."""
        detail = f"collection {collection} is missing on {target.name}, and another target has it"
        if self.health[target.name].lost(collection):
            log.warning("%s", detail)
        self._tell(target, Trouble.MISSING, collection, detail)
        self.wanted[target.name].set()

    def went_wrong(self, target: Target, trouble: Trouble, detail: str) -> None:
        """The whole server failed: it refused a connection, or failed a probe."""
        health = self.health[target.name]
        health.why, health.trouble = detail, trouble
        if health.whole.failed(self._time(), certain=trouble is Trouble.REFUSED):
            self.out_since[target.name] = utcnow()
            log.warning("target %s is out: %s", target.name, detail)
        self._tell(target, trouble, None, detail)

    def _tell(self, target: Target, trouble: Trouble, collection: str | None, detail: str) -> None:
        """Tell the watch, which looks at the targets online: an offline standby that is away costs no answer."""
        if not target.is_offline:
            self._observations.tell(target.name, trouble, collection, detail)

    def went_well(self, target: Target) -> None:
        """A probe of the whole server was good."""
        if self.health[target.name].whole.probed_well(self._time()):
            since = self.out_since.pop(target.name, None)
            away = f" after {(utcnow() - since).total_seconds():.1f} s" if since else ""
            log.warning("target %s is back%s", target.name, away)
