"""Restores of dumps whose processes are killed: pg_restore, the server, ourselves in each stage."""

import asyncio
import os
import signal
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from rich_database import Databases, dumped, query, stages

from reanimate.clock import utcnow
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.dumps.login import Login
from reanimate.dumps.markers import Stage
from reanimate.dumps.programs import Programs
from reanimate.dumps.rename import take_name
from reanimate.dumps.restore import restore_beside
from reanimate.errors import Busy, ServerFailed, Unreachable


def _children(name: str) -> list[int]:
    """Return our child processes of that name."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in listed if name in Path(f"/proc/{pid}/cmdline").read_text()]


async def test_restore__pg_restore_is_killed(
    databases: Databases, programs: list[Programs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that says so; the new database is gone, the live one untouched."""
    monkeypatch.setattr("reanimate.dumps.restore._POLL_S", 0.01)
    login = await databases.small(60_000)
    dump = await dumped(login, tmp_path, programs)

    def kill(stage: str, done: int, total: int) -> None:
        for pid in _children("pg_restore") if stage == "restore" else ():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(ServerFailed, match="ended by signal 9"):
        await restore_beside(login, dump, programs, utcnow(), on_progress=kill)
    assert await databases.names(login) == {login.database}
    assert await query(login, "SELECT count(*) FROM t") == [(60_000,)]


async def test_restore__the_server_is_killed(
    postgres_server: EmbeddedPostgres, programs: list[Programs], tmp_path: Path
) -> None:
    """What a crash of the server leaves beside is swept up by the next restore, which succeeds."""
    login = await Databases(Login.from_url(postgres_server.url("postgres"))).small(60_000)
    dump = await dumped(login, tmp_path, programs)

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "restore":
            postgres_server.kill()

    with pytest.raises((Unreachable, ServerFailed)):
        await restore_beside(login, dump, programs, utcnow(), on_progress=kill)
    postgres_server.start()
    assert await query(login, "SELECT count(*) FROM t") == [(60_000,)]
    assert await stages(login) == [Stage.RESTORING]
    beside = await restore_beside(login, dump, programs, utcnow() + timedelta(seconds=5))
    assert await stages(login) == [Stage.RESTORED]
    await take_name(login, beside.name, utcnow())


@pytest.mark.parametrize("stage", ["restore", "analyze", "verify", "switch"])
async def test_restore__we_are_killed(
    stage: str, small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """SIGKILL in each stage: the live database is as it was, and the same again sweeps up and succeeds."""
    dump = await dumped(small, tmp_path, programs)
    (tmp_path / "facts.json").write_text(dump.facts.model_dump_json())
    script = textwrap.dedent(f"""
        import asyncio, os, signal, sys
        from pathlib import Path
        from reanimate.clock import utcnow
        from reanimate.dumps import rename
        from reanimate.dumps.facts import DatabaseFacts
        from reanimate.dumps.login import Login
        from reanimate.dumps.programs import find_programs
        from reanimate.dumps.restore import DumpToRestore, restore_beside

        def die(stage, done, total):
            if stage == {stage!r}:
                os.kill(os.getpid(), signal.SIGKILL)

        async def die_in_the_rename(connection, name, comment):
            os.kill(os.getpid(), signal.SIGKILL)

        async def main():
            folder = Path({str(tmp_path)!r})
            facts = DatabaseFacts.model_validate_json((folder / "facts.json").read_text())
            dump = DumpToRestore(folder / "x.dump", "20261126T000000Z-x-0000", facts, {dump.made_by_major})
            login = Login.from_url(sys.stdin.read())
            beside = await restore_beside(login, dump, await find_programs(), utcnow(), on_progress=die)
            rename.unmark = die_in_the_rename
            await rename.take_name(login, beside.name, utcnow())

        asyncio.run(main())
    """)
    url = f"postgresql://reanimate:{small.environment['PGPASSWORD']}@{small.where}/{small.database}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    await process.communicate(url.encode())
    assert process.returncode == -signal.SIGKILL
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]
    left = await stages(small)
    assert left == [Stage.RESTORED if stage == "switch" else Stage.RESTORING]
    for attempt in range(50):
        try:
            beside = await restore_beside(small, dump, programs, utcnow() + timedelta(seconds=5))
            break
        except Busy:  # the server notices the killed session within moments
            assert attempt < 49
            await asyncio.sleep(0.1)
    expected = [Stage.RESTORED] * (2 if stage == "switch" else 1)
    assert await stages(small) == expected
    await take_name(small, beside.name, utcnow())
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]
