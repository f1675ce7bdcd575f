"""Which backups stay: cases that a person can check, and rules that hold whatever there is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from reanimate.backups.retention import Policy, Stored, Verdict, judge_retention

NOW = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)  # a Thursday
POLICY = Policy()


def stored(days_ago: float, name: str = "", **changes: object) -> Stored:
    """A full backup of kb, proven an hour after it was taken."""
    taken_at = NOW - timedelta(days=days_ago)
    backup = Stored(
        id=name or f"d{days_ago:g}",
        kind="vector",
        subject="kb",
        taken_at=taken_at,
        size=100,
        proven_at=taken_at + timedelta(hours=1),
    )
    return replace(backup, **changes)  # type: ignore[arg-type]


def judged(backups: list[Stored], policy: Policy = POLICY) -> dict[str, Verdict]:
    return {verdict.backup.id: verdict for verdict in judge_retention(backups, NOW, policy)}


def kept(backups: list[Stored], policy: Policy = POLICY) -> set[str]:
    return {name for name, verdict in judged(backups, policy).items() if verdict.keep}


def test_retention__a_year_and_a_half_of_nights() -> None:
    """Seven days, then the end of each of four weeks and of twelve months."""
    nights = [stored(day + 0.1) for day in range(550)]
    found = [verdict for verdict in judge_retention(nights, NOW, POLICY) if verdict.keep]
    assert [f"{verdict.backup.taken_at:%m-%d}" for verdict in found] == [
        *("11-26", "11-25", "11-24", "11-23", "11-22", "11-21", "11-20"),
        *("11-15", "11-08"),  # this week and the last one have their ends among the seven days
        *("10-31", "09-30", "08-31", "07-31", "06-30", "05-31", "04-30", "03-31", "02-28", "01-31"),
        "12-31",
    ]


def test_retention__weeks_and_months_are_those_of_the_zone() -> None:
    """Half past midnight on the first of September in Berlin is still August in UTC."""
    late = stored(0, "late", taken_at=datetime(2026, 8, 31, 22, 30, tzinfo=UTC))  # 1 September, 00:30 in Berlin
    early = stored(0, "early", taken_at=datetime(2026, 8, 31, 21, 30, tzinfo=UTC))  # 31 August, 23:30 in Berlin
    both = [stored(0.1, "new"), late, early]
    few = Policy(days=1, weekly=0, monthly=3)
    assert kept(both, few) == {"new", "late"}
    assert kept(both, replace(few, zone=ZoneInfo("Europe/Berlin"))) == {"new", "late", "early"}


def test_retention__says_what_stands_for_what_goes() -> None:
    """The reason of a deletion names the backups that are there instead."""
    found = judged([stored(0.1), stored(11, "sunday"), stored(13, "friday")])
    assert found["friday"].reasons == (
        "older than 7 days",
        "sunday stands for week 2026-W46",
        "d0.1 stands for month 2026-11",
    )
    many = judged([stored(0.1), *(stored(30 * month, f"m{month}") for month in range(1, 16))])
    assert many["m14"].reasons == ("older than 7 days", "before the last 4 weeks and 12 months that have backups")


def test_retention__after_a_long_outage_the_weeks_are_those_before_it() -> None:
    """A system that was off for three months loses nothing for it."""
    before = [stored(90 + 7 * week) for week in range(6)]
    assert kept(before, replace(POLICY, monthly=0)) == {"d90", "d97", "d104", "d111"}


def test_retention__people_and_use_come_first() -> None:
    """A pin, a legal hold and a reader keep what time would not."""
    old = stored(40, "old")
    newer = [stored(0.1), stored(39, "kept instead", taken_at=NOW - timedelta(days=39.9))]
    assert "old" not in kept([*newer, old])
    for mark, reason in (("pinned", "pinned"), ("held", "under legal hold"), ("in_use", "in use")):
        verdict = judged([*newer, replace(old, **{mark: True})])["old"]  # type: ignore[arg-type]
        assert verdict.keep
        assert verdict.reasons == (reason,)


def test_retention__nothing_goes_while_the_newest_is_unproven() -> None:
    """The last good one may be any of the older ones: all stay until tonight's is proven."""
    old = [stored(40, "a"), stored(40.1, "b"), stored(40.2, "c")]
    assert kept([stored(0.1), *old]) == {"d0.1", "a"}
    found = judged([stored(0.1, proven_at=None), *old])
    assert all(verdict.keep for verdict in found.values())
    assert found["c"].reasons == ("the newest full backup, d0.1, is not proven yet",)


def test_retention__partials_in_between_need_no_proof_of_their_own() -> None:
    """They come every quarter of an hour; the proven full backup below them is what counts."""
    partial = stored(0.05, "partial", base="d0.1", proven_at=None)
    assert "b" not in kept([partial, stored(0.1), stored(40, "a"), stored(40.1, "b")])


