"""The intake when something dies: Postgres stopped, frozen or gone with the disk full, the web process killed."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from web_home import Web, event, settings, web, web_process

from reanimate.alerts.model import Arrival
from reanimate.alerts.spool import Spool
from reanimate.clock import utcnow
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.db.engine import engine_for
from reanimate.db.tables import Alert, Delivery, Incident
from reanimate.incidents import timeline

FOLD_LOCK = 0x666F6C64


@pytest.fixture
async def intake(tmp_path: Path, postgres_server: EmbeddedPostgres) -> AsyncIterator[Web]:
    """The running intake on a Postgres that the test may stop; it runs again afterwards."""
    async with web(settings(tmp_path, postgres_server.url("reanimate")), running=True) as opened:
        yield opened
        if postgres_server.pid is None:
            postgres_server.start()


def spooled(intake: Web) -> list[Path]:
    return sorted((intake.services.settings.home / "spool" / "deliveries").glob("*.json"))


async def fingerprints(engine: AsyncEngine, prefix: str) -> list[str]:
    """The alerts of this test that were folded, in order."""
    async with engine.connect() as connection:
        found = await connection.scalars(
            select(Alert.fingerprint).where(Alert.fingerprint.startswith(prefix)).order_by(Alert.id)
        )
        return list(found)


async def until_folded(engine: AsyncEngine, prefix: str, count: int, within_s: float = 15) -> list[str]:
    deadline = time.monotonic() + within_s
    while True:
        found = await fingerprints(engine, prefix)
        if len(found) >= count or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.05)


async def test_postgres_stopped__spooled_then_folded_in_order(intake: Web, postgres_server: EmbeddedPostgres) -> None:
    """While Postgres is away deliveries go to disk and are answered 202; when it is back each is folded, in order."""
    await intake.post("cloudevents", event(fingerprint="stop-0"))
    await until_folded(intake.services.engine, "stop-", 1)
    postgres_server.stop()
    for number in (1, 2, 3, 2):
        answer = await intake.post("cloudevents", event(fingerprint=f"stop-{number}"))
        assert (answer.status_code, answer.json()) == (202, {"spooled": True})
    assert len(spooled(intake)) == 4
    assert (await intake.http.get("/readyz")).status_code == 503
    assert (await intake.http.get("/healthz")).status_code == 200
    exposition = (await intake.http.get("/metrics")).text
    assert "reanimate_record_up 0.0" in exposition
    assert "reanimate_deliveries_spooled 4.0" in exposition
    switches = {"gateway": "g", "control_url": "http://127.0.0.1:1"}
    key = {"authorization": f"Bearer {intake.services.secrets.control_key}"}
    assert (await intake.http.get("/switches", params=switches, headers=key)).status_code == 503

    postgres_server.start()
    found = await until_folded(intake.services.engine, "stop-", 4)
    assert found == ["stop-0", "stop-1", "stop-2", "stop-3"]
    assert spooled(intake) == []
    answer = await intake.post("cloudevents", event(2, fingerprint="stop-0"))
    assert "delivery" in answer.json()


async def test_postgres_killed__nothing_lost(intake: Web, postgres_server: EmbeddedPostgres) -> None:
    """Postgres is killed while alerts pour in: every one that was answered 202 is folded exactly once."""
    accepted: list[str] = []

    async def pour() -> None:
        for number in range(60):
            name = f"kill-{number:03}"
            if (await intake.post("cloudevents", event(fingerprint=name))).status_code == 202:
                accepted.append(name)
            await asyncio.sleep(0.02)

    pouring = asyncio.create_task(pour())
    await asyncio.sleep(0.4)
    postgres_server.kill()
    await asyncio.sleep(0.3)
    postgres_server.start()
    await pouring
    found = await until_folded(intake.services.engine, "kill-", len(accepted))
    assert len(accepted) == 60
    assert sorted(found) == accepted
    async with intake.services.sessions() as session:
        for incident_id in await session.scalars(select(Incident.id)):
            assert (await timeline.verify(session, incident_id)).ok


@pytest.mark.timed
async def test_postgres_frozen__answered_all_the_same(intake: Web, postgres_server: EmbeddedPostgres) -> None:
    """A Postgres that hangs does not hold the sender: after a second the disk takes it, later ones at once."""
    await intake.post("cloudevents", event(fingerprint="ice-0"))
    await until_folded(intake.services.engine, "ice-", 1)
    assert postgres_server.pid is not None
    processes = [postgres_server.pid, *children_of(postgres_server.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        first = await intake.post("cloudevents", event(fingerprint="ice-1"))
        first_s = time.monotonic() - began
        second = await intake.post("cloudevents", event(fingerprint="ice-2"))
        second_s = time.monotonic() - began - first_s
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    assert first.json() == second.json() == {"spooled": True}
    assert first_s < 2
    assert second_s < 0.5
    assert await until_folded(intake.services.engine, "ice-", 3) == ["ice-0", "ice-1", "ice-2"]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_spool__stored_already_is_no_repeat(intake: Web) -> None:
    """A delivery that reached Postgres late and was spooled as well counts once; a later one like it is a repeat."""
    body = json.dumps(event(fingerprint="late")).encode()
    arrival = Arrival("cloudevents", "late", utcnow(), "application/cloudevents+json", {}, body)
    spool = Spool(intake.services.settings.home / "spool" / "deliveries")
    await intake.state.inbox.put(arrival)
    intake.state.folder.wake()
    await until_folded(intake.services.engine, "late", 1)
    for number, again in enumerate((arrival, replace(arrival, received_at=utcnow()))):
        spool.add(again)
        await until_drained(intake)
        await asyncio.sleep(1.2)
        async with intake.services.sessions() as session:
            assert await session.scalar(select(Alert.seen).where(Alert.fingerprint == "late")) == 1 + number


async def until_drained(intake: Web) -> None:
    for _ in range(100):
        if not spooled(intake):
            return
        await asyncio.sleep(0.05)


async def test_nothing_takes_it__503(intake: Web, postgres_server: EmbeddedPostgres) -> None:
    """With neither Postgres nor disk the sender is told to come again: 503, never a false 202."""
    postgres_server.stop()
    directory = intake.services.settings.home / "spool"
    directory.write_text("a file where the directory should be")
    answer = await intake.post("cloudevents", event(fingerprint="lost"))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert str(directory) in answer.json()["error"]
    assert 'outcome="lost",source="cloudevents"} 1.0' in (await intake.http.get("/metrics")).text


async def test_spool__damaged_file_is_set_aside(intake: Web) -> None:
    """A file in the spool that is no delivery is moved out of the way, and the others pass."""
    directory = intake.services.settings.home / "spool" / "deliveries"
    directory.mkdir(parents=True)
    (directory / "0000000000.000000-bad.json").write_text('{"half": ')
    for _ in range(100):
        if (directory / "damaged" / "0000000000.000000-bad.json").exists():
            break
        await asyncio.sleep(0.05)
    assert (directory / "damaged" / "0000000000.000000-bad.json").exists()
    assert spooled(intake) == []


async def test_process__killed_between_store_and_fold(
    tmp_path: Path, postgres_server: EmbeddedPostgres, free_port: Callable[[], int]
) -> None:
    """kill -9 after the 202 and before folding loses nothing: the next start folds it, once."""
    url, port = postgres_server.url("reanimate"), free_port()
    plain = url.replace("+psycopg", "", 1)
    with psycopg.connect(plain, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (FOLD_LOCK,))
        with web_process(tmp_path, url, port) as first:
            answer = await asyncio.to_thread(first.post, event(fingerprint="kill9"))
            assert answer.status_code == 202
            first.end(signal.SIGKILL)
        # The killed process's session may still stand in line for the lock; it must not fold either.
        assert holder.execute("SELECT state FROM deliveries ORDER BY id DESC LIMIT 1").fetchone() == ("stored",)
    engine = engine_for(url)
    try:
        with web_process(tmp_path, url, port) as second:
            assert await until_folded(engine, "kill9", 1) == ["kill9"]
            again = await asyncio.to_thread(second.post, event(fingerprint="kill9"))
            assert again.json()["duplicate"] is True
            assert second.end(signal.SIGTERM) == 0
        async with engine.connect() as connection:
            states = await connection.scalars(select(Delivery.state).order_by(Delivery.id.desc()).limit(1))
            assert states.one() in ("stored", "folded")
            assert len(await fingerprints(engine, "kill9")) == 1
    finally:
        await engine.dispose()


@pytest.mark.timed
async def test_process__starts_and_ends_without_postgres(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Without a Postgres the process comes up, takes alerts to disk, and still ends at once on SIGTERM with code 0."""
    nobody = f"postgresql://reanimate@127.0.0.1:{free_port()}/reanimate"
    with web_process(tmp_path, nobody, free_port()) as process:
        answer = await asyncio.to_thread(process.post, event(fingerprint="alone"))
        assert answer.json() == {"spooled": True}
        big = await asyncio.to_thread(process.post, {"x": "y" * 3_000_000})
        assert big.status_code == 413
        began = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5
    assert len(list((tmp_path / "spool" / "deliveries").glob("*.json"))) == 1


async def test_process__taken_port(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A taken port is one clear line and exit code 1."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        nobody = f"postgresql://reanimate@127.0.0.1:{free_port()}/reanimate"
        with web_process(tmp_path, nobody, port, wait=False) as process:
            assert await asyncio.to_thread(process.child.wait, 30) == 1
    lines = process.log.read_text().strip().splitlines()
    assert len(lines) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in lines[0]
    assert "web.port" in lines[0]
