"""Which backup a restore takes, and what it says about the others."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from manifests import TAKEN, manifest

from reanimate.backups.catalog import DamagedBackup
from reanimate.backups.manifest import Embedding, Server, VectorManifest
from reanimate.errors import NotFound, Refused
from reanimate.restores.candidates import Copy, Proof, ProofState, Rules, Wish, proof_of
from reanimate.restores.outlook import Earlier, Outlook, expected_time, room_needed
from reanimate.restores.plan import RestorePlan, Sight, plan_restore, version_problem
from reanimate.vector.server import ServerIdentity

NOW = TAKEN + timedelta(hours=5)
HERE = ServerIdentity("qdrant - vector search engine", "1.18.3")
PROVEN = Proof(ProofState.PROVEN, TAKEN)
EXPIRED = Proof(ProofState.EXPIRED, TAKEN)
UNPROVEN = Proof()
FAILED = Proof(ProofState.FAILED, TAKEN)
NEWER = Server(title="qdrant", version="1.19.0")


def plan(copies: list[Copy], damaged: list[tuple[str, DamagedBackup]] | None = None, **options: Any) -> RestorePlan:
    wish = {name: options.pop(name) for name in tuple(options) if name in Wish.__dataclass_fields__}
    rules = {name: options.pop(name) for name in tuple(options) if name in Rules.__dataclass_fields__}
    return plan_restore(
        copies,
        Wish("kb", **wish),
        Rules(HERE, NOW, **rules),
        Sight("primary", **options),
        damaged=damaged or (),
    )


def hour(hours: float) -> datetime:
    return TAKEN + timedelta(hours=hours)


def taken(
    hours: int, proof: Proof = UNPROVEN, repository: str = "local", missing: str | None = None, **changes: Any
) -> Copy:
    made: VectorManifest = manifest(id=f"at-{hours}", taken_at=hour(hours), **changes)
    return Copy(repository, made, proof, missing)


@dataclass(frozen=True)
class Choice:
    """What there is, what is asked for, what is taken, and a part of the reason of others."""

    name: str
    copies: list[Copy]
    taken: str
    """repository/id."""
    why: str = ""
    others: dict[str, str] = field(default_factory=dict)
    """repository/id -> part of the reason."""
    warns: str = ""
    asked: dict[str, Any] = field(default_factory=dict)


MADE = {"embedding": Embedding(model="mini", dimension=2)}
OTHER = {"embedding": Embedding(model="large", dimension=2)}

CHOICES = [
    Choice(
        "the newest by default, and which one is proven",
        [taken(3), taken(1, PROVEN)],
        "local/at-3",
        others={"local/at-1": "an earlier one"},
        warns="the newest proven one is at-1 with 2 points, 2 h older (--newest-proven takes it)",
    ),
    Choice("nothing proven", [taken(3), taken(1)], "local/at-3", warns="no other one that can be restored here is"),
    Choice(
        "the newest proven",
        [taken(3), taken(2, PROVEN), taken(1, PROVEN)],
        "local/at-2",
        "the newest that is proven",
        {"local/at-3": "not proven"},
        asked={"newest_proven": True},
    ),
    Choice(
        "a valid proof before an expired one",
        [taken(3, EXPIRED), taken(1, PROVEN)],
        "local/at-1",
        asked={"newest_proven": True},
    ),
    Choice(
        "an expired proof before none",
        [taken(3), taken(1, EXPIRED)],
        "local/at-1",
        "it has expired",
        warns="this backup is proven 2026-11-23 01:30, expired",
        asked={"newest_proven": True},
    ),
    Choice(
        "a failed proof is avoided",
        [taken(3, FAILED), taken(1)],
        "local/at-1",
        others={"local/at-3": "proof failed 2026-11-23 01:30; name it by its id"},
    ),
    Choice("a failed proof by its id", [taken(3, FAILED), taken(1)], "local/at-3", asked={"backup_id": "at-3"}),
    Choice(
        "an empty one is avoided",
        [taken(2, exact_count=0), taken(1)],
        "local/at-1",
        others={"local/at-2": "it is empty"},
    ),
    Choice("an empty one by its id", [taken(2, exact_count=0), taken(1)], "local/at-2", asked={"backup_id": "at-2"}),
    Choice("nothing but an empty one", [taken(2, exact_count=0)], "local/at-2", "no backup of this collection holds"),
    Choice(
        "a moment",
        [taken(2), taken(1)],
        "local/at-1",
        "of those taken until",
        {"local/at-2": "taken after"},
        asked={"at": hour(1.5)},
    ),
    Choice(
        "an empty one at that moment",
        [taken(2), taken(1, exact_count=0)],
        "local/at-1",
        asked={"at": hour(1.5)},
    ),
    Choice(
        "a newer server's",
        [taken(2, server=NEWER), taken(1)],
        "local/at-1",
        "newer ones are passed over (at-2: made by version 1.19.0",
        {"local/at-2": "only the same minor version"},
    ),
    Choice(
        "a newer server's, for single points",
        [taken(2, server=NEWER), taken(1)],
        "local/at-2",
        asked={"by_engine": True},
    ),
    Choice(
        "a base that is missing",
        [taken(2, missing="the full backup at-0 that it builds on is not in local"), taken(1)],
        "local/at-1",
        others={"local/at-2": "builds on is not in local"},
    ),
    Choice(
        "another repository's copy when the first lacks a part",
        [taken(2, missing="shard-0.snapshot is not in local"), taken(2, repository="cloud"), taken(1)],
        "cloud/at-2",
        "from cloud, for it cannot be had from local",
    ),
    Choice(
        "the first repository's copy when both are good",
        [taken(2), taken(2, repository="cloud")],
        "local/at-2",
        others={"cloud/at-2": "the same backup elsewhere"},
    ),
    Choice(
        "another repository's copy by its id",
        [taken(2, missing="gone"), taken(2, repository="cloud")],
        "cloud/at-2",
        asked={"backup_id": "at-2"},
    ),
    Choice(
        "one that failed just now",
        [taken(2), taken(2, repository="cloud")],
        "cloud/at-2",
        others={"local/at-2": "tried just now: torn"},
        asked={"passed_over": {("local", "at-2"): "torn"}},
    ),
    Choice(
        "another embedding model of the same dimension",
        [taken(2, **OTHER), taken(1, **MADE)],
        "local/at-1",
        others={"local/at-2": "of the embedding model large, and kb is searched with mini"},
        asked={"models": {"k*": "mini"}},
    ),
    Choice(
        "no word of the model",
        [taken(2)],
        "local/at-2",
        warns="does not say which embedding model",
        asked={"models": {"kb": "mini"}},
    ),
    Choice(
        "fewer points, a person chooses",
        [taken(3, exact_count=1), taken(1)],
        "local/at-3",
        warns="this backup looks odd",
    ),
    Choice(
        "fewer points, an incident: the proven one",
        [taken(3, exact_count=1), taken(1, PROVEN)],
        "local/at-1",
        "newer ones are passed over (at-3: not proven, and it holds 1 points, and at-1 before it 2)",
        asked={"fault_at": hour(4)},
    ),
    Choice(
        "fewer points but proven, an incident",
        [taken(3, PROVEN, exact_count=1), taken(1, PROVEN)],
        "local/at-3",
        asked={"fault_at": hour(4)},
    ),
    Choice(
        "an index that finds little, an incident",
        [taken(3, index_recall=0.5), taken(1, PROVEN)],
        "local/at-1",
        "found 50% of the known answers",
        asked={"fault_at": hour(4)},
    ),
    Choice(
        "unproven and unsuspicious, an incident",
        [taken(3), taken(1, PROVEN)],
        "local/at-3",
        asked={"fault_at": hour(4)},
    ),
    Choice(
        "taken after the fault",
        [taken(3, PROVEN), taken(1)],
        "local/at-1",
        "taken after the fault began",
        asked={"fault_at": hour(2)},
    ),
    Choice(
        "nothing good from before the fault",
        [taken(3), taken(1, FAILED), taken(0, exact_count=0)],
        "local/at-3",
        asked={"fault_at": hour(2)},
    ),
]


@pytest.mark.parametrize("case", CHOICES, ids=lambda case: case.name)
def test_plan__takes(case: Choice) -> None:
    """One is taken, and each other one has its reason."""
    found = plan(case.copies, **case.asked)
    assert f"{found.repository}/{found.backup_id}" == case.taken
    assert case.why in found.why
    reasons = {f"{other.repository}/{other.id}": other.reason for other in found.others}
    assert len(reasons) == len(case.copies) - 1
    for name, part in case.others.items():
        assert part in reasons[name]
    assert case.warns in "; ".join(found.warnings)


@pytest.mark.parametrize(
    ("copies", "asked", "error", "said"),
    [
        ([], {}, NotFound, "there is none"),
        ([taken(1)], {"backup_id": "nope"}, NotFound, "is called 'nope'"),
        ([taken(2, server=NEWER)], {"backup_id": "at-2"}, Refused, r"made by version 1\.19\.0"),
        ([taken(2, **OTHER)], {"backup_id": "at-2", "models": {"kb": "mini"}}, Refused, "of another model"),
        ([taken(2, missing="gone")], {"backup_id": "at-2"}, Refused, "local: gone"),
        ([taken(1)], {"newest_proven": True}, NotFound, "no proven backup.*at-1: not proven"),
        ([taken(1, FAILED)], {}, NotFound, "at-1: proof failed"),
    ],
)
def test_plan__says_why_there_is_none(
    copies: list[Copy], asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    """Nothing to choose from is an error that names each candidate's reason."""
    with pytest.raises(error, match=said):
        plan(copies, **asked)


