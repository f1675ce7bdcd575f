"""Which backups stay and which may go, with the reasons. Pure: facts and the time in, verdicts out.

Each subject (of one kind, by its exact name) is judged by itself, from three sides. First, time: what is younger than
some days stays, and of each of the last weeks and months that have backups, the best one. Then, trust: nothing goes
while the newest full backup is unproven, and the newest and the last proven ones stay whatever their age. Last,
people and use: pins, legal holds, readers; and what a backup that stays is built on stays with it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

__all__ = ["Policy", "Stored", "Verdict", "judge_retention"]


@dataclass(frozen=True)
class Stored:
    """A published backup as far as retention must know it."""

    id: str
    kind: str
    subject: str
    taken_at: datetime
    size: int
    empty: bool = False
    """It holds nothing: an emptied collection must not push out the backups from before."""
    base: str | None = None
    """The full backup that a partial one builds on."""
    proven_at: datetime | None = None
    pinned: bool = False
    held: bool = False
    in_use: bool = False
    damaged: bool = False
    """Its manifest cannot be trusted, or its last proof failed. It stands for nothing, and a rule never deletes it."""
    unwanted: str = ""
    """Why a person has deleted it. It stands for nothing; only a legal hold, or use, keeps it for now."""
    parts_in: frozenset[str] = frozenset()
    """The other backups in which parts of it lie, where the same content is stored once."""


@dataclass(frozen=True)
class Policy:
    """How long backups of a repository stay."""

    days: int = 7
    weekly: int = 4
    monthly: int = 12
    zone: tzinfo = UTC
    """Whose weeks and months."""


@dataclass(frozen=True)
class Verdict:
    """Keep it or delete it, and every reason why."""

    backup: Stored
    keep: bool
    reasons: tuple[str, ...]


@dataclass
class _Subject:
    """The backups of one subject, newest first, and why each of them stays."""

    backups: list[Stored]
    whole: Callable[[Stored], bool]
    """Whether everything it builds on is there, and sound."""
    reasons: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pushed_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By id, which better backups stand for its week and month."""

    def __post_init__(self) -> None:
        self.judged = [backup for backup in self.backups if not backup.unwanted]
        self.usable = [backup for backup in self.judged if not backup.damaged and self.whole(backup)]
        self.sound = [backup for backup in self.usable if not backup.empty] or self.usable
        self.newest = next(iter(self.usable), None)

    def keep(self, backup: Stored | None, reason: str) -> None:
        if backup is not None:
            self.reasons[backup.id].append(reason)


def judge_retention(backups: Iterable[Stored], now: datetime, policy: Policy) -> tuple[Verdict, ...]:
    """Judge every backup of one repository; by kind and subject, the newest first.

    A period of which nothing is left does not count: after a long outage, the last weeks are those before it.
    """
    everything = {backup.id: backup for backup in backups}
    whole = _wholeness(everything)
    by_subject: dict[tuple[str, str], list[Stored]] = defaultdict(list)
    for backup in everything.values():
        by_subject[backup.kind, backup.subject].append(backup)
    subjects = [_Subject(sorted(by_subject[key], key=_by_age, reverse=True), whole) for key in sorted(by_subject)]
    for subject in subjects:
        _what_people_want(subject)
        _what_is_not_judged(subject)
        _what_is_history(subject)
        _what_is_trusted(subject)
        _what_is_recent(subject, now, policy)
        _what_stands_for_a_time(subject, policy)
        _what_may_yet_be_needed(subject)
    _what_others_build_on(subjects)
    return tuple(_verdict(subject, backup, policy) for subject in subjects for backup in subject.backups)


def _wholeness(backups: Mapping[str, Stored]) -> Callable[[Stored], bool]:
    def whole(backup: Stored) -> bool:
        seen = {backup.id}
        while backup.base is not None:
            base = backups.get(backup.base)
            if base is None or base.damaged or base.id in seen:
                return False
            seen.add(base.id)
            backup = base
        return True

    return whole


def _what_people_want(subject: _Subject) -> None:
    for backup in subject.backups:
        if backup.held:
            subject.keep(backup, "under legal hold")
        if backup.pinned and not backup.unwanted:
            subject.keep(backup, "pinned")
        if backup.in_use:
            subject.keep(backup, "in use")


def _what_is_not_judged(subject: _Subject) -> None:
    for backup in subject.judged:
        if backup.damaged:
            subject.keep(backup, "damaged: evidence, for a person to look at")
        elif not subject.whole(backup):
            subject.keep(backup, f"it builds on {backup.base}, which is not here or damaged: for a person to look at")


def _what_is_history(subject: _Subject) -> None:
    """Each change of configuration is a version for good: small, and the only copy of what was before it."""
    for backup in subject.judged:
        if backup.kind == "config":
            subject.keep(backup, "a version of the configuration history")


