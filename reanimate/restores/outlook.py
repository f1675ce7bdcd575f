"""What a restore will take and what it leaves behind: time, room, writes that no backup holds. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reanimate.backups.manifest import VectorManifest

__all__ = [
    "Earlier",
    "Outlook",
    "WritesSince",
    "expected_time",
    "megabytes",
    "room_needed",
    "span",
    "whole_bytes",
    "writes_since",
]

_SPARE = 64 << 20
_AT_ONCE = 2
"""Shards on their way, as `RestoreOptions.parallel` says."""


@dataclass(frozen=True)
class Earlier:
    """A restore that ended well."""

    subject: str
    ended_at: datetime
    took_s: float
    size_bytes: int


@dataclass(frozen=True)
class WritesSince:
    """Writes that gateways acknowledged after a backup was taken: it cannot hold them."""

    by_name: dict[str, int]
    """By the collection or alias that they were sent to."""
    since: str

    @property
    def total(self) -> int:
        return sum(self.by_name.values())


@dataclass(frozen=True)
class Outlook:
    """What the restore of one backup needs."""

    took_last: str = "not known yet"
    expected_s: float | None = None
    needed_here: int = 0
    free_here: int | None = None
    needed_there: int = 0
    free_there: int | None = None
    """None when the server does not say, as real ones do not."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Say where there is not enough room."""
        found = []
        for where, needed, free in (
            ("this machine", self.needed_here, self.free_here),
            ("the server", self.needed_there, self.free_there),
        ):
            if free is not None and free < needed:
                found.append(f"{where} has {megabytes(free)} free, the restore needs {megabytes(needed)} there")
        return tuple(found)

    @property
    def fits(self) -> bool:
        return not self.problems


def expected_time(subject: str, size_bytes: int, earlier: Sequence[Earlier] | None) -> tuple[str, float | None]:
    """Say how long it took the last time, and return what it will take about, in seconds; None when nothing tells.

    The same collection's last restore tells most; else the throughput of all others. `earlier` is None while the record
    is away.
    """
    if earlier is None:
        return "not known: the record does not answer", None
    own = [one for one in earlier if one.subject == subject]
    if own:
        last = max(own, key=lambda one: one.ended_at)
        expected = last.took_s * (size_bytes / last.size_bytes if last.size_bytes else 1.0)
        said = f"{last.took_s:.1f} s on {last.ended_at:%Y-%m-%d %H:%M} UTC for {megabytes(last.size_bytes)}"
        return said, round(max(expected, 0.1), 1)
    moved, spent = sum(one.size_bytes for one in earlier), sum(one.took_s for one in earlier)
    if not moved or not spent:
        return "not known yet: nothing has been restored", None
    rate = moved / spent
    said = f"never done; other restores went at {rate / 1e6:.1f} MB/s"
    return said, round(max(size_bytes / rate, 0.1), 1)


def room_needed(manifest: VectorManifest) -> tuple[int, int]:
    """Return the bytes needed on this machine and on the server.

    Here a few shards are on their way at a time, changes together with what they are merged from; the server holds the
    uploads beside what it unpacks, and the old collection stays.
    """
    here = sorted(part.whole_size * (2 if part.whole else 1) + part.size for part in manifest.parts)
    sent = sorted(part.whole_size for part in manifest.parts)
    return sum(here[-_AT_ONCE:]) + _SPARE, whole_bytes(manifest) + sum(sent[-_AT_ONCE:])


def whole_bytes(manifest: VectorManifest) -> int:
    """Return the bytes of all complete shards: what is restored, also of a backup that holds changes only."""
    return sum(part.whole_size for part in manifest.parts)


def writes_since(manifest: VectorManifest, totals: dict[str, int] | None) -> WritesSince | None:
    """Return the acknowledged writes that a backup cannot hold; None when one of the two counts is not known."""
    if totals is None or manifest.gateway_totals is None:
        return None
    then = manifest.gateway_totals
    names = [manifest.collection, *manifest.aliases]
    found = {name: max(0, totals.get(name, 0) - then.get(name, 0)) for name in dict.fromkeys(names)}
    return WritesSince({name: count for name, count in found.items() if count}, manifest.taken_at.isoformat())


def span(later: datetime, earlier: datetime) -> str:
    """Say how far apart two moments are, roundly."""
    seconds = max(0, round((later - earlier).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds} s"


def megabytes(size: int | None) -> str:
    """Say a number of bytes, or that it is not known."""
    return "–" if size is None else f"{size / 1e6:.1f} MB"
