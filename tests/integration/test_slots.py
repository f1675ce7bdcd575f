"""Slots of schedules on a real record: one run each, whoever asks, whoever dies."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.clock import utcnow
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.db.engine import engine_for, sessions_of
from reanimate.db.tables import Slot
from reanimate.protection import slots
from reanimate.protection.slots import ATTEMPTS, LEASE, claim, end, holding, left_over, newest_claims, renew

DUE = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)
Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture(scope="module")
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    engine = engine_for(postgres_url)
    yield sessions_of(engine)
    await engine.dispose()


async def taken(sessions: Sessions, schedule: str, owner: str, *, now: datetime = DUE, due_at: datetime = DUE) -> bool:
    async with sessions.begin() as session:
        return await claim(session, schedule, due_at, owner, now=now)


async def slot(sessions: Sessions, schedule: str, due_at: datetime = DUE) -> Slot:
    async with sessions() as session:
        return await session.get_one(Slot, (schedule, due_at))


async def test_claim__one_of_many_at_once_wins(sessions: Sessions) -> None:
    """Ten responders, one slot, one run."""
    answers = await asyncio.gather(*(taken(sessions, "nightly", f"run-{number}") for number in range(10)))
    assert sorted(answers) == [False] * 9 + [True]


async def test_claim__a_slot_that_is_done_or_failed_is_over(sessions: Sessions) -> None:
    """A late duplicate finds it done; a failed one is run again only by its own run."""
    assert await taken(sessions, "done", "first")
    async with sessions.begin() as session:
        await end(session, "first", now=DUE)
    assert not await taken(sessions, "done", "second", now=DUE + timedelta(days=1))
    assert not await taken(sessions, "done", "first", now=DUE + timedelta(days=1))
    assert await taken(sessions, "failed", "third")
    async with sessions.begin() as session:
        await end(session, "third", now=DUE, error="the server was away")
    assert not await taken(sessions, "failed", "fourth", now=DUE + timedelta(days=1))
    assert await taken(sessions, "failed", "third")


async def test_claim__taken_over_once_the_lease_is_past(sessions: Sessions) -> None:
    """Not a second before; and not for ever: what kills three owners will kill the fourth."""
    moment = DUE
    assert await taken(sessions, "mortal", "owner-0", now=moment)
    assert not await taken(sessions, "mortal", "owner-x", now=moment + LEASE)
    for number in range(1, ATTEMPTS):
        moment += LEASE + timedelta(seconds=1)
        async with sessions() as session:
            assert "mortal" in [one.schedule for one in await left_over(session, now=moment)]
        assert await taken(sessions, "mortal", f"owner-{number}", now=moment)
        async with sessions.begin() as session:
            assert not await renew(session, "mortal", DUE, f"owner-{number - 1}", now=moment), "it lost it"
            assert await renew(session, "mortal", DUE, f"owner-{number}", now=moment)
    assert not await taken(sessions, "mortal", "owner-last", now=moment + 2 * LEASE)
    async with sessions() as session:
        assert "mortal" not in [one.schedule for one in await left_over(session, now=moment + 2 * LEASE)]


async def test_newest_claims__of_each_schedule(sessions: Sessions) -> None:
    """What is missed is told from the newest slot that anybody took."""
    for days in (2, 0, 1):
        await taken(sessions, "each night", "x", due_at=DUE - timedelta(days=days))
    async with sessions() as session:
        assert (await newest_claims(session))["each night"] == DUE


async def test_holding__writes_down_what_came_of_it(sessions: Sessions) -> None:
    """Done, failed by its own word, failed by an error; cancelled, it is left to whoever resumes the run."""
    async with holding(sessions, "h-done", DUE, "me") as held:
        assert held
    async with holding(sessions, "h-said", DUE, "me") as held:
        assert held
        held.error = "1 of 3 failed"
    with pytest.raises(OSError, match="no room"):
        async with holding(sessions, "h-raised", DUE, "me"):
            raise OSError("no room")
    with pytest.raises(asyncio.CancelledError):
        async with holding(sessions, "h-cancelled", DUE, "me"):
            raise asyncio.CancelledError
    found = [await slot(sessions, name) for name in ("h-done", "h-said", "h-raised", "h-cancelled")]
    assert [(one.state, one.error) for one in found] == [
        ("done", None),
        ("failed", "1 of 3 failed"),
        ("failed", "no room"),
        ("running", None),
    ]
    async with holding(sessions, "h-done", DUE, "other") as held:
        assert held is None


async def test_holding__renews_its_lease(sessions: Sessions) -> None:
    """Work that takes longer than a lease keeps its slot."""
    async with holding(sessions, "long", DUE, "me", renew_s=0.05):
        before = (await slot(sessions, "long")).lease_until
        for _ in range(100):
            await asyncio.sleep(0.05)
            if (await slot(sessions, "long")).lease_until > before:
                break
        else:
            pytest.fail("never renewed")


async def test_holding__runs_when_the_record_is_away(free_port) -> None:  # type: ignore[no-untyped-def]
    """Two backups are better than none."""
    engine = engine_for(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    async with holding(sessions_of(engine), "nightly", DUE, "me") as held:
        assert held
    await engine.dispose()


_OWNER = """
import asyncio, sys
from datetime import datetime
from reanimate.db.engine import engine_for, sessions_of
from reanimate.protection.slots import holding

async def work():
    sessions = sessions_of(engine_for(sys.argv[1]))
    async with holding(sessions, "killed", datetime.fromisoformat(sys.argv[2]), "the dead one"):
        print("mine", flush=True)
        await asyncio.sleep(600)

asyncio.run(work())
"""


async def test_holding__killed_and_taken_over(
    sessions: Sessions, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the owner: while its lease lasts the slot is its own, then another run has it and ends it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _OWNER, postgres_url, DUE.isoformat()), stdout=subprocess.PIPE
    )
    assert process.stdout
    assert await process.stdout.readline() == b"mine\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with holding(sessions, "killed", DUE, "the heir") as held:
        assert held is None
    monkeypatch.setattr(slots, "utcnow", lambda: utcnow() + LEASE)
    async with holding(sessions, "killed", DUE, "the heir") as held:
        assert held
    found = await slot(sessions, "killed")
    assert (found.owner, found.state, found.attempts) == ("the heir", "done", 2)


async def test_slots__of_a_record_that_was_restarted(postgres_server: EmbeddedPostgres) -> None:
    """A restart in the middle costs neither the work nor the slot."""
    engine = engine_for(postgres_server.url("reanimate"))
    sessions = sessions_of(engine)
    async with holding(sessions, "restarted", DUE, "me", renew_s=0.1) as held:
        assert held
        await asyncio.to_thread(postgres_server.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(postgres_server.start)
    assert (await slot(sessions, "restarted")).state == "done"
    await engine.dispose()
