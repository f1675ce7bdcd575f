"""Recovery points: taken together, listed with what they are worth, restored as one or not at all, and undone."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import obstore
import psycopg
import pytest
from obstore.store import LocalStore
from point_rig import Agent, opened
from qdrant_servers import KEY, CleanServer, fill, points

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest
from reanimate.backups.recovery_points import RecoveryPoint, list_points, read_point
from reanimate.clock import utcnow
from reanimate.config_history.replacing import Replacement
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.dumps.manifest import PostgresManifest
from reanimate.errors import Busy, Damaged, NotFound, Refused, ServerFailed
from reanimate.protection import point_restores
from reanimate.protection.copies import copy_backups
from reanimate.protection.point_journal import Stage, alone, cut_ones
from reanimate.protection.point_plans import plan_point
from reanimate.protection.point_restores import restore_point, undo_point
from reanimate.protection.recovery_points import Wanted, point_state, point_states, take_point, wanted_of

RIG = Path(__file__).parent.parent / "point_rig.py"


@pytest.fixture
async def agent(
    tmp_path: Path, primary: CleanServer, postgres: EmbeddedPostgres, postgres_url: str
) -> AsyncIterator[Agent]:
    """An agent with 50 points, two rows and two files."""
    async with opened(
        tmp_path / "home",
        vector_url=primary.server.url,
        key=KEY,
        record=postgres_url,
        admin=postgres.url("postgres"),
    ) as made:
        await fill(primary.server, primary.name(), 50, alias=primary.name("alias"))
        made.write("one", "two")
        (made.etc / "agent.yaml").write_text("model: good\n")
        (made.etc / "deep").mkdir()
        (made.etc / "deep" / "prompt.txt").write_text("be kind\n")
        yield made


async def taken(agent: Agent, primary: CleanServer) -> RecoveryPoint:
    return await take_point(
        agent.services, Wanted((primary.name("alias"),), ("agent",), True), target="primary", trigger="test"
    )


async def spoil(agent: Agent, primary: CleanServer) -> None:
    """Change everything that a point brings back."""
    await primary.server.upsert(primary.name(), points(1000, 1010))
    agent.write("three")
    (agent.etc / "agent.yaml").write_text("model: bad\n")
    (agent.etc / "deep" / "prompt.txt").unlink()


async def state(agent: Agent, primary: CleanServer) -> tuple[int, list[str], dict[str, str]]:
    return await primary.server.exact_count(primary.name("alias")), agent.rows(), agent.texts()


GOOD = (50, ["one", "two"], {"agent.yaml": "model: good\n", "deep/prompt.txt": "be kind\n"})
SPOILT = (60, ["one", "two", "three"], {"agent.yaml": "model: bad\n"})


def databases(agent: Agent) -> list[str]:
    with psycopg.connect(agent.url) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{agent.database}%",))
        return sorted(name for (name,) in rows.fetchall())


# -- taking ------------------------------------------------------------------------------------------------------------


async def test_point__groups_what_was_taken_together(agent: Agent, primary: CleanServer) -> None:
    """It names each member by the hash of its manifest, says how far apart they are, and each stands by itself."""
    point = await taken(agent, primary)
    catalog = agent.services.catalog
    assert [member.kind for member in point.members] == ["config", "postgres", "vector"]
    assert point.complete
    for member, kind in ((point.members[1], PostgresManifest), (point.members[2], VectorManifest)):
        found = catalog.find(member.id, kind)
        assert (found.sha256, found.manifest.taken_at) == (member.sha256, member.taken_at)
        assert found.manifest.recovery_point == point.id
    times = [member.taken_at for member in point.members]
    assert point.spread_s == round((max(times) - min(times)).total_seconds(), 3)
    assert 0 < point.spread_s < 60
    assert read_point(catalog, point.id) == point
    (listed,), damaged = await point_states(catalog)
    assert (listed.point, listed.usable, listed.proven, damaged) == (point, True, False, [])
    again = await taken(agent, primary)
    assert again.members[0].id == point.members[0].id, "configuration that has not changed is no new manifest"
    assert again.members[0].taken_at > point.members[0].taken_at, "and is known to be true at the later moment"
    assert [each.id for each in list_points(catalog)[0]] == [again.id, point.id]


async def test_point__without_what_failed_says_so(agent: Agent, primary: CleanServer) -> None:
    """One that fails keeps no other from being taken, and is named; when nothing can be taken there is no point."""
    services = agent.services
    wanted = Wanted((primary.name("alias"), primary.name("nothing")), ("agent",), False)
    point = await take_point(services, wanted, target="primary", trigger="test")
    assert not point.complete
    assert [member.kind for member in point.members] == ["postgres", "vector"]
    assert point.missing[0].subject == primary.name("nothing")
    assert "no such collection" in point.missing[0].reason
    with pytest.raises(ServerFailed, match="nothing of the recovery point could be taken"):
        await take_point(services, Wanted((primary.name("nothing"),), (), False), target="primary", trigger="test")
    assert len(list_points(services.catalog)[0]) == 1
    plan = await plan_point(services, point.id)
    assert any("it goes without vector" in note for note in plan.notes)


async def test_wanted__by_name_kind_and_glob(agent: Agent, primary: CleanServer) -> None:
    """Names are collections, globs, databases and the configuration; without names, all that the settings name."""
    services = agent.services
    wanted = await wanted_of(services, [f"{primary.prefix}-k*", "postgres:agent", "config"])
    assert wanted == Wanted((primary.name(),), ("agent",), True)
    everything = await wanted_of(services)
    assert primary.name() in everything.collections
    assert everything.databases == ("agent", "record")
    assert everything.config
    with pytest.raises(NotFound):
        await wanted_of(services, [f"{primary.prefix}-nothing*"])


async def test_point__that_was_changed_or_lost_a_member_is_told(agent: Agent, primary: CleanServer) -> None:
    """An edited point is damaged; one whose member is another backup by that id, or gone, is not restorable."""
    point = await taken(agent, primary)
    catalog = agent.services.catalog
    key = f"points/{point.id}.json"
    whole = bytes(obstore.get(catalog.store, key).bytes())
    obstore.put(catalog.store, key, whole.replace(point.members[1].sha256.encode(), b"0" * 64))
    with pytest.raises(Damaged, match="changed"):
        await point_state(catalog, point.id)
    assert [one.id for one in (await point_states(catalog))[1]] == [point.id]
    obstore.put(catalog.store, key, whole)
    dump = catalog.find(point.members[1].id, PostgresManifest)
    obstore.delete(catalog.store, dump.key)
    found = await point_state(catalog, point.id)
    assert [found.members[member] for member in point.members] == ["unproven", "gone", "unproven"]
    assert not found.usable
    with pytest.raises(Refused, match="is gone"):
        await restore_point(agent.services, point.id)
    with pytest.raises(NotFound, match="backup points"):
        await point_state(catalog, "20261123T013000Z-0000")


async def test_points__come_along_with_copies_and_are_restored_from_there(
    agent: Agent, primary: CleanServer, tmp_path: Path
) -> None:
    """With the first repository lost, a point of another one brings everything back."""
    services = agent.services
    point = await taken(agent, primary)
    other = Catalog(
        LocalStore(prefix=tmp_path / "cloud", mkdir=True), services.catalog.scratch, services.catalog.keyring
    )
    first = services.repositories["local"]
    services.repositories["cloud"] = replace(first, name="cloud", url="file:///cloud", catalog=other)
    await copy_backups(services.repositories, [point.members[2].id], to="cloud")
    assert list_points(other) == ([], []), "not all of its members are there"
    await copy_backups(services.repositories, to="cloud")
    assert list_points(other) == ([point], [])
    await spoil(agent, primary)
    shutil.rmtree(services.settings.home / "blobs")
    with pytest.raises(NotFound):
        await restore_point(services, point.id)
    await restore_point(services, point.id, repository="cloud")
    assert await state(agent, primary) == GOOD
    await undo_point(services, point.id)
    assert await state(agent, primary) == SPOILT


async def test_points__in_the_terminal(agent: Agent, primary: CleanServer) -> None:
    """Taken, listed, planned, restored and undone by command."""

    async def run(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "reanimate.cli", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "COLUMNS": "160"},
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    point = json.loads(await run("backup", "point", primary.name("alias"), "postgres:agent", "config", "--json"))
    assert point["complete"]
    assert "not yet: postgres agent" in await run("backup", "points")
    await spoil(agent, primary)
    assert "60 points now" in await run("restore", "point", "run", point["id"], "--dry-run")
    assert f"reanimate restore point undo {point['id']}" in await run("restore", "point", "run", point["id"])
    assert await state(agent, primary) == GOOD
    assert "2 files" in await run("restore", "point", "undo", point["id"])
    assert await state(agent, primary) == SPOILT


# -- restoring ---------------------------------------------------------------------------------------------------------


async def test_restore__all_members_as_one_and_undone(agent: Agent, primary: CleanServer) -> None:
    """Points, rows and files are as they were together; the undo brings back what was there; both can be repeated."""
    point = await taken(agent, primary)
    await spoil(agent, primary)
    assert await state(agent, primary) == SPOILT
    plan = await plan_point(agent.services, point.id)
    assert [each.plan.points for each in plan.collections] == [50]
    assert plan.collections[0].plan.points_now == 60
    assert [each.plan.rows for each in plan.databases] == [2]
    assert len(plan.files[0].plan.plans) == 2
    assert await state(agent, primary) == SPOILT, "planning touches nothing"
    stages: list[str] = []
    restored = await restore_point(
        agent.services, point.id, on_progress=lambda stage, done, total: stages.append(stage)
    )
    assert await state(agent, primary) == GOOD
    assert restored.checks > 10
    assert stages[-1] == "switch"
    assert "switch" not in stages[: stages.index("switch")]
    with pytest.raises(Busy, match="is being restored"), alone(agent.services.settings.home):
        await undo_point(agent.services, point.id)
    await undo_point(agent.services, point.id)
    assert await state(agent, primary) == SPOILT
    with pytest.raises(NotFound, match="nothing is undone"):
        await undo_point(agent.services, point.id)
    await restore_point(agent.services, point.id)
    assert await state(agent, primary) == GOOD
    await undo_point(agent.services, point.id)
    assert await state(agent, primary) == SPOILT


async def test_restore__after_everything_was_deleted(
    agent: Agent, primary: CleanServer, postgres: EmbeddedPostgres
) -> None:
    """With collection, database and files gone they come back; undone, they are gone again and lost is nothing."""
    point = await taken(agent, primary)
    await primary.server.update_aliases([{"delete_alias": {"alias_name": primary.name("alias")}}])
    await primary.server.delete_collection(primary.name())
    with psycopg.connect(postgres.url("postgres").replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {agent.database}".encode())
    for name in ("agent.yaml", "deep/prompt.txt"):
        (agent.etc / name).unlink()
    await restore_point(agent.services, point.id)
    assert await state(agent, primary) == GOOD
    await undo_point(agent.services, point.id)
    assert await primary.aliases() == {}
    assert agent.texts() == {}
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        agent.rows()


async def test_restore__refused_for_who_is_connected_leaves_all_as_it_was(agent: Agent, primary: CleanServer) -> None:
    """A session on the database refuses the switch: nothing is live, nothing is left; ended by request, it goes on."""
    point = await taken(agent, primary)
    await spoil(agent, primary)
    with psycopg.connect(agent.url, application_name="the agent") as connection:
        with pytest.raises(Refused, match="the agent"):
            await restore_point(agent.services, point.id)
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (3,)
    assert await state(agent, primary) == SPOILT
    assert databases(agent) == [agent.database]
    assert await primary.mine() == [primary.name()]
    with psycopg.connect(agent.url):
        await restore_point(agent.services, point.id, end_sessions=True)
    assert await state(agent, primary) == GOOD


@pytest.mark.parametrize("broken", ["verification", "aliases", "files"])
async def test_restore__failing_in_one_member_switches_nothing(
    agent: Agent, primary: CleanServer, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Before the switch, or in its midst after others are live already: all is as it was, and what was made is gone."""
    point = await taken(agent, primary)
    await spoil(agent, primary)

    async def fails(*_: object, **__: object) -> None:
        raise ServerFailed(f"{broken} broke")

    def fails_here(_: object) -> None:
        raise ServerFailed(f"{broken} broke")

    if broken == "files":
        real, seen = Replacement.commit, []

        def second_fails(self: Replacement) -> None:
            seen.append(self)
            fails_here(self) if len(seen) == 2 else real(self)

        monkeypatch.setattr(Replacement, "commit", second_fails)
    else:
        monkeypatch.setattr(point_restores, {"verification": "verify", "aliases": "switch_aliases"}[broken], fails)
    with pytest.raises(ServerFailed, match=f"{broken} broke"):
        await restore_point(agent.services, point.id)
    monkeypatch.undo()
    os.environ["REANIMATE_HOME"] = str(agent.services.settings.home)
    assert await state(agent, primary) == SPOILT
    assert await primary.mine() == [primary.name()]
    assert {name.split("-")[1] for name in databases(agent) if "-" in name} <= {"undone"}
    assert not list(agent.etc.rglob(".reanimate*"))
    assert cut_ones(agent.services.settings.home) == []


KILLED_AT = [
    "verification.require(server.name)",
    "step.restored = beside.name",
    "noted.kept = renamed.kept",
    "await switch_aliases(",
    "await asyncio.to_thread(files.commit)",
    "self.journal.save(self.home, Stage.DONE)",
]


async def test_restore__killed_anywhere_is_put_back_or_done_by_the_next_call(
    agent: Agent, primary: CleanServer
) -> None:
    """kill -9 before, between and after the switches: never half of it for good, and nothing is left behind."""
    point = await taken(agent, primary)
    await spoil(agent, primary)
    home = agent.services.settings.home
    for line in KILLED_AT:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(RIG), str(home), point.id, line), stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        assert process.returncode == -signal.SIGKILL, (line, said.decode())
        cut = cut_ones(home)
        undone = await undo_point(agent.services, point.id, end_sessions=True)
        assert undone.stage is (Stage.FAILED if cut else Stage.UNDONE), line
        assert await state(agent, primary) == SPOILT, line
        assert not list(agent.etc.rglob(".reanimate*")), line
        assert not [name for name in databases(agent) if "-r2" in name], line
    await restore_point(agent.services, point.id)
    assert await state(agent, primary) == GOOD
    assert utcnow() > point.latest