def test_retention__a_full_backup_stays_as_long_as_what_builds_on_it() -> None:
    """A pinned partial is worth nothing without the file it is a difference to."""
    pinned = stored(39, "pinned", base="full", pinned=True, proven_at=None)
    full = stored(39.1, "full")
    rest = [stored(0.1), stored(38.9, "newer")]
    found = judged([*rest, pinned, full])
    assert found["full"].reasons == ("pinned builds on it",)
    assert kept([*rest, replace(pinned, pinned=False), full]) == {"d0.1", "newer"}
    many = [stored(1 + step / 1000, f"p{step}", base="full", proven_at=None) for step in range(90)]
    assert judged([*rest, *many, full])["full"].reasons == ("90 that stay build on it, the newest p0",)


def test_retention__an_emptied_collection_pushes_nothing_out() -> None:
    """Forty proven backups of nothing do not replace the one from before."""
    nothing = [stored(day + 0.1, f"empty{day}", empty=True) for day in range(20)]
    full = stored(21, "full")
    assert judged([*nothing, full])["full"].reasons[0] == "the newest that holds anything"
    assert len(kept(nothing)) < 20, "one that was always empty is kept like any other"


def test_retention__damage_stands_for_nothing_and_is_left_to_people() -> None:
    """A broken backup does not take the place of a good one, and is evidence."""
    broken = stored(40, "broken", damaged=True)
    good = stored(40.1, "good")
    orphan = stored(41, "orphan", base="gone", proven_at=None)
    found = judged([stored(0.1), broken, good, orphan])
    assert found["broken"].reasons == ("damaged: evidence, for a person to look at",)
    assert found["good"].reasons == ("stands for week 2026-W42", "stands for month 2026-10")
    assert found["orphan"].keep


def test_retention__what_builds_on_damage_stands_for_nothing() -> None:
    """A partial of a broken full backup cannot be restored, whatever its own file says."""
    broken, partial = stored(40.2, "broken", damaged=True), stored(40, "partial", base="broken")
    assert judged([stored(0.1), broken, partial, stored(40.1, "good")])["good"].keep


def test_retention__what_a_person_deleted_goes_whatever_time_says() -> None:
    """It stands for nothing; a legal hold, a reader, and what builds on it keep it for now."""
    new, gone = stored(0.1), stored(1, "gone", unwanted="deleted by anna: asked for", pinned=True)
    assert judged([new, gone])["gone"] == Verdict(gone, False, ("deleted by anna: asked for",))
    assert judged([new, replace(gone, damaged=True, proven_at=None)])["gone"].keep is False
    assert judged([new, replace(gone, held=True)])["gone"].reasons == ("under legal hold",)
    assert judged([stored(0.5, "partial", base="gone"), new, gone])["gone"].reasons == ("partial builds on it",)
    assert judged([gone, stored(30, "old")])["old"].reasons[:2] == ("the newest", "the newest that is proven")


def test_retention__what_the_next_partial_builds_on_stays() -> None:
    """Also when a proven partial is newer, and it is old itself."""
    partial = stored(0.1, "partial", base="full", unwanted="deleted by anna: too big")
    newer = stored(9, "newer", base="full")
    assert "the newest full one" in judged([partial, newer, stored(30, "full")])["full"].reasons


def test_retention__content_stored_once_stays_for_all_who_share_it() -> None:
    """A configuration whose file lies in an older backup's folder keeps that one."""
    found = judged([stored(0.1, "new", parts_in=frozenset({"old"})), stored(38.9), stored(39, "old")])
    assert found["old"].reasons == ("new builds on it",)


def test_retention__configuration_is_history_and_stays() -> None:
    """Whatever its age; a person may delete it all the same."""
    versions = [stored(age, kind="config") for age in (0, 40, 400, 4000)]
    assert all(verdict.keep for verdict in judged(versions).values())
    unwanted = replace(stored(4000, "unwanted", kind="config"), unwanted="deleted by ada")
    assert not judged([*versions, unwanted])["unwanted"].keep


def test_retention__subjects_that_begin_alike_are_strangers() -> None:
    """Not by prefix, not across kinds: `kb`, `kb2` and a database called kb each have their own last one."""
    alike = [
        stored(400, "kb"),
        stored(0.1, "kb2", subject="kb2"),
        stored(0.1, "kb-old", subject="kb-r20261123013000"),
        stored(0.1, "rows", kind="postgres"),
    ]
    assert kept(alike) == {"kb", "kb2", "kb-old", "rows"}


# Rules that hold whatever there is.

_IDS = [f"b{number}" for number in range(14)]


