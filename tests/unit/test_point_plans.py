"""What the plan of a recovery point says before anything is touched."""

from datetime import UTC, datetime

from reanimate.protection.point_plans import CollectionPlan, unreached

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def _plan(name: str, *aliases: str, now: int | None = 10) -> CollectionPlan:
    return CollectionPlan(
        backup_id="x",
        collection=name,
        target="primary",
        new_name=f"{name}-r20261123120000",
        aliases=aliases,
        points=10,
        points_now=now,
        taken_at=NOW,
        age_s=0.0,
        size_bytes=1,
    )


def test_plan__says_what_goes_on_being_read_as_it_is() -> None:
    """Without an alias nobody is led to what was restored, unless the name is free for one."""
    (note,) = unreached([_plan("bare"), _plan("behind", "kb"), _plan("gone", now=None), _plan("notes")])
    assert note.startswith("no alias leads to bare, notes:")
    assert unreached([_plan("behind", "kb")]) == []