def test_plan__names_the_damaged() -> None:
    """Those that cannot even be read are listed, and asked for by id they are refused with the reason."""
    torn = [("local", DamagedBackup("x", "key", "torn"))]
    assert [other.reason for other in plan([taken(1)], torn).others] == ["torn"]
    with pytest.raises(NotFound, match="x: torn"):
        plan([], torn)
    with pytest.raises(Refused, match="local: torn"):
        plan([taken(1)], torn, backup_id="x")


def test_plan__says_what_is_lost() -> None:
    """Age, the difference in points and the new name are told."""
    found = plan([taken(2), taken(1)], live_count=5)
    assert found.age_s == 3 * 3600
    assert found.new_name == "kb-r20261123063000"
    assert "3 h ago" in found.lost
    assert "holds 5, 3 points more" in found.lost


def test_plan__warns_when_the_own_name_is_still_taken() -> None:
    """Who reads by the collection's own name stays on the old one as long as it exists; that is said."""
    assert "still exists" in "".join(plan([taken(1, PROVEN)], existing=("kb",)).warnings)
    assert plan([taken(1, PROVEN)], existing=("other",)).warnings == ()


def test_plan__names_the_writes_that_came_after() -> None:
    """Gateway totals of then and now give the writes that the backup lacks, by name; unknown stays unknown."""
    counted = taken(1, gateway_totals={"kb": 10, "other": 1}, aliases=["library"])
    found = plan([counted], totals={"kb": 12, "library": 5, "other": 50})
    assert found.writes is not None
    assert (found.writes_since, found.writes.by_name) == (7, {"kb": 2, "library": 5})
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


