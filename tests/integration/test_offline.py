"""Refreshing an offline standby: a good backup is served, a bad one refused, and a kill harms nothing."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
import pytest
from manifests import TAKEN, manifest
from qdrant_servers import CleanServer, fill, points

from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog, Published
from reanimate.backups.manifest import Sentinel, VectorManifest
from reanimate.backups.marks import Mark, What, newest
from reanimate.errors import Damaged, VerificationFailed
from reanimate.proofs.own_server import own_server
from reanimate.protection.offline import newest_proven
from reanimate.restores.offline import alias_actions, refresh
from reanimate.vector.held import HeldCopy, held_copies
from reanimate.vector.server import VectorServer

STAGES = {"download", "create", "load", "verify", "switch"}


@pytest.fixture
async def standby(tmp_path: Path, vector_http: httpx.AsyncClient) -> AsyncIterator[VectorServer]:
    async with own_server("offline", tmp_path / "offline", vector_http, "--offline") as server:
        yield server


async def _backed_up(primary: CleanServer, catalog: Catalog, count: int = 300) -> Published[VectorManifest]:
    if primary.name() not in await primary.server.collections():
        await fill(primary.server, primary.name(), count, alias=primary.name("alias"))
    taken = await take_backup(primary.server, primary.name("alias"), catalog)
    return catalog.find(taken.id, VectorManifest)


async def _serving(standby: VectorServer) -> list[HeldCopy]:
    return [copy for copy in await held_copies(standby) if copy.serves]


async def test_refresh__serves_the_newer_and_keeps_the_one_before(
    primary: CleanServer, catalog: Catalog, standby: VectorServer
) -> None:
    """Loaded once, then the next beside it; clients find it by every name; the third makes the first go."""
    alias = primary.name("alias")
    first = await _backed_up(primary, catalog)
    stages: list[str] = []
    loaded = await refresh(standby, catalog, first, lambda stage, done, total: stages.append(stage))
    assert (loaded.loaded, loaded.points, loaded.verification.passed) == (True, 300, True)
    assert set(stages) == STAGES
    again = await refresh(standby, catalog, first)
    assert (again.loaded, again.name) == (False, loaded.name)
    assert await standby.aliases() == {alias: loaded.name, primary.name(): loaded.name}
    await asyncio.sleep(1.1)  # names of copies count seconds
    await primary.server.upsert(primary.name(), points(5000, 5010))
    second = await refresh(standby, catalog, await _backed_up(primary, catalog))
    assert await standby.count(alias) == await standby.count(primary.name()) == 310
    assert sorted(copy.name for copy in await held_copies(standby)) == sorted([loaded.name, second.name])
    await asyncio.sleep(1.1)
    third = await refresh(standby, catalog, await _backed_up(primary, catalog))
    assert sorted(copy.name for copy in await held_copies(standby)) == sorted([second.name, third.name])
    back = await refresh(standby, catalog, catalog.find(second.backup_id, VectorManifest))
    assert (back.loaded, back.name) == (False, second.name)
    (serving,) = await _serving(standby)
    assert (serving.backup_id, serving.points) == (second.backup_id, 310)
    assert list(catalog.scratch.iterdir()) == []


async def test_refresh__of_shards_that_were_chosen_by_key(
    primary: CleanServer, catalog: Catalog, standby: VectorServer
) -> None:
    """Every point is found, whichever shard it is in, though nobody can tell by its id; the standby has no keys."""
    name = primary.name()
    await primary.server.create_collection(name, {"vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 2})
    await primary.server.upsert(name, points(0, 200))
    taken = catalog.find((await take_backup(primary.server, name, catalog)).id, VectorManifest)
    keyed = {**taken.manifest.config, "params": {**taken.manifest.config["params"], "sharding_method": "custom"}}
    # The shards in the other order: where a point is has nothing to do with its id any more.
    parts = tuple(part.model_copy(update={"shard_key": f"k{part.shard_id}"}) for part in reversed(taken.manifest.parts))
    custom = replace(taken, manifest=taken.manifest.model_copy(update={"config": keyed, "parts": parts}))
    await refresh(standby, catalog, custom)
    found = await standby.retrieve(name, list(range(200)))
    assert sorted(int(point["id"]) for point in found) == list(range(200))


async def test_refresh__refuses_a_bad_one_and_goes_on_serving(
    primary: CleanServer, catalog: Catalog, standby: VectorServer
) -> None:
    """A flipped byte in the store, and points that are not those of the manifest: the copy before stays."""
    good = await _backed_up(primary, catalog)
    served = await refresh(standby, catalog, good)
    await asyncio.sleep(1.1)
    bad = await _backed_up(primary, catalog)
    part = bad.manifest.parts[0]
    content = bytes((await obstore.get_async(catalog.store, part.blob)).bytes())
    await obstore.put_async(catalog.store, part.blob, content[:-2000] + b"\x55" + content[-1999:])
    with pytest.raises(Damaged, match=re.escape(part.blob)):
        await refresh(standby, catalog, bad)
    await obstore.put_async(catalog.store, part.blob, content)
    wrong = bad.manifest.model_copy(update={"sentinels": [Sentinel(id=1, sha256="00" * 32)]})
    with pytest.raises(VerificationFailed, match="sentinels: expected 1 the same, found 0 the same, 1 changed"):
        await refresh(standby, catalog, replace(bad, manifest=wrong))
    assert [copy.name for copy in await held_copies(standby)] == [served.name]
    assert await standby.count(primary.name("alias")) == 300
    assert list(catalog.scratch.iterdir()) == []


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import httpx
from obstore.store import LocalStore
from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import VectorManifest
from reanimate.config import BackupSettings
from reanimate.restores.offline import refresh
from reanimate.vector.server import VectorServer

folder, url, key, backup, stage, at = sys.argv[1:]

def die(now, done, total):
    if now == stage and done == int(at):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    keyring = Keyring.load_or_create(Path(folder), BackupSettings())
    catalog = Catalog(LocalStore(prefix=Path(folder) / "blobs"), Path(folder) / "scratch", keyring)
    async with httpx.AsyncClient(trust_env=False) as http:
        standby = VectorServer("offline", url, key, http, reads_files=True)
        await refresh(standby, catalog, catalog.find(backup, VectorManifest), die)

asyncio.run(main())
"""


