"""Whether what is protected could be had back, and from when: the recovery point objective, and proofs. Pure.

A backup that is overdue or unproven is no loss of data. It says what would be lost if something were.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reanimate.backups.manifest import Manifest, VectorManifest
from reanimate.backups.published import Published
from reanimate.incidents.faults import Fault
from reanimate.section import is_glob
from reanimate.watch.alarm import Alarm

__all__ = ["SUBJECT", "Objectives", "Protected", "alarms_of", "is_about_backups", "protected_in"]

SUBJECT = "backups:"
"""How the subjects of these alarms begin."""

_GROUP = "protection"
"""One night without backups is one incident, however many collections there are."""
_OVERDUE, _UNPROVEN, _WRONG = "overdue", "unproven", "failed"


@dataclass(frozen=True)
class Objectives:
    """What is asked of backups."""

    recovery_point: timedelta
    nightly: timedelta = timedelta(hours=26)
    """Of what is only backed up at night: a database."""
    proof_expires: timedelta = timedelta(days=30)
    first_proof: timedelta = timedelta(hours=36)
    """By then, the first backup of a thing has been through a night, and should have been proven."""
    catch_up: timedelta = timedelta(minutes=15)
    """After a start, schedules catch up; so long nothing is said."""


@dataclass(frozen=True)
class Protected:
    """What the repository holds of one thing."""

    name: str
    kind: str
    newest: datetime | None = None
    newest_id: str = ""
    oldest: datetime | None = None
    proven: datetime | None = None
    """When any of them was last proven."""
    wrong_id: str = ""
    wrong_since: datetime | None = None
    """The newest that a proof found wrong, and when; none once a newer one is proven."""

    @property
    def key(self) -> str:
        return f"{SUBJECT}{self.name}" if self.kind == "vector" else f"{SUBJECT}{self.kind}:{self.name}"


def is_about_backups(alarm: Alarm) -> bool:
    """Say whether an alarm is one of these."""
    return alarm.subject.startswith(SUBJECT)


def protected_in(published: Iterable[Published[Manifest]], wanted: Sequence[str]) -> tuple[Protected, ...]:
    """Return what is protected, with what there is of it: the collections that are `wanted`, and every database.

    None wanted means every collection that has a backup. Configuration has no objective: it is kept when it changes.
    """
    groups: list[list[Published[Manifest]]] = []
    for one in sorted(published, key=lambda one: one.manifest.taken_at, reverse=True):
        if one.deleted or one.manifest.kind == "config":
            continue
        group = next((group for group in groups if _same(group[0].manifest, one.manifest)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    found = [_of(group) for group in groups if _is_wanted(group[0].manifest, wanted)]
    newest = [group[0].manifest for group in groups]
    never = [name for name in wanted if not is_glob(name) and not any(_answers(one, name) for one in newest)]
    return (*found, *(Protected(name, "vector") for name in never))


def _same(newer: Manifest, older: Manifest) -> bool:
    if newer.kind != older.kind:
        return False
    if isinstance(newer, VectorManifest) and isinstance(older, VectorManifest):
        return any(newer.answers_to(name) for name in (older.collection, *older.aliases))
    return newer.subject == older.subject


def _answers(manifest: Manifest, name: str) -> bool:
    return isinstance(manifest, VectorManifest) and manifest.answers_to(name)


def _is_wanted(manifest: Manifest, wanted: Sequence[str]) -> bool:
    if not isinstance(manifest, VectorManifest):
        return True
    return not wanted or any(is_glob(name) or manifest.answers_to(name) for name in wanted)


def _wrong(group: Sequence[Published[Manifest]]) -> tuple[str, datetime | None]:
    """Return the newest backup that is not right, and since when that is known, of backups that come newest first."""
    for one in group:
        if one.proven_at is not None:
            break  # something newer is known to be right
        if one.last_proof is not None:
            return one.manifest.id, one.last_proof.at
    return "", None


def _of(group: Sequence[Published[Manifest]]) -> Protected:
    newest = group[0].manifest
    wrong_id, wrong_since = _wrong(group)
    return Protected(
        name=newest.entry_name if isinstance(newest, VectorManifest) else newest.subject,
        kind=newest.kind,
        newest=newest.taken_at,
        newest_id=newest.id,
        oldest=group[-1].manifest.taken_at,
        proven=max((one.proven_at for one in group if one.proven_at), default=None),
        wrong_id=wrong_id,
        wrong_since=wrong_since,
    )


def alarms_of(
    protected: Iterable[Protected], objectives: Objectives, *, watched_since: datetime, now: datetime
) -> dict[str, Alarm]:
    """Return, by fingerprint, what is wrong with the backups now.

    `watched_since` is when the watch began: what has no backup at all is overdue from then on, and after every start
    the schedules have a moment to catch up.
    """
    if now < watched_since + objectives.catch_up:
        return {}
    found = [alarm for one in protected for alarm in _judged(one, objectives, watched_since, now)]
    return {alarm.fingerprint: alarm for alarm in found}


def _judged(one: Protected, objectives: Objectives, since: datetime, now: datetime) -> list[Alarm]:
    within = objectives.recovery_point if one.kind == "vector" else max(objectives.recovery_point, objectives.nightly)
    alarms = []
    due = (one.newest or since) + within
    if now > due:
        what = f"is {_long(now - one.newest)} old" if one.newest else "does not exist"
        alarms.append(
            _alarm(
                one,
                _OVERDUE,
                due,
                f"the newest backup of {one.name} {what}; the objective is {_long(within)}",
                f"look at the last runs of the backup flow in Prefect, then `reanimate backup run {one.name}`",
            )
        )
    if one.wrong_since is not None:
        alarms.append(
            _alarm(
                one,
                _WRONG,
                one.wrong_since,
                f"backup failed its proof: {one.wrong_id} of {one.name} is not what its manifest says",
                f"`reanimate backup show {one.wrong_id}`; take another with `reanimate backup run {one.name}`, and "
                f"`reanimate prove {one.name}`. Restores pass the wrong one over",
            )
        )
    if one.oldest:
        proof_due = one.proven + objectives.proof_expires if one.proven else one.oldest + objectives.first_proof
        if now > proof_due:
            what = f"was last proven {_long(now - one.proven)} ago" if one.proven else "was never proven"
            alarms.append(
                _alarm(
                    one,
                    _UNPROVEN,
                    proof_due,
                    f"no backup of {one.name} has a valid proof: it {what}",
                    f"`reanimate prove {one.name}` restores the newest to scratch and says what is wrong",
                )
            )
    return alarms


def _alarm(one: Protected, problem: str, since: datetime, summary: str, todo: str) -> Alarm:
    labels = {
        "alertname": f"Backup{problem.capitalize()}",
        "fault": Fault.UNKNOWN,
        "component": Fault.UNKNOWN,
        "incident_group": _GROUP,
        "backup_of": one.name,
    }
    evidence = {"check": "backups", "found": one.newest_id or "none", "detail": summary}
    return Alarm(
        fingerprint=f"watch:{one.key}:{problem}",
        subject=one.key,
        starts_at=since,
        labels={name: str(value) for name, value in labels.items()},
        annotations={"summary": summary, "todo": todo, "data": "none is lost: this is about getting it back"},
        evidence=(evidence,),
    )


def _long(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
