"""Which backups are proven tonight: everything new, what has expired, one older a week, nothing twice."""

from datetime import timedelta
from typing import Any

import pytest
from manifests import TAKEN, manifest

from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import Mark, What
from reanimate.backups.published import Published
from reanimate.proofs.due import due_proofs

NOW = TAKEN + timedelta(hours=2)
VALID = timedelta(days=30)


def backup(name: str, hours_ago: float, *marks: tuple[What, float], **changes: Any) -> Published[Manifest]:
    """A backup of `kb` and its marks, each so many hours ago."""
    made = tuple(Mark(what, NOW - timedelta(hours=ago), f"{name}/{what}") for what, ago in marks)
    given = manifest(id=name, taken_at=NOW - timedelta(hours=hours_ago), **changes)
    return Published(given, f"backups/kb/{name}/manifest.json", "ab" * 32, made)


def due(*backups: Published[Manifest], draw: float = 0.0) -> list[str]:
    return [one.backup.manifest.id for one in due_proofs(backups, now=NOW, valid_for=VALID, draw=draw)]


def test_due__every_new_full_backup_and_the_newest_changes() -> None:
    """The night's backups; of the small ones the newest, which stands on its full one; missed nights are caught up."""
    found = due(
        backup("tonight", 1),
        backup("docs", 1.5, collection="docs", subject="docs"),
        backup("changes-2", 3, base="yesterday"),
        backup("changes-1", 4, base="yesterday"),
        backup("yesterday", 25),
        backup("last-week", 24 * 7),
        backup("long-ago", 24 * 30, ("proof-passed", 24 * 29)),
        backup("deleted", 2, ("deleted", 1)),
        draw=0.0,
    )
    assert found == ["tonight", "docs", "changes-2", "yesterday", "last-week", "long-ago"]


def test_due__nothing_when_all_is_proven() -> None:
    """What passed is not proven again, and what failed is not tried again by itself."""
    assert (
        due(
            backup("tonight", 1, ("proof-passed", 0.5)),
            backup("changes", 3, ("proof-passed", 1), base="wrong"),
            backup("wrong", 25, ("proof-passed", 20), ("proof-failed", 1)),
        )
        == []
    )


def test_due__the_newest_again_when_its_proof_has_expired() -> None:
    """Only the newest: an older one waits for the weekly draw."""
    old = ("proof-passed", 24 * 31.0)
    assert due(backup("newest", 24 * 32, old), backup("older", 24 * 40, old), draw=0.99) == ["newest", "older"]


@pytest.mark.parametrize(("draw", "chosen"), [(0.0, "a"), (0.34, "b"), (0.67, "c"), (0.999, "c")])
def test_due__an_older_one_each_week_by_chance(draw: float, chosen: str) -> None:
    """Any older one that was not proven this week, each as likely as the others."""
    older = [backup(name, hours, ("proof-passed", hours - 1)) for name, hours in (("a", 240), ("b", 264), ("c", 288))]
    tonight = backup("tonight", 1, ("proof-passed", 0.5))
    assert due(tonight, *older, draw=draw) == [chosen]
    this_week = backup("b", 264, ("proof-passed", 263), ("proof-passed", 50))
    assert due(tonight, older[0], this_week, older[2], draw=draw) == []


def test_due__the_same_night_does_not_count_as_the_weekly_one() -> None:
    """A proof hours after its backup is that of its own night."""
    proven = [backup(f"n{days}", 24 * days + 1, ("proof-passed", 24 * days)) for days in range(3)]
    assert due(*proven, backup("old", 400, ("proof-passed", 399))) == ["old"]


def test_due__of_copies_only_the_weekly_one() -> None:
    """What was proven of the original holds for the copy; the way back from there is tried once a week."""
    backups = [backup("tonight", 1), backup("old", 240), backup("older", 264)]
    found = due_proofs(backups, now=NOW, valid_for=VALID, draw=0.9, copies=True)
    assert [one.backup.manifest.id for one in found] == ["older"]


def test_due__databases_too_configuration_not() -> None:
    """A dump is proven like a collection; kept versions of files have nothing to be restored for."""
    other = backup("x", 1)
    dump = other.manifest.model_copy(update={"kind": "postgres", "id": "dump"})
    files = other.manifest.model_copy(update={"kind": "config", "id": "files"})
    found = due(
        Published(dump, "dumps/agent/dump/manifest.json", ""), Published(files, "configs/app/files/manifest.json", "")
    )
    assert found == ["dump"]