async def test_refresh__killed_anywhere_is_done_by_the_next(
    primary: CleanServer, catalog: Catalog, standby: VectorServer, tmp_path: Path
) -> None:
    """Before each stage and after it: what was served is served, and the next refresh ends well and leaves nothing."""
    alias = primary.name("alias")
    first = await refresh(standby, catalog, await _backed_up(primary, catalog))
    await asyncio.sleep(1.1)
    await primary.server.upsert(primary.name(), points(5000, 5005))
    newer = await _backed_up(primary, catalog)
    key = standby._headers["api-key"]
    for stage, at in (("create", 1), ("load", 0), ("load", 1), ("verify", 0), ("switch", 0), ("switch", 1)):
        arguments = (str(tmp_path), standby.url, key, newer.manifest.id, stage, str(at))
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, *arguments)
        assert await process.wait() == -signal.SIGKILL, stage
        assert await standby.count(alias) == (305 if (stage, at) == ("switch", 1) else 300)
    done = await refresh(standby, catalog, newer)
    assert await standby.aliases() == {alias: done.name, primary.name(): done.name}
    assert sorted(copy.name for copy in await held_copies(standby)) == sorted([first.name, done.name])
    assert list(catalog.scratch.iterdir()) == []


async def test_refresh__the_standby_killed_meanwhile_serves_what_it_served(
    primary: CleanServer, catalog: Catalog, tmp_path: Path, vector_http: httpx.AsyncClient
) -> None:
    """SIGKILL to the standby in the middle of a load: after its restart the copy before is served with its age."""
    data = tmp_path / "offline"
    async with own_server("offline", data, vector_http, "--offline") as server:
        first = await refresh(server, catalog, await _backed_up(primary, catalog))
        await asyncio.sleep(1.1)
        newer = await _backed_up(primary, catalog)

        def die(stage: str, done: int, total: int) -> None:
            if stage == "load":
                _kill_server(server)

        with pytest.raises(Exception, match=r"offline"):
            await refresh(server, catalog, newer, die)
    async with own_server("offline", data, vector_http, "--offline") as server:
        (serving,) = await _serving(server)
        assert (serving.name, serving.taken_at) == (first.name, first.taken_at)
        assert (await refresh(server, catalog, newer)).loaded