def _what_is_trusted(subject: _Subject) -> None:
    """The newest stay, and those last proven, whatever their age."""
    subject.keep(subject.newest, "the newest")
    if subject.sound[:1] != subject.usable[:1]:
        subject.keep(next(iter(subject.sound), None), "the newest that holds anything")
    full = _newest_full(subject)
    if full is not subject.newest:
        subject.keep(full, "the newest full one")
    proven = [backup for backup in subject.sound if backup.proven_at is not None]
    newest_proven = next(iter(proven), None)
    subject.keep(newest_proven, "the newest that is proven")
    last_proven = max(proven, key=lambda backup: (backup.proven_at, *_by_age(backup)), default=None)
    if last_proven is not newest_proven:
        subject.keep(last_proven, "proven last")


def _newest_full(subject: _Subject) -> Stored | None:
    """Return what the next small backups build on."""
    return next((backup for backup in subject.sound if backup.base is None), None)


def _what_is_recent(subject: _Subject, now: datetime, policy: Policy) -> None:
    for backup in subject.judged:
        if backup.taken_at > now - timedelta(days=policy.days):
            subject.keep(backup, f"of the last {policy.days} days")


def _what_stands_for_a_time(subject: _Subject, policy: Policy) -> None:
    _best_of_each(subject, policy.weekly, _week(policy.zone), "week")
    _best_of_each(subject, policy.monthly, _month(policy.zone), "month")


def _best_of_each(subject: _Subject, count: int, period_of: Callable[[Stored], str], what: str) -> None:
    """Keep the best of each of the newest `count` periods that have a backup."""
    periods: dict[str, list[Stored]] = defaultdict(list)
    for backup in subject.usable:
        periods[period_of(backup)].append(backup)
    for period in sorted(periods, reverse=True)[:count]:
        best = max(periods[period], key=_by_worth)
        subject.keep(best, f"stands for {what} {period}")
        for other in periods[period]:
            if other is not best:
                subject.pushed_out[other.id].append(f"{best.id} stands for {what} {period}")


def _what_may_yet_be_needed(subject: _Subject) -> None:
    """While the newest full backup is unproven, nobody knows yet what would have to take its place."""
    full = _newest_full(subject)
    if full is None:
        why = "no full backup of it can be used"
    elif full.proven_at is None:
        why = f"the newest full backup, {full.id}, is not proven yet"
    else:
        return
    for backup in subject.judged:
        if not subject.reasons[backup.id]:
            subject.keep(backup, why)


def _what_others_build_on(subjects: Sequence[_Subject]) -> None:
    """Keep the base of whatever stays, and the base of that, wherever it is: without it, nothing can be restored."""
    where = {backup.id: (subject, backup) for subject in subjects for backup in subject.backups}
    waiting = [backup for subject in subjects for backup in subject.backups if subject.reasons[backup.id]]
    for backup in waiting:  # grows while it is walked
        for needed in sorted({*filter(None, [backup.base]), *backup.parts_in} & where.keys()):
            subject, base = where[needed]
            if not subject.reasons[base.id]:
                waiting.append(base)
            subject.keep(base, f"{backup.id} builds on it")


def _verdict(subject: _Subject, backup: Stored, policy: Policy) -> Verdict:
    if reasons := subject.reasons[backup.id]:
        return Verdict(backup, True, _shortened(reasons))
    if backup.unwanted:
        return Verdict(backup, False, (backup.unwanted,))
    old = f"older than {policy.days} days"
    better = subject.pushed_out[backup.id]
    rest = better or [f"before the last {policy.weekly} weeks and {policy.monthly} months that have backups"]
    return Verdict(backup, False, (old, *rest))


def _shortened(reasons: list[str]) -> tuple[str, ...]:
    """Name three backups that build on one, and count the others: a full one has a partial every quarter of an hour."""
    builders = [reason for reason in reasons if reason.endswith(" builds on it")]
    others = [reason for reason in reasons if reason not in builders]
    if len(builders) <= 3:
        return (*others, *builders)
    return (*others, f"{len(builders)} that stay build on it, the newest {builders[0].removesuffix(' builds on it')}")


def _by_age(backup: Stored) -> tuple[datetime, str]:
    return backup.taken_at, backup.id


def _by_worth(backup: Stored) -> tuple[bool, bool, bool, datetime, str]:
    """What holds something, is proven and is whole, in this order; among equals the newest."""
    return not backup.empty, backup.proven_at is not None, backup.base is None, *_by_age(backup)


def _week(zone: tzinfo) -> Callable[[Stored], str]:
    def week(backup: Stored) -> str:
        year, number, _ = backup.taken_at.astimezone(zone).isocalendar()
        return f"{year:04}-W{number:02}"

    return week


def _month(zone: tzinfo) -> Callable[[Stored], str]:
    return lambda backup: f"{backup.taken_at.astimezone(zone):%Y-%m}"
