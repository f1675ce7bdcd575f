"""The record in a real Postgres: history nobody changes, holds that stay apart, no false recovery."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from reanimate.clock import utcnow
from reanimate.db.engine import engine_for, sessions_of
from reanimate.db.tables import Hold, Incident, IncidentFault, Outbox, StepRecord, TimelineEntry
from reanimate.errors import NotFound, Refused
from reanimate.incidents import record, timeline
from reanimate.incidents.faults import Fault
from reanimate.incidents.lifecycle import State
from reanimate.incidents.triage import Finding
from reanimate.switches import holds
from reanimate.switches.document import Claim

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture(scope="module")
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = engine_for(postgres_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return sessions_of(engine)


async def an_incident(sessions: Sessions) -> Incident:
    async with sessions.begin() as session:
        return await record.open_incident(
            session,
            title="primary does not answer",
            component="vector:primary",
            agent="agent",
            fault_at=utcnow(),
            now=utcnow(),
            actor="test",
            scope={"target": "primary"},
        )


async def test_open_incident__row_timeline_and_order_in_one(sessions: Sessions) -> None:
    """An incident, its first entry and the order to start its flow are written together."""
    incident = await an_incident(sessions)
    async with sessions() as session:
        assert [entry.kind for entry in await timeline.entries(session, incident.id)] == ["incident.opened"]
        assert await session.scalar(select(Outbox.kind).where(Outbox.key == incident.id)) == "start_flow"


async def test_timeline__many_writers_no_gap(sessions: Sessions) -> None:
    """Entries written at once are numbered without gaps and chained in order."""
    incident = await an_incident(sessions)

    async def write(number: int) -> None:
        async with sessions.begin() as session:
            await timeline.append(session, incident.id, "note", f"n{number}", actor="t", now=utcnow(), data={"n": 1e22})

    await asyncio.gather(*(write(number) for number in range(20)))
    async with sessions() as session:
        report = await timeline.verify(session, incident.id)
    assert (report.ok, report.length) == (True, 21)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE timeline SET message = 'nothing happened'", "DELETE FROM timeline", "TRUNCATE timeline CASCADE"],
)
async def test_timeline__database_refuses_changes(engine: AsyncEngine, sessions: Sessions, statement: str) -> None:
    """The database itself refuses to change history, whoever asks."""
    await an_incident(sessions)
    with pytest.raises(DBAPIError, match="append-only"):
        async with engine.begin() as connection:
            await connection.execute(text(statement))


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE timeline SET message = 'x' WHERE incident_id = :id AND seq = 2",
        "UPDATE timeline SET at = at + interval '1 us' WHERE incident_id = :id AND seq = 2",
        "UPDATE timeline SET data = '{\"n\": 2}' WHERE incident_id = :id AND seq = 2",
        "DELETE FROM timeline WHERE incident_id = :id AND seq = 2",
        "DELETE FROM timeline WHERE incident_id = :id AND seq = 3",
    ],
)
async def test_verify__finds_what_a_superuser_did(engine: AsyncEngine, sessions: Sessions, tampering: str) -> None:
    """A superuser who switches the triggers off is found out by the chain, even when the end is cut."""
    incident = await an_incident(sessions)
    for number in (2, 3):
        async with sessions.begin() as session:
            await timeline.append(session, incident.id, "note", str(number), actor="t", now=utcnow(), data={"n": 1})
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(text(tampering), {"id": incident.id})
    async with sessions() as session:
        report = await timeline.verify(session, incident.id)
    assert not report.ok
    assert report.first_bad in (2, 3)


async def test_recovered__refused_without_verification(sessions: Sessions) -> None:
    """Nothing but a passed verification makes an incident recovered: not a missing, failed or unpassed one."""
    incident = await an_incident(sessions)
    for state in (State.CONTAINING, State.RECOVERING):
        async with sessions.begin() as session:
            loaded = await record.load(session, incident.id)
            await record.change_state(session, loaded, state, now=utcnow(), actor="t", reason="test")

    async def recover() -> None:
        async with sessions.begin() as session:
            loaded = await record.load(session, incident.id)
            await record.change_state(session, loaded, State.RECOVERED, now=utcnow(), actor="t", reason="test")

    with pytest.raises(Refused, match="no verification"):
        await recover()
    for state, evidence in (("failed", {}), ("done", {}), ("done", {"passed": False}), ("running", {"passed": True})):
        async with sessions.begin() as session:
            await session.execute(text("DELETE FROM steps"))
            session.add(
                StepRecord(
                    incident_id=incident.id, phase="recovery", step="verify", ordinal=0, action="verify_collections",
                    state=state, started_at=utcnow(), evidence=evidence,
                )
            )  # fmt: skip
        with pytest.raises(Refused, match="no verification"):
            await recover()
    async with sessions.begin() as session:
        await session.execute(text("UPDATE steps SET state = 'done', evidence = '{\"passed\": true}'"))
    await recover()
    async with sessions() as session:
        assert (await record.load(session, incident.id)).recovered_at is not None


async def test_load__unknown_incident(sessions: Sessions) -> None:
    """An id that is not there is an error that says what to do."""
    async with sessions() as session:
        with pytest.raises(NotFound, match="incident list"):
            await record.load(session, "inc-none")


async def test_add_finding__once_and_surer(sessions: Sessions) -> None:
    """A fault is recorded once; a surer finding replaces it, a weaker one does not."""
    incident = await an_incident(sessions)
    told = []
    for confidence in (0.6, 0.6, 0.95, 0.5):
        async with sessions.begin() as session:
            finding = Finding(Fault.VECTOR_DATABASE_DOWN, "vector:primary", confidence)
            told.append(await record.add_finding(session, incident.id, finding, actor="t", now=utcnow()))
    assert told == [True, False, True, False]
    async with sessions() as session:
        rows = await session.scalars(select(IncidentFault).where(IncidentFault.incident_id == incident.id))
        assert [row.confidence for row in rows] == [0.95]


async def test_holds__one_cause_never_clears_another(sessions: Sessions) -> None:
    """Two causes hold the same switch; ending one leaves the other's hold in force."""
    first, second = await an_incident(sessions), await an_incident(sessions)
    claim = Claim("read_share", "primary", 0)
    for incident in (first, second, first):
        async with sessions.begin() as session:
            await holds.place(
                session, claim, cause=incident.id, incident_id=incident.id, reason="r", actor="t", now=utcnow()
            )
    async with sessions.begin() as session:
        await holds.lift_all(session, cause=first.id, reason="done", actor="t", now=utcnow())
    async with sessions() as session:
        assert [hold.cause for hold in await holds.open_holds(session)] == [second.id]
        assert await session.scalar(select(func.count()).select_from(Hold)) == 2
        kinds = [e.kind for e in await timeline.entries(session, first.id)]
    assert kinds == ["incident.opened", "hold.placed", "hold.lifted"]


async def test_holds__every_change_is_numbered(sessions: Sessions) -> None:
    """Each change of the ledger has a higher number than the one before, so that gateways can tell."""
    incident = await an_incident(sessions)
    numbers = []
    for share in (0, 10, 50):
        async with sessions.begin() as session:
            placed = await holds.place(
                session,
                Claim("read_share", "replica", share),
                cause=incident.id,
                incident_id=incident.id,
                reason="r",
                actor="t",
                now=utcnow() + timedelta(seconds=1),
            )
            numbers.append(placed.seq)
    assert numbers == sorted(set(numbers))


async def test_close__by_a_person(sessions: Sessions) -> None:
    """A person closes an incident with a reason; a second closing is refused."""
    incident = await an_incident(sessions)
    async with sessions.begin() as session:
        await record.close(session, incident.id, reason="false alarm", by="ada", now=utcnow())
    with pytest.raises(Refused):
        async with sessions.begin() as session:
            await record.close(session, incident.id, reason="again", by="ada", now=utcnow())
    async with sessions() as session:
        last = await session.scalar(
            select(TimelineEntry.message)
            .where(TimelineEntry.incident_id == incident.id)
            .order_by(TimelineEntry.seq.desc())
        )
    assert "false alarm" in str(last)
