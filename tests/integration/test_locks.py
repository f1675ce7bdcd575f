"""A backup and a restore of the same thing: never at once, whichever way they come, and the restore goes first."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reanimate.db.engine import engine_for
from reanimate.errors import Busy
from reanimate.protection.locks import Purpose, Thing, collection, exclusively

KB = collection("primary", "kb")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = engine_for(postgres_url)
    yield engine
    await engine.dispose()


@pytest.fixture(scope="module")
async def nowhere(free_port: Callable[[], int]) -> AsyncIterator[AsyncEngine]:
    """The engine of a record that is away."""
    engine = engine_for(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    yield engine
    await engine.dispose()


class Story:
    """Who is at work, and whether two ever were at once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.inside: set[str] = set()
        self.begun = asyncio.Event()

    async def work(
        self, name: str, engine: AsyncEngine, home: Path, purpose: Purpose, for_s: float, within_s: float = 20.0
    ) -> None:
        try:
            async with exclusively(engine, home, KB, purpose, within_s=within_s):
                assert not self.inside, f"{name} works beside {self.inside}"
                self.inside.add(name)
                self.begun.set()
                try:
                    await asyncio.sleep(for_s)
                finally:
                    self.inside.discard(name)
                self.lines.append(f"{name} done")
        except Busy as error:
            self.lines.append(f"{name} {'gave way' if 'gave way' in str(error) else 'waited in vain'}")


async def together(*work: object) -> None:
    async with asyncio.timeout(40):
        await asyncio.gather(*work)  # type: ignore[call-overload]


async def test_locks__backups_queue_and_wait_only_so_long(engine: AsyncEngine, tmp_path: Path) -> None:
    """Those who wait never take one another for a restore; one that is out of patience says so."""
    story = Story()

    async def first() -> None:
        async with exclusively(engine, tmp_path, KB, Purpose.BACKUP):
            story.begun.set()
            await impatient

    async def hasty() -> None:
        await story.begun.wait()
        await story.work("hasty", engine, tmp_path, Purpose.BACKUP, 0.0, within_s=0.3)

    async def patient(name: str) -> None:
        await story.begun.wait()
        await story.work(name, engine, tmp_path, Purpose.BACKUP, 0.3)

    impatient = asyncio.create_task(hasty())
    await together(first(), patient("b1"), patient("b2"))
    assert story.lines[0] == "hasty waited in vain"
    assert sorted(story.lines[1:]) == ["b1 done", "b2 done"]


@pytest.mark.timed
@pytest.mark.parametrize("away", [False, True], ids=["on record", "record away"])
async def test_locks__a_restore_makes_a_backup_give_way(
    engine: AsyncEngine, nowhere: AsyncEngine, tmp_path: Path, away: bool
) -> None:
    """It begins within seconds, and backups wait until it has ended."""
    at, story = nowhere if away else engine, Story()
    backup = asyncio.create_task(story.work("backup", at, tmp_path, Purpose.BACKUP, 60))
    await story.begun.wait()
    began = time.monotonic()
    await together(
        story.work("restore", at, tmp_path, Purpose.RESTORE, 1.0),
        story.work("later", at, tmp_path, Purpose.BACKUP, 0.1),
        backup,
    )
    assert story.lines == ["backup gave way", "restore done", "later done"]
    assert time.monotonic() - began < 8


async def test_locks__restores_queue(engine: AsyncEngine, tmp_path: Path) -> None:
    """Two restores of the same thing come one after the other."""
    story = Story()
    await together(*(story.work(f"r{number}", engine, tmp_path, Purpose.RESTORE, 0.5) for number in range(2)))
    assert sorted(story.lines) == ["r0 done", "r1 done"]


async def test_locks__across_machines_and_across_an_outage(
    engine: AsyncEngine, nowhere: AsyncEngine, tmp_path: Path
) -> None:
    """With homes of their own they meet in the record; where one cannot reach it, in the home."""
    for first, second in (((engine, "a"), (engine, "b")), ((engine, "a"), (nowhere, "a"))):
        story = Story()
        await together(
            story.work("first", first[0], tmp_path / first[1], Purpose.BACKUP, 1.0),
            story.work("second", second[0], tmp_path / second[1], Purpose.BACKUP, 0.1),
        )
        assert sorted(story.lines) == ["first done", "second done"]


async def test_locks__other_things_do_not_matter(engine: AsyncEngine, tmp_path: Path) -> None:
    """A restored copy is the same collection; another name, target or kind is another thing."""
    assert collection("primary", "kb-r20261123013000") == KB
    others = [collection("primary", "kb2"), collection("replica", "kb"), Thing("postgres", "primary", "kb")]
    async with exclusively(engine, tmp_path, KB, Purpose.BACKUP):
        for other in others:
            async with exclusively(engine, tmp_path, other, Purpose.RESTORE, within_s=0):
                pass


async def test_locks__being_cancelled_is_not_giving_way(engine: AsyncEngine, tmp_path: Path) -> None:
    """Whoever stops a backup sees it stopped, and its lock is free."""
    story = Story()
    backup = asyncio.create_task(story.work("backup", engine, tmp_path, Purpose.BACKUP, 60))
    await story.begun.wait()
    backup.cancel()
    with pytest.raises(asyncio.CancelledError):
        await backup
    async with exclusively(engine, tmp_path, KB, Purpose.BACKUP, within_s=2):
        pass


_HOLDER = """
import asyncio, sys
from pathlib import Path
from reanimate.db.engine import engine_for
from reanimate.protection.locks import Purpose, collection, exclusively

async def work():
    async with exclusively(engine_for(sys.argv[1]), Path(sys.argv[2]), collection("primary", "kb"), Purpose.RESTORE):
        print("mine", flush=True)
        await asyncio.sleep(600)

asyncio.run(work())
"""


async def test_locks__gone_with_the_process_that_held_them(
    engine: AsyncEngine, postgres_url: str, tmp_path: Path
) -> None:
    """kill -9 of a restore leaves nothing that a person must clear away."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOLDER, postgres_url, str(tmp_path)),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    assert await process.stdout.readline() == b"mine\n"
    with pytest.raises(Busy):
        async with exclusively(engine, tmp_path, KB, Purpose.BACKUP, within_s=0):
            pass
    process.kill()
    await process.wait()
    async with exclusively(engine, tmp_path, KB, Purpose.BACKUP, within_s=10):
        pass