@pytest.mark.parametrize(
    ("passed", "failed", "state"),
    [
        (None, None, ProofState.UNPROVEN),
        (hour(4), None, ProofState.PROVEN),
        (hour(4), hour(3), ProofState.PROVEN),
        (hour(3), hour(4), ProofState.FAILED),
        (None, hour(4), ProofState.FAILED),
        (hour(1), None, ProofState.EXPIRED),
    ],
)
def test_proof__the_newest_counts(passed: datetime | None, failed: datetime | None, state: ProofState) -> None:
    """A failure after a success counts, a success after a failure too, and a success wears off."""
    assert proof_of(passed, failed, NOW, timedelta(hours=2)).state is state


def test_model__of_a_restored_copy_is_its_originals() -> None:
    """A collection that a restore has made is searched with the model of the one that it came from."""
    copy = taken(2, collection="kb-r20261123063000", **OTHER)
    with pytest.raises(NotFound, match="of the embedding model large"):
        plan([copy], models={"kb": "mini"})


def test_time__by_the_last_restore_else_by_all_others() -> None:
    """The collection's own last restore tells most; with nothing to go by nothing is said."""
    own = Earlier("kb", NOW, 4.0, 2_000_000)
    other = Earlier("faq", NOW, 2.0, 4_000_000)
    said, expected = expected_time("kb", 1_000_000, [own, other])
    assert (said, expected) == ("4.0 s on 2026-11-23 06:30 UTC for 2.0 MB", 2.0)
    said, expected = expected_time("kb", 1_000_000, [other])
    assert (said, expected) == ("never done; other restores went at 2.0 MB/s", 0.5)
    assert expected_time("kb", 1_000_000, None) == ("not known: the record does not answer", None)
    assert expected_time("kb", 1_000_000, []) == ("not known yet: nothing has been restored", None)


def test_room__of_changes_counts_what_they_build_on() -> None:
    """Changes need their base and what is made of both beside them; the server needs the upload and what it unpacks."""
    full = manifest(id="full")
    whole = {"size": 1100, "sha256": "22" * 32, "base_sha256": full.parts[0].sha256}
    changes = manifest(base="full", parts=[{**full.parts[0].model_dump(), "size": 100, "whole": whole}])
    assert room_needed(full) == (2000 + (64 << 20), 2000)
    assert room_needed(changes) == (2300 + (64 << 20), 2200)


def test_plan__says_when_it_does_not_fit() -> None:
    """Too little room is a warning before anything is begun; what the server does not say is no problem."""
    outlook = Outlook(needed_here=10_000_000, free_here=2_000_000, needed_there=5)
    found = plan([taken(1, PROVEN)]).foreseeing(outlook)
    assert found.warnings == ("this machine has 2.0 MB free, the restore needs 10.0 MB there",)
    assert not outlook.fits


def test_plan__is_plain_json() -> None:
    """A plan can be shown by any page or command."""
    shown = plan([taken(2), taken(1, PROVEN)]).to_json()
    assert shown["taken_at"] == "2026-11-23T03:30:00+00:00"
    assert shown["server"] == "qdrant - vector search engine 1.18.3"
    assert shown["newest_proven"]["taken_at"] == "2026-11-23T02:30:00+00:00"
    assert shown["repository"] == "local"
