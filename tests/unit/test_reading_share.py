"""Which parts are read again tonight: those unread for the longest, so many that every one comes up within a month."""

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import TAKEN, manifest

from reanimate.backups.published import Published
from reanimate.backups.rereading import DAYS, StoredPart, choose_share, stored_parts

NIGHT = timedelta(days=1)


def _part(key: str, size: int, written_at: datetime = TAKEN) -> StoredPart:
    return StoredPart(key, size, "00" * 32, written_at, (key,))


def test_share__is_the_oldest_by_bytes() -> None:
    """One night's worth of bytes, from what was read longest ago; what was just written is hashed already."""
    parts = [_part(f"p{n:02}", 100) for n in range(56)]
    assert [part.key for part in choose_share(parts, {}, TAKEN + NIGHT)] == ["p00", "p01"]
    read = {"p00": TAKEN + NIGHT, "p01": TAKEN + NIGHT}
    assert [part.key for part in choose_share(parts, read, TAKEN + 2 * NIGHT)] == ["p02", "p03"]
    fresh = [_part("new", 10_000, TAKEN + NIGHT)]
    assert [part.key for part in choose_share([*fresh, *parts], read, TAKEN + NIGHT)][:2] == ["p02", "p03"]
    assert choose_share([], {}, TAKEN) == ()


def test_share__after_a_long_outage_is_all_that_is_overdue() -> None:
    """A promise that was missed is made good the first night."""
    parts = [_part(f"p{n}", 1) for n in range(5)]
    assert len(choose_share(parts, {}, TAKEN + 40 * NIGHT)) == 5
    assert len(choose_share(parts, {"p3": TAKEN + 39 * NIGHT}, TAKEN + 40 * NIGHT)) == 4


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 300)), min_size=90, max_size=90),
)
def test_share__of_every_night_leaves_nothing_unread_for_a_month(old: list[int], nights: list[tuple[int, int]]) -> None:
    """Whatever is written meanwhile, and each night up to five hours late: no part is older than the promise."""
    parts = [_part(f"old{n}", size) for n, size in enumerate(old)]
    read: dict[str, datetime] = {}
    for night, (size, late) in enumerate(nights):
        now = TAKEN + night * NIGHT + timedelta(minutes=late)
        for part in choose_share(parts, read, now):
            read[part.key] = now
        oldest = min(max(part.written_at, read.get(part.key, part.written_at)) for part in parts)
        assert now - oldest <= timedelta(days=DAYS)
        parts.append(_part(f"new{night}", size, now))


def test_parts__that_several_backups_share_are_read_once() -> None:
    """Content that is stored once counts once, from when it was first written, and names all who need it."""

    def backup(number: int, blob: str, sha256: str = "00" * 32) -> Published:
        one = manifest(
            id=f"b{number}",
            taken_at=TAKEN + number * NIGHT,
            parts=[{"shard_id": 0, "blob": blob, "size": 5, "sha256": sha256}],
        )
        return Published(one, f"backups/kb/b{number}/manifest.json", "")

    found = stored_parts([backup(2, "shared"), backup(1, "shared"), backup(3, "own"), backup(4, "own", "11" * 32)])
    assert {(part.key, part.written_at, part.backup_ids) for part in found} == {
        ("shared", TAKEN + NIGHT, ("b2", "b1")),
        ("own", TAKEN + 3 * NIGHT, ("b3",)),
        ("own", TAKEN + 4 * NIGHT, ("b4",)),
    }
