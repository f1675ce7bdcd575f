"""What restores leave behind: collections that a killed one began, and those that were live before. Pure rules."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from reanimate.backups.manifest import base_name

__all__ = ["ANNOUNCED_FOR", "Fate", "Known", "Leftover", "Old", "judge_leftovers", "judge_old"]

ANNOUNCED_FOR = timedelta(hours=12)
"""Between saying that an old collection goes and removing it: a night's report is read in the morning."""

_RESTORED = re.compile(r".+-r\d{14}(-\d+)?")


@dataclass(frozen=True)
class Known:
    """One restore as the record knows it."""

    row_id: int
    subject: str
    new_name: str
    state: str
    started_at: datetime
    owner_lives: bool = False
    """Of one that is running: somebody holds its lock, or its incident is open."""
    before: Mapping[str, str] | None = None
    after: Mapping[str, str] | None = None
    keep_until: datetime | None = None
    doomed_at: datetime | None = None
    removed_at: datetime | None = None
    totals: Mapping[str, int] | None = None
    """Writes acknowledged by the name they were sent to, at the moment of the switch."""


@dataclass(frozen=True)
class Leftover:
    """A collection with a restore's name that nothing points at."""

    name: str
    why: str
    removable: bool
    """The record knows that it is nobody's; else a person must name it."""


def judge_leftovers(
    collections: Iterable[str], aliases: Mapping[str, str], restores: Sequence[Known]
) -> list[Leftover]:
    """Return what killed and failed restores have left, and what nobody knows of."""
    live = {*aliases.values()}
    by_name = {one.new_name: one for one in restores}  # oldest first: the last one counts
    olds = {name for one in restores for name in (one.before or {}).values()}
    found = []
    for name in sorted(collections):
        if not _RESTORED.fullmatch(name) or name in live or name in olds:
            continue
        known = by_name.get(name)
        if known is None:
            found.append(Leftover(name, "the record knows no restore of this name", removable=False))
        elif known.state == "failed":
            found.append(Leftover(name, f"the restore of {known.started_at:%Y-%m-%d %H:%M} UTC failed", removable=True))
        elif known.state == "running" and not known.owner_lives:
            found.append(
                Leftover(name, f"the restore of {known.started_at:%Y-%m-%d %H:%M} UTC was cut off", removable=True)
            )
    return found


class Fate(StrEnum):
    KEPT = "kept"
    ANNOUNCED = "announced"  # due now: it goes at a later look
    WAITING = "waiting"  # announced before, and not long enough ago
    REMOVED = "removed"


@dataclass(frozen=True)
class Old:
    """A collection that was live before a restore, what becomes of it, and why."""

    name: str
    row_id: int
    subject: str
    fate: Fate
    why: str


def judge_old(
    collections: Collection[str],
    aliases: Mapping[str, str],
    restores: Sequence[Known],
    *,
    backed_up: Collection[str],
    totals: Mapping[str, int] | None,
    keep: timedelta,
    now: datetime,
    at_once: bool = False,
) -> list[Old]:
    """Say of each collection that a restore has taken out of service whether it goes.

    `backed_up` are the subjects that a usable backup holds, `totals` the writes acknowledged until now by name.
    `at_once` removes what is due without announcing it first.
    """
    last: dict[str, Known] = {}
    for one in restores:
        if one.state in ("done", "running") and one.before and not one.removed_at:
            for name in one.before.values():
                if name != one.new_name and name in collections:
                    last[name] = one
    found = []
    for name, one in sorted(last.items()):
        if why := _why_kept(name, one, aliases, backed_up, totals, keep, now):
            found.append(Old(name, one.row_id, one.subject, Fate.KEPT, why))
        elif at_once or (one.doomed_at and one.doomed_at + ANNOUNCED_FOR <= now):
            found.append(Old(name, one.row_id, one.subject, Fate.REMOVED, f"{one.new_name} has taken its place"))
        elif one.doomed_at:
            goes = one.doomed_at + ANNOUNCED_FOR
            found.append(Old(name, one.row_id, one.subject, Fate.WAITING, f"goes after {goes:%Y-%m-%d %H:%M} UTC"))
        else:
            goes = now + ANNOUNCED_FOR
            found.append(Old(name, one.row_id, one.subject, Fate.ANNOUNCED, f"goes after {goes:%Y-%m-%d %H:%M} UTC"))
    return found


def _why_kept(
    name: str,
    one: Known,
    aliases: Mapping[str, str],
    backed_up: Collection[str],
    totals: Mapping[str, int] | None,
    keep: timedelta,
    now: datetime,
) -> str | None:
    if pointing := sorted(alias for alias, owner in aliases.items() if owner == name):
        return f"{', '.join(pointing)} points at it"
    if one.state == "running" and one.owner_lives:
        return f"the restore into {one.new_name} is going on"
    until = one.keep_until or one.started_at + keep
    if now < until:
        return f"until {until:%Y-%m-%d %H:%M} UTC, to go back to"
    if lost := sorted(alias for alias in one.after or {} if alias not in aliases):
        return f"{', '.join(lost)} points nowhere now: it may be needed"
    if base_name(one.subject) not in backed_up:
        return f"no usable backup holds {one.subject}"
    if one.totals is not None:
        if totals is None:
            return "a gateway does not say whether somebody still writes to it"
        if totals.get(name, 0) > one.totals.get(name, 0):
            return "somebody still writes to it by its own name"
    return None
