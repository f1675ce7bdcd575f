"""The recovery point objective: when an alarm is raised about backups, what it says, and when there is none."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from manifests import manifest

from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import Mark, What
from reanimate.backups.published import Published
from reanimate.clock import utcnow
from reanimate.incidents.severity import Severity, Users, severity_of
from reanimate.incidents.triage import Claim, claim_of, impact_of, users_of
from reanimate.watch.alarm import Alarm
from reanimate.watch.backup_vigil import BackupVigil
from reanimate.watch.desk import Desk
from reanimate.watch.outbox import Outbox
from reanimate.watch.recovery_points import Objectives, Protected, alarms_of, is_about_backups, protected_in

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=9)
OBJECTIVES = Objectives(timedelta(hours=1))


def at(hours_ago: float, *marks: tuple[What, float], **changes: object) -> Published[Manifest]:
    """A backup of kb taken so long ago, with marks by their age in hours."""
    one = manifest(taken_at=NOW - timedelta(hours=hours_ago), id=f"h{hours_ago:g}", **changes)
    made = tuple(Mark(what, NOW - timedelta(hours=age), f"{what}-{age}") for what, age in marks)
    return Published(one, f"backups/kb/{one.id}/manifest.json", "00" * 32, made)


def said(
    published: list[Published[Manifest]], *wanted: str, now: datetime = NOW, since: datetime = LONG_AGO
) -> dict[str, Alarm]:
    return alarms_of(protected_in(published, wanted), OBJECTIVES, watched_since=since, now=now)


PROVEN = ("proof-passed", 30.0)


def test_alarms__none_where_there_is_nothing_to_protect() -> None:
    """A fresh installation is quiet."""
    assert said([]) == {}


def test_alarms__none_while_backups_are_young_and_proven() -> None:
    """The newest counts, whichever of them was proven."""
    assert said([at(0.5), at(30, PROVEN)]) == {}


def test_alarms__overdue_from_the_moment_the_objective_was_passed() -> None:
    """It says how old, since when, and what to do; and it is no loss of data."""
    alarm = said([at(3, PROVEN)])["watch:backups:kb:overdue"]
    assert alarm.starts_at == NOW - timedelta(hours=2)
    assert alarm.annotations["summary"] == "the newest backup of kb is 3 h old; the objective is 60 min"
    assert "reanimate backup run kb" in alarm.annotations["todo"]
    assert is_about_backups(alarm)
    finding = claim_of(Claim(alarm.fingerprint, "unknown", alarm.labels, alarm.annotations))
    assert severity_of(impact_of(finding, [])[0], users_of([finding], Users.ALL)) is Severity.P3


def test_alarms__a_backup_that_was_deleted_does_not_count() -> None:
    """It is on its way out."""
    assert set(said([at(0.5, ("deleted", 0.1)), at(3, PROVEN)])) == {"watch:backups:kb:overdue"}


def test_alarms__what_the_settings_name_and_nobody_ever_backed_up() -> None:
    """Overdue since the watch has known of it; a glob names nothing by itself."""
    assert set(said([], "kb", "notes-*")) == {"watch:backups:kb:overdue"}
    assert "does not exist" in said([], "kb")["watch:backups:kb:overdue"].annotations["summary"]
    assert said([], "kb", since=NOW - timedelta(minutes=50)) == {}


def test_alarms__a_moment_after_a_start_to_catch_up() -> None:
    """After a weekend off, the schedules are faster than the alarm."""
    assert said([at(60, PROVEN)], since=NOW - timedelta(minutes=14)) == {}
    assert said([at(60, PROVEN)], since=NOW - timedelta(minutes=16))


def test_alarms__never_proven_and_proven_too_long_ago() -> None:
    """The first night is waited for; then a proof is good for a month."""
    assert said([at(0.5), at(35)]) == {}
    assert set(said([at(0.5), at(37)])) == {"watch:backups:kb:unproven"}
    assert said([at(0.5), at(800, ("proof-passed", 24 * 29))]) == {}
    old = said([at(0.5), at(800, ("proof-passed", 24 * 31))])["watch:backups:kb:unproven"]
    assert "last proven 31 d ago" in old.annotations["summary"]
    assert said([at(0.5), at(40, ("proof-passed", 39), ("proof-failed", 38))]), "the newest proof of it failed"


def test_protected_in__a_restored_collection_is_the_same_thing() -> None:
    """After a restore, the backups before and after it are one history, by the name that readers use."""
    after = at(0.5, collection="kb-r20261123013000", aliases=["kb"], asked_as="kb")
    (one,) = protected_in([after, at(30, PROVEN)], ())
    assert (one.name, one.newest_id, one.proven is not None) == ("kb", "h0.5", True)
    assert [one.name for one in protected_in([after, at(2, collection="other", asked_as="other")], ["kb"])] == ["kb"]


def test_protected_in__a_database_is_backed_up_at_night() -> None:
    """It is not overdue an hour later; it is when a night was left out."""

    def dump(hours_ago: float) -> Published[Manifest]:
        one = Manifest(
            kind="postgres",
            id="d",
            subject="orders",
            target="orders",
            taken_at=NOW - timedelta(hours=hours_ago),
            tool_version="0",
            parts=(),
        )
        return Published(one, "dumps/orders/d/manifest.json", "00" * 32, (Mark("proof-passed", NOW, "x"),))

    assert said([dump(10)]) == {}
    assert set(said([dump(27)], "kb", since=NOW - timedelta(minutes=30))) == {"watch:backups:postgres:orders:overdue"}


async def test_vigil__raises_and_ends(tmp_path: Path) -> None:
    """Through the same desk as every alarm of the watch; held back while a vector store is in trouble."""
    desk = Desk(tmp_path, Outbox(tmp_path / "outbox", "http://127.0.0.1:9", "token"))
    old = Protected("kb", "vector", utcnow() - timedelta(hours=3), "b1", utcnow(), utcnow())
    there: list[tuple[Protected, ...] | None] = [None]

    def judged() -> set[str]:
        BackupVigil(desk, OBJECTIVES, lambda: there[0], utcnow() - timedelta(days=1)).judge()
        return {name for name, alarm in desk.firing.items() if is_about_backups(alarm)}

    assert judged() == set(), "the catalog was never read"
    there[0] = (old,)
    desk.fire(Alarm("watch:vector:primary:down", "vector:primary", utcnow(), {}, {}), utcnow())
    assert judged() == set()
    desk.resolve("watch:vector:primary:down", utcnow())
    assert judged() == {"watch:backups:kb:overdue"}
    there[0] = (Protected("kb", "vector", utcnow(), "b2", utcnow(), utcnow()),)
    assert judged() == set()


def test_alarms__a_failed_proof_until_something_newer_is_proven() -> None:
    """It names the backup, says what to do, and ends by itself; an older one that is wrong is no news then."""
    failed: tuple[What, float] = ("proof-failed", 2.0)
    alarm = said([at(0.5), at(5, failed), at(30, PROVEN)])["watch:backups:kb:failed"]
    assert alarm.starts_at == NOW - timedelta(hours=2)
    assert "h5 of kb is not what its manifest says" in alarm.annotations["summary"]
    assert "reanimate prove kb" in alarm.annotations["todo"]
    finding = claim_of(Claim(alarm.fingerprint, "unknown", alarm.labels, alarm.annotations))
    assert severity_of(impact_of(finding, [])[0], users_of([finding], Users.ALL)) is Severity.P3
    assert said([at(0.5, ("proof-passed", 0.2)), at(5, failed)]) == {}
    assert said([at(0.5), at(5, ("proof-failed", 4.0), ("proof-passed", 2.0))]) == {}
    assert said([at(0.5), at(5, failed, ("deleted", 1.0)), at(30, PROVEN)]) == {}
