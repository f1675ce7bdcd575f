"""Whether the data is really there: which findings are a loss, how often one must be seen, and what is expected."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reanimate.backups.comparison import Tally
from reanimate.backups.manifest import LiveCounts, Server, VectorManifest
from reanimate.backups.probe import DataReport, Finding, judge_sentinels
from reanimate.watch.data_findings import losses_in
from reanimate.watch.data_judge import (
    DataOutcome,
    DataStanding,
    DataState,
    Loss,
    judge_data,
    reprobe_after,
)
from reanimate.watch.expectations import expected

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
GOOD = DataOutcome(NOW)
FEW = DataOutcome(NOW, (Loss("count", "at least 1800", "12"),))
MISSING = DataOutcome(NOW, (Loss("collection", "kb exists", "missing"),))
SILENT = DataOutcome(NOW, silent=True, detail="no answer in time")


def after(*outcomes: DataOutcome, replica: bool = False, ever_good: bool = False) -> DataStanding:
    standing = DataStanding(ever_good=ever_good)
    for outcome in outcomes:
        standing = judge_data(standing, outcome, must_have_been_good=replica)
    return standing


@pytest.mark.parametrize(
    ("outcomes", "expected_state"),
    [
        pytest.param([GOOD], DataState.GOOD, id="one good look is enough at first"),
        pytest.param([FEW], DataState.UNKNOWN, id="one bad look is not"),
        pytest.param([FEW, FEW], DataState.LOST, id="two are"),
        pytest.param([FEW, GOOD, FEW], DataState.GOOD, id="a good look in between"),
        pytest.param([GOOD, MISSING], DataState.GOOD, id="missing must be seen twice too"),
        pytest.param([GOOD, MISSING, MISSING], DataState.LOST, id="missing twice"),
        pytest.param([GOOD, FEW, MISSING], DataState.LOST, id="two different losses"),
        pytest.param([FEW, FEW, GOOD], DataState.LOST, id="one good look does not end a loss"),
        pytest.param([FEW, FEW, GOOD, GOOD], DataState.GOOD, id="two do"),
        pytest.param([GOOD, SILENT, SILENT], DataState.GOOD, id="twice without an answer"),
        pytest.param([GOOD, SILENT, SILENT, SILENT], DataState.SILENT, id="three times without an answer"),
        pytest.param([FEW, FEW, SILENT, SILENT, SILENT], DataState.LOST, id="silence does not hide a loss"),
    ],
)
def test_judge_data(outcomes: list[DataOutcome], expected_state: DataState) -> None:
    """A loss is believed when seen twice in a row, and believed to be over when not seen twice."""
    assert after(*outcomes).state is expected_state


def test_judge_data__a_replica_loses_only_what_it_had() -> None:
    """A replica that was never seeded with a collection has lost nothing; one that had it has."""
    assert after(MISSING, MISSING, MISSING, replica=True).state is DataState.UNKNOWN
    assert after(GOOD, MISSING, MISSING, replica=True).state is DataState.LOST
    assert after(MISSING, MISSING, replica=True, ever_good=True).state is DataState.LOST


def test_judge_data__since_the_first_bad_look() -> None:
    """A loss counts from the first look that found it, and is forgotten when it is over."""
    later = DataOutcome(NOW + timedelta(seconds=1), FEW.losses)
    assert after(GOOD, FEW, later).bad_since == NOW
    assert after(GOOD, FEW, later, GOOD, GOOD).bad_since is None


@pytest.mark.parametrize(
    ("outcomes", "seconds"),
    [
        pytest.param([GOOD], 5.0, id="good: the interval"),
        pytest.param([GOOD, FEW], 0.5, id="bad once: confirm"),
        pytest.param([GOOD, MISSING], 0.2, id="missing once: confirm sooner"),
        pytest.param([GOOD, FEW, FEW], 5.0, id="confirmed: the interval"),
        pytest.param([FEW, FEW, GOOD], 0.5, id="good again once: confirm"),
        pytest.param([GOOD, SILENT], 0.5, id="silent once: confirm"),
    ],
)
def test_reprobe_after(outcomes: list[DataOutcome], seconds: float) -> None:
    """It looks again soon while a verdict wants to be confirmed."""
    assert reprobe_after(after(*outcomes), outcomes[-1], 5.0) == seconds


def report(*findings: Finding) -> DataReport:
    return DataReport("primary", "kb", all(one.ok for one in findings), findings)


def sentinels(same: int, changed: int, missing: int, anew: bool = False) -> Finding:
    found = Tally(tuple(range(same)), tuple(range(changed)), tuple(range(missing)))
    return judge_sentinels(found, 0.9, anew)


@pytest.mark.parametrize(
    ("finding", "primary", "replica"),
    [
        pytest.param(Finding("collection", False, "kb exists", "missing"), True, True, id="collection or alias gone"),
        pytest.param(Finding("count", False, "at least 1800", "12"), True, True, id="too few points"),
        pytest.param(Finding("status", False, "not red", "red"), True, True, id="status red"),
        pytest.param(Finding("vectors", False, "as backed up", "size 8"), True, False, id="another vectors config"),
        pytest.param(Finding("query", False, "point 3 first", "point 9"), True, False, id="does not find itself"),
        pytest.param(
            Finding("payload_schema", False, "2 indexes", "lacks x"), False, False, id="an index is the agent's"
        ),
        pytest.param(sentinels(15, 0, 5), True, True, id="a quarter of the sentinels missing"),
        pytest.param(sentinels(16, 0, 4), False, False, id="a fifth may be deleted by right"),
        pytest.param(sentinels(0, 20, 0), False, False, id="rewritten documents are information"),
        pytest.param(sentinels(0, 0, 20, anew=True), False, False, id="the alias was moved to a new index"),
        pytest.param(Finding("count", True, "at least 1800", "2000"), False, False, id="a finding that is fine"),
    ],
)
def test_losses_in(finding: Finding, primary: bool, replica: bool) -> None:
    """A loss is what no agent does by right; a replica holds an older backup and is asked for less."""
    assert bool(losses_in(report(finding), "primary")) is primary
    assert bool(losses_in(report(finding), "replica")) is replica


def manifest(id: str, collection: str, hours: int, count: int = 100, aliases: tuple[str, ...] = ()) -> VectorManifest:
    details: dict[str, Any] = {"config": {}, "payload_schema": {}, "parts": [], "sentinels": [], "golden": []}
    return VectorManifest(
        id=id,
        collection=collection,
        asked_as=collection,
        aliases=list(aliases),
        target="primary",
        server=Server(title="t", version="1.18.3"),
        tool_version="0",
        taken_at=NOW + timedelta(hours=hours),
        exact_count=count,
        live=LiveCounts(before=count, after=count),
        **details,
    )


@pytest.mark.parametrize(
    ("manifests", "protected", "found"),
    [
        pytest.param([], [], {}, id="no backup: nothing is judged"),
        pytest.param([manifest("a", "kb", 1), manifest("b", "kb", 2)], [], {"kb": "b"}, id="the newest"),
        pytest.param(
            [manifest("a", "kb", 1), manifest("b", "kb", 2, 0)], [], {"kb": "a"}, id="the newest that is not empty"
        ),
        pytest.param([manifest("a", "kb1", 1, aliases=("kb",))], [], {"kb": "a"}, id="by the name readers use"),
        pytest.param(
            [manifest("a", "kb1", 1, aliases=("kb",)), manifest("b", "kb2", 2, aliases=("kb",))],
            [],
            {"kb": "b"},
            id="the alias moved on: the old collection is history",
        ),
        pytest.param(
            [manifest("a", "kb", 1), manifest("b", "kb-r20261122030000", 2, aliases=("kb",))],
            [],
            {"kb": "b"},
            id="restored under a new name",
        ),
        pytest.param(
            [manifest("a", "kb1", 1), manifest("b", "kb1", 2, aliases=("kb",))],
            [],
            {"kb": "b"},
            id="got its alias after the first backup",
        ),
        pytest.param(
            [manifest("a", "kb", 1), manifest("b", "log", 2)], ["kb"], {"kb": "a"}, id="only what is protected"
        ),
        pytest.param([manifest("a", "kb1", 1, aliases=("kb",))], ["kb"], {"kb": "a"}, id="protected by its alias"),
    ],
)
def test_expected(manifests: list[VectorManifest], protected: list[str], found: dict[str, str]) -> None:
    """What must be there is the newest backup that holds points, once for each name that readers use."""
    assert {name: one.id for name, one in expected(manifests, protected).items()} == found
