"""What is left behind by restores, and when what was live before goes."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from reanimate.restores.leftovers import ANNOUNCED_FOR, Fate, Known, judge_leftovers, judge_old

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NEW = "kb-r20261123063000"
DONE = Known(
    1,
    "kb",
    NEW,
    "done",
    NOW - timedelta(days=4),
    before={"library": "kb"},
    after={"library": NEW},
    keep_until=NOW - timedelta(days=1),
)
LIVE = {"library": NEW}


@dataclass(frozen=True)
class Left:
    """One collection, what is known of it, and whether it is a leftover: None when not, else whether it may go."""

    name: str
    collection: str = NEW
    aliases: dict[str, str] = field(default_factory=dict)
    restores: tuple[Known, ...] = ()
    removable: bool | None = None
    why: str = ""


LEFT = [
    Left("a live one", aliases=LIVE, restores=(replace(DONE, state="running"),)),
    Left("not a restore's name", collection="kb"),
    Left("a seed's name", collection="kb-s20261123063000"),
    Left("nobody knows it", removable=False, why="knows no restore of this name"),
    Left("done, and somebody moved the alias", restores=(DONE,)),
    Left("undone: kept on purpose", restores=(replace(DONE, state="undone"),)),
    Left("failed", restores=(replace(DONE, state="failed"),), removable=True, why="failed"),
    Left("running now", restores=(replace(DONE, state="running", owner_lives=True),)),
    Left("cut off", restores=(replace(DONE, state="running"),), removable=True, why="was cut off"),
    Left("a number at the end", f"{NEW}-2", {}, (replace(DONE, new_name=f"{NEW}-2", state="failed"),), removable=True),
    Left(
        "old, of a later restore",
        restores=(replace(DONE, state="failed"), replace(DONE, row_id=2, new_name="kb-r2", before={"library": NEW})),
    ),
    Left("begun again after a failure", restores=(replace(DONE, state="failed"), DONE)),
]  # fmt: skip


@pytest.mark.parametrize("case", LEFT, ids=lambda case: case.name)
def test_leftovers(case: Left) -> None:
    """Only what a restore has begun and nobody uses is a leftover; what nobody knows of needs a person's word."""
    found = judge_leftovers([case.collection, "other"], case.aliases, case.restores)
    assert [one.removable for one in found] == ([] if case.removable is None else [case.removable])
    assert all(case.why in one.why for one in found)


@dataclass(frozen=True)
class Before:
    """What was live before a restore, and what becomes of it."""

    name: str
    fate: Fate | None
    why: str = ""
    restore: Known = DONE
    aliases: dict[str, str] = field(default_factory=lambda: dict(LIVE))
    backed_up: tuple[str, ...] = ("kb",)
    totals: dict[str, int] | None = None
    at_once: bool = False


SOON = replace(DONE, keep_until=NOW + timedelta(hours=1))
COUNTED = replace(DONE, totals={"kb": 3})

OLD = [
    Before("its time is not over", Fate.KEPT, "to go back to", SOON),
    Before("due: announced first", Fate.ANNOUNCED, "goes after 2026-11-27 00:00"),
    Before("announced an hour ago", Fate.WAITING, "goes after", replace(DONE, doomed_at=NOW - timedelta(hours=1))),
    Before("announced long ago", Fate.REMOVED, NEW, replace(DONE, doomed_at=NOW - ANNOUNCED_FOR)),
    Before("at once", Fate.REMOVED, NEW, at_once=True),
    Before("at once, but its time is not over", Fate.KEPT, "to go back to", SOON, at_once=True),
    Before("gone already", None, restore=replace(DONE, removed_at=NOW)),
    Before("live again", Fate.KEPT, "library points at it", aliases={"library": "kb"}, at_once=True),
    Before("another alias came to it", Fate.KEPT, "faq points at it", aliases={**LIVE, "faq": "kb"}, at_once=True),
    Before("the alias is nowhere", Fate.KEPT, "points nowhere", aliases={}, at_once=True),
    Before("no backup of it", Fate.KEPT, "no usable backup", backed_up=("other",), at_once=True),
    Before("undone", None, restore=replace(DONE, state="undone"), at_once=True),
    Before("failed", None, restore=replace(DONE, state="failed"), at_once=True),
    Before("killed after the switch", Fate.REMOVED, NEW, replace(DONE, state="running", keep_until=None), at_once=True),
    Before("going on", Fate.KEPT, "going on", replace(DONE, state="running", owner_lives=True), at_once=True),
    Before("written to by its own name", Fate.KEPT, "still writes", COUNTED, totals={"kb": 4}, at_once=True),
    Before("not written to", Fate.REMOVED, NEW, COUNTED, totals={"kb": 3}, at_once=True),
    Before("a gateway is silent", Fate.KEPT, "does not say", COUNTED, at_once=True),
]  # fmt: skip


@pytest.mark.parametrize("case", OLD, ids=lambda case: case.name)
def test_old(case: Before) -> None:
    """It goes in two steps, when its time is over, and only if nothing and nobody needs it."""
    found = judge_old(
        ["kb", NEW],
        case.aliases,
        [case.restore],
        backed_up=case.backed_up,
        totals=case.totals,
        keep=timedelta(hours=72),
        now=NOW,
        at_once=case.at_once,
    )
    assert [one.fate for one in found] == ([] if case.fate is None else [case.fate])
    assert all(case.why in one.why for one in found)
    assert all((one.name, one.row_id) == ("kb", 1) for one in found)


def test_old__of_two_restores_the_later_one_counts() -> None:
    """What was put back live and taken out again is kept from then on."""
    again = replace(DONE, row_id=2, new_name="kb-r20261126110000", keep_until=NOW + timedelta(hours=71))
    (found,) = judge_old(
        ["kb"], LIVE, [DONE, again], backed_up=["kb"], totals=None, keep=timedelta(hours=72), now=NOW, at_once=True
    )
    assert (found.fate, found.row_id) == (Fate.KEPT, 2)