@st.composite
def _stores(draw: st.DrawFn) -> list[Stored]:
    found = []
    for name in draw(st.lists(st.sampled_from(_IDS), unique=True)):
        taken_at = NOW - timedelta(hours=draw(st.integers(-5, 24 * 500)))
        found.append(
            Stored(
                id=name,
                kind=draw(st.sampled_from(["vector", "postgres"])),
                subject=draw(st.sampled_from(["kb", "kb2"])),
                taken_at=taken_at,
                size=1,
                empty=draw(st.booleans()),
                base=draw(st.sampled_from([None, None, *_IDS[:4]])),
                proven_at=draw(st.sampled_from([None, taken_at + timedelta(hours=1), NOW])),
                pinned=draw(st.booleans()) and draw(st.booleans()),
                held=draw(st.booleans()) and draw(st.booleans()),
                in_use=draw(st.booleans()) and draw(st.booleans()),
                damaged=draw(st.booleans()) and draw(st.booleans()),
                unwanted=draw(st.sampled_from(["", "", "", "deleted by anna"])),
            )
        )
    return found


_policies = st.builds(Policy, days=st.integers(0, 10), weekly=st.integers(0, 5), monthly=st.integers(0, 13))


def _subject(backup: Stored) -> tuple[str, str]:
    return backup.kind, backup.subject


@settings(deadline=None)
@given(_stores(), _policies)
def test_rule__what_must_survive_survives(backups: list[Stored], policy: Policy) -> None:
    """The newest, the last proven, and whatever people or readers hold on to."""
    stays = kept(backups, policy)
    for key in {_subject(backup) for backup in backups}:
        usable = [one for one in backups if _subject(one) == key and not one.unwanted and _whole(one, backups)]
        sound = [backup for backup in usable if not backup.empty]
        proven = [backup for backup in sound if backup.proven_at is not None]
        full = [backup for backup in sound or usable if backup.base is None]
        for some in (usable, sound, proven, full):
            if some:
                assert max(some, key=lambda backup: (backup.taken_at, backup.id)).id in stays
        if proven:
            last = max(backup.proven_at for backup in proven if backup.proven_at is not None)
            assert any(backup.id in stays for backup in proven if backup.proven_at == last)
    assert {one.id for one in backups if one.held or one.in_use} <= stays
    assert {one.id for one in backups if not one.unwanted and (one.pinned or one.damaged)} <= stays


def _whole(backup: Stored, among: list[Stored], seen: tuple[str, ...] = ()) -> bool:
    """Say whether the backup and everything below it is there and undamaged."""
    if backup.damaged or backup.id in seen:
        return False
    base = next((one for one in among if one.id == backup.base), None)
    return backup.base is None or (base is not None and _whole(base, among, (*seen, backup.id)))


@settings(deadline=None)
@given(_stores(), _policies)
def test_rule__the_base_of_what_stays_stays(backups: list[Stored], policy: Policy) -> None:
    """However long the chain, and even when it is a circle."""
    stays = kept(backups, policy)
    there = {backup.id for backup in backups}
    assert {one.base for one in backups if one.id in stays and one.base in there} <= stays


@settings(deadline=None)
@given(_stores(), _policies)
def test_rule__the_second_time_finds_nothing_to_delete(backups: list[Stored], policy: Policy) -> None:
    """What stayed stays when the rest is gone."""
    stays = kept(backups, policy)
    assert kept([backup for backup in backups if backup.id in stays], policy) == stays


@settings(deadline=None)
@given(_stores(), _policies, st.randoms())
def test_rule__the_order_of_a_listing_means_nothing(backups: list[Stored], policy: Policy, random: object) -> None:
    """The same verdicts, with the same reasons in the same order."""
    shuffled = list(backups)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge_retention(shuffled, NOW, policy) == judge_retention(backups, NOW, policy)


@settings(deadline=None)
@given(_stores(), _policies)
def test_rule__one_subject_is_nothing_to_another(backups: list[Stored], policy: Policy) -> None:
    """With the others away, each subject is judged as it was among them."""
    own = [replace(backup, base=None) for backup in backups]
    together = judged(own, policy)
    for key in {_subject(backup) for backup in own}:
        alone = judged([backup for backup in own if _subject(backup) == key], policy)
        assert all(together[name] == verdict for name, verdict in alone.items())


@settings(deadline=None)
@given(_stores(), _policies)
def test_rule__nothing_goes_while_the_newest_full_one_is_unproven(backups: list[Stored], policy: Policy) -> None:
    """Proofs first, then deletions."""
    stays = kept(backups, policy)
    for key in {_subject(backup) for backup in backups}:
        mine = [backup for backup in backups if _subject(backup) == key]
        mine = [backup for backup in mine if not backup.unwanted]
        full = [backup for backup in mine if backup.base is None and not backup.empty and not backup.damaged]
        if full and max(full, key=lambda backup: (backup.taken_at, backup.id)).proven_at is None:
            assert {backup.id for backup in mine} <= stays


@settings(deadline=None)
@given(_stores(), _policies)
def test_rule__every_verdict_says_why(backups: list[Stored], policy: Policy) -> None:
    """Nothing is kept or deleted without a reason."""
    verdicts = judge_retention(backups, NOW, policy)
    assert sorted(verdict.backup.id for verdict in verdicts) == sorted(backup.id for backup in backups)
    assert all(verdict.reasons for verdict in verdicts)
