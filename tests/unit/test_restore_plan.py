"""Which backup a restore takes, and what it says about the others."""

from datetime import timedelta
from typing import Any

import pytest
from manifests import TAKEN, manifest

from reanimate.backups.catalog import DamagedBackup
from reanimate.backups.manifest import Server, VectorManifest
from reanimate.errors import NotFound, Refused
from reanimate.restores.plan import RestorePlan, plan_restore, version_problem
from reanimate.vector.server import ServerIdentity

NOW = TAKEN + timedelta(hours=5)
HERE = ServerIdentity("qdrant - vector search engine", "1.18.3")


def plan(manifests: list[VectorManifest], server: ServerIdentity = HERE, **options: Any) -> RestorePlan:
    return plan_restore(manifests, collection="kb", target="primary", server=server, now=NOW, **options)


def taken(hours: int, **changes: Any) -> VectorManifest:
    return manifest(id=f"at-{hours}", taken_at=TAKEN + timedelta(hours=hours), **changes)


def test_plan__takes_the_newest_and_says_what_is_lost() -> None:
    """By default the newest is taken; the others are listed with why not."""
    found = plan([taken(2), taken(1)], live_count=5)
    assert found.backup_id == "at-2"
    assert found.age_s == 3 * 3600
    assert found.new_name == "kb-r20261123063000"
    assert "3 h ago" in found.lost
    assert "holds 5, 3 points more" in found.lost
    assert [(other.id, other.reason) for other in found.others] == [("at-1", "an earlier one; a newer is chosen")]


def test_plan__leaves_out_an_empty_one_while_another_holds_points() -> None:
    """A collection that was emptied and then backed up must not be restored empty by default."""
    found = plan([taken(2, exact_count=0), taken(1)])
    assert found.backup_id == "at-1"
    assert "it is empty" in found.others[0].reason
    assert plan([taken(2, exact_count=0), taken(1)], backup_id="at-2").backup_id == "at-2"
    assert plan([taken(2, exact_count=0)]).points == 0


def test_plan__goes_back_to_a_moment() -> None:
    """With a moment, only what was taken until then counts."""
    found = plan([taken(2), taken(1)], at=TAKEN + timedelta(hours=1, minutes=30))
    assert found.backup_id == "at-1"
    assert "taken after" in found.others[0].reason


def test_plan__with_an_empty_one_at_that_moment() -> None:
    """A fuller backup from after the moment does not rule out an empty one from before it."""
    found = plan([taken(2), taken(1, exact_count=0)], at=TAKEN + timedelta(hours=1, minutes=30))
    assert found.backup_id == "at-1"


def test_plan__passes_over_versions_that_this_server_cannot_load() -> None:
    """The newest may be from a newer server; the one that can be loaded is taken."""
    found = plan([taken(2, server=Server(title="qdrant", version="1.19.0")), taken(1)])
    assert found.backup_id == "at-1"
    assert "1.19.0" in found.others[0].reason
    with pytest.raises(Refused, match=r"made by version 1\.19\.0"):
        plan([taken(2, server=Server(title="qdrant", version="1.19.0"))], backup_id="at-2")


def test_plan__says_why_there_is_none() -> None:
    """Nothing to choose from is an error that names each candidate's reason, the damaged among them."""
    with pytest.raises(NotFound, match="there is none"):
        plan([])
    with pytest.raises(NotFound, match="x: torn"):
        plan([], damaged=[DamagedBackup("x", "key", "torn")])
    with pytest.raises(NotFound, match="is called 'nope'"):
        plan([taken(1)], backup_id="nope")


def test_plan__warns_when_the_own_name_is_still_taken() -> None:
    """Who reads by the collection's own name stays on the old one as long as it exists; that is said."""
    assert "still exists" in plan([taken(1)], existing=["kb"]).warnings[0]
    assert plan([taken(1)], existing=["other"]).warnings == ()


def test_plan__counts_the_writes_that_came_after() -> None:
    """Gateway totals of then and now give the number of writes that the backup lacks; unknown stays unknown."""
    counted = taken(1, gateway_totals={"kb": 10, "other": 1}, aliases=["library"])
    assert plan([counted], totals={"kb": 12, "library": 5, "other": 50}).writes_since == 7
    assert plan([taken(1)], totals={"kb": 12}).writes_since is None


@pytest.mark.parametrize(
    ("made_by", "here", "loads"),
    [
        ("1.18.3", "1.18.0", True),
        ("1.18.3", "1.19.5", True),
        ("1.18.3", "1.20.0", False),
        ("1.18.3", "1.17.9", False),
        ("1.18.3", "2.18.3", False),
        ("v1.18.3", "1.18.3-dev", True),
        ("unknown", "1.18.3", False),
    ],
)
def test_version_rule__same_minor_or_the_next(made_by: str, here: str, loads: bool) -> None:
    """A snapshot is loaded by the same minor version or the next, and by no other."""
    problem = version_problem(Server(title="", version=made_by), ServerIdentity("", here))
    assert (problem is None) is loads


def test_plan__is_plain_json() -> None:
    """A plan can be shown by any page or command."""
    shown = plan([taken(1)]).to_json()
    assert shown["taken_at"] == "2026-11-23T02:30:00+00:00"
    assert shown["server"] == "qdrant - vector search engine 1.18.3"