def _kill_server(server: VectorServer) -> None:
    port = server.url.rsplit(":", 1)[1]
    listed = subprocess.run(["pgrep", "-f", "reanimate.standby --name offline"], capture_output=True, check=False)
    for pid in listed.stdout.split():
        sockets = subprocess.run(["ss", "-ltnpH", f"sport = :{port}"], capture_output=True, text=True, check=False)
        if f"pid={int(pid)}," in sockets.stdout:
            os.kill(int(pid), signal.SIGKILL)


def _copy(name: str, hours: int) -> HeldCopy:
    taken = TAKEN + timedelta(hours=hours)
    return HeldCopy(name, (), f"of-{name}", name.split("-")[0], taken, taken)


def test_alias_actions__follow_what_is_newest() -> None:
    """Names that the collection lost are taken away, names that moved to a newer collection stay there."""
    given = manifest(collection="docs", aliases=["kb", "faq"], taken_at=TAKEN)
    new, old = "docs-s20261123013000", "docs-s20261122013000"
    before = {"docs": old, "search": old, "kb": "other-s20261124013000", "faq": "other-s20261120013000"}
    copies = [_copy(old, -24), _copy("other-s20261124013000", 24)]
    actions = alias_actions(given, new, before, copies)
    after = dict(before)
    for action in actions:
        if "delete_alias" in action:
            del after[action["delete_alias"]["alias_name"]]
        else:
            after[action["create_alias"]["alias_name"]] = action["create_alias"]["collection_name"]
    assert after == {"kb": "other-s20261124013000", "faq": new, "docs": new}
    assert alias_actions(given, new, after, [*copies, _copy(new, 0)]) == []


def _published(backup_id: str, hours: int, *marks: tuple[What, int], **changes: object) -> Published[VectorManifest]:
    taken = TAKEN + timedelta(hours=hours)
    given = manifest(id=backup_id, taken_at=taken, **changes)
    made = tuple(Mark(what, taken + timedelta(hours=after), f"x/{what}") for what, after in marks)
    return Published(given, f"backups/kb/{backup_id}/manifest.json", "ab" * 32, made)


def test_newest_proven__of_each_collection() -> None:
    """Not the unproven, not one whose last proof failed, not a deleted one; an empty one only if there is no other."""
    proven = _published("proven", 0, ("proof-passed", 1))
    backups = [
        _published("empty", 5, ("proof-passed", 1), exact_count=0),
        _published("unproven", 4),
        _published("failed", 3, ("proof-passed", 1), ("proof-failed", 2)),
        _published("deleted", 2, ("proof-passed", 1), ("deleted", 2)),
        proven,
        _published("older", -24, ("proof-passed", 1)),
        _published("of-docs", -48, ("proof-passed", 1), collection="docs", exact_count=0),
        _published("restored", -30, ("proof-passed", 1), collection="kb-r20261122010203"),
    ]
    assert [one.manifest.id for one in newest_proven(backups)] == ["of-docs", "proven"]
    assert newest(backups[2].marks, "proof-passed", "proof-failed") is not None
