"""Restores on a real server: beside the live collection, verified, switched and undone; failures harm nothing."""

import asyncio
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
import pytest
from faulty_proxy import Fault, proxied
from qdrant_servers import KEY, CleanServer, fill, points, server_at

from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import Sentinel, VectorManifest
from reanimate.clock import utcnow
from reanimate.errors import (
    Damaged,
    InputInvalid,
    NotFound,
    ReanimateError,
    Refused,
    ServerFailed,
    Unreachable,
    VerificationFailed,
)
from reanimate.restores.aliases import AliasSwitch, switch_aliases, undo_switch
from reanimate.restores.restore import (
    RestoreOptions,
    discard,
    new_collection_name,
    restore,
    restore_and_switch,
    verify,
)
from reanimate.restores.seed import seed
from reanimate.restores.verification import Depth
from reanimate.vector.transfers import TransferLimits

QUICK = RestoreOptions(transfer=TransferLimits(attempts=2, stall_s=1.0, first_wait_s=0.01, apply_s=30.0))


async def _backed_up(primary: CleanServer, catalog: Catalog, count: int = 400) -> VectorManifest:
    """Fill a collection with an alias, and back it up."""
    await fill(primary.server, primary.name(), count, alias=primary.name("alias"))
    return await take_backup(primary.server, primary.name("alias"), catalog)


def _new(manifest: VectorManifest) -> str:
    return new_collection_name(manifest.collection, utcnow())


async def test_restore__beside_the_live_one_then_switched_and_undone(primary: CleanServer, catalog: Catalog) -> None:
    """The live collection is left as it is, the alias moves to a verified copy, and moves back."""
    manifest = await _backed_up(primary, catalog)
    live, alias = primary.name(), primary.name("alias")
    await primary.server.upsert(live, points(5000, 5010))
    stages: list[str] = []
    restored = await restore_and_switch(
        primary.server, catalog, manifest, _new(manifest), lambda stage, done, total: stages.append(stage)
    )
    assert restored.verification.passed
    assert restored.switch == AliasSwitch(before={alias: live}, after={alias: restored.name})
    assert await primary.aliases() == {alias: restored.name}
    assert await primary.server.exact_count(alias) == 400
    assert await primary.server.exact_count(live) == 410
    assert list(dict.fromkeys(stages)) == ["create", "download", "upload", "settle", "verify", "switch"]
    assert list(catalog.scratch.iterdir()) == []
    with pytest.raises(Refused, match="it is live"):
        await discard(primary.server, restored.name)
    await undo_switch(primary.server, restored.switch)
    await undo_switch(primary.server, restored.switch)
    assert await primary.aliases() == {alias: live}
    await discard(primary.server, restored.name)
    assert await primary.mine() == [live]


async def test_restore__of_a_deleted_collection_gives_its_name_back(primary: CleanServer, catalog: Catalog) -> None:
    """Clients that used the collection's own name find the restored data under it."""
    await fill(primary.server, primary.name(), 100)
    manifest = await take_backup(primary.server, primary.name(), catalog)
    await primary.server.delete_collection(primary.name())
    restored = await restore_and_switch(primary.server, catalog, manifest, _new(manifest))
    assert await primary.aliases() == {primary.name(): restored.name}
    assert await primary.server.exact_count(primary.name()) == 100
    again = await take_backup(primary.server, primary.name(), catalog)
    assert (again.collection, again.aliases) == (restored.name, [primary.name()])
    assert [one.id for one in catalog.list(primary.name())] == [again.id, manifest.id]
    await undo_switch(primary.server, restored.switch)
    assert await primary.aliases() == {}


async def test_restore__of_every_kind_of_config(primary: CleanServer, catalog: Catalog) -> None:
    """Named, sparse and multivectors, several shards, quantization, tuned indexes: made anew as they were."""
    config = {
        "vectors": {
            "dense": {"size": 4, "distance": "Cosine", "hnsw_config": {"m": 8}, "on_disk": True},
            "late": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"bm25": {"modifier": "idf"}},
        "shard_number": 2,
        "hnsw_config": {"m": 24, "ef_construct": 64},
        "optimizers_config": {"indexing_threshold": 5000},
    }
    name = primary.name()
    await primary.server.create_collection(name, config)
    await primary.server.create_index(name, "text", {"type": "text", "tokenizer": "word", "lowercase": True})
    await primary.server.create_index(name, "tenant", {"type": "keyword", "is_tenant": True})
    await primary.server.upsert(
        name,
        [
            {
                "id": number,
                "vector": {
                    "dense": [number / 9 + 0.1, 0.5, 0.25, 1.0],
                    "late": [[number / 9, 0.5, 0.1, 0.2], [0.1, 0.2, 0.3, 0.5]],
                    "bm25": {"indices": [number + 1, 500], "values": [0.5, 1.5]},
                },
                "payload": {"text": f"passage {number}", "tenant": f"t{number % 3}"},
            }
            for number in range(200)
        ],
    )
    manifest = await take_backup(primary.server, name, catalog)
    restored = await restore_and_switch(primary.server, catalog, manifest, _new(manifest))
    before, after = await primary.server.info(name), await primary.server.info(restored.name)
    assert after["config"] == before["config"]
    assert after["payload_schema"] == before["payload_schema"]
    assert len(manifest.parts) == 2


async def test_restore__of_a_strict_collection_is_verified_before_it_is_strict(
    primary: CleanServer, catalog: Catalog
) -> None:
    """Limits for who asks the live collection do not keep a restore from being verified, and are there afterwards."""
    strict = {"enabled": True, "max_query_limit": 5, "unindexed_filtering_retrieve": False, "read_rate_limit": 2000}
    name = primary.name()
    await primary.server.create_collection(
        name, {"vectors": {"size": 16, "distance": "Cosine"}, "strict_mode_config": strict}
    )
    await primary.server.upsert(name, points(0, 300))
    manifest = await take_backup(primary.server, name, catalog)
    new, seen = _new(manifest), []

    async def look() -> None:
        seen.append((await primary.server.info(new))["config"]["strict_mode_config"]["enabled"])

    restored = await restore_and_switch(primary.server, catalog, manifest, new, before_switch=look)
    assert seen == [False]
    before, after = await primary.server.info(name), await primary.server.info(restored.name)
    assert after["config"] == before["config"]
    assert (await verify(primary.server, restored.name, manifest, depth=Depth.DEEP)).passed


async def test_restore__makes_an_index_that_did_not_come_along(primary: CleanServer, catalog: Catalog) -> None:
    """A payload index of the manifest that is not in the restored shard is created."""
    manifest = await _backed_up(primary, catalog)
    more = manifest.model_copy(update={"payload_schema": {**manifest.payload_schema, "text": {"data_type": "keyword"}}})
    restored = await restore_and_switch(primary.server, catalog, more, _new(manifest))
    assert (await primary.server.info(restored.name))["payload_schema"]["text"]["data_type"] == "keyword"


@pytest.mark.parametrize(
    ("fault", "error", "stage"),
    [
        (Fault("status", "PUT", "/collections/"), ServerFailed, "create"),
        (Fault("status", "POST", "/upload", status=500), ServerFailed, "upload"),
        (Fault("cut request", "POST", "/upload", after=20_000), Unreachable, "upload"),
        (Fault("stall request", "POST", "/upload", after=20_000), Unreachable, "upload"),
        (Fault("status", "POST", "/points/query", status=500), ServerFailed, "verify"),
        (Fault("status", "POST", "/collections/aliases", status=500), ServerFailed, "switch"),
    ],
    ids=["create", "upload", "upload cut", "upload stalled", "verify", "switch"],
)
async def test_restore__that_fails_harms_nothing(
    primary: CleanServer,
    catalog: Catalog,
    vector_urls: list[str],
    vector_http: httpx.AsyncClient,
    fault: Fault,
    error: type[ReanimateError],
    stage: str,
) -> None:
    """Wherever it fails: alias and live points are as before, the new collection is gone, the stage is named."""
    manifest = await _backed_up(primary, catalog, 3000)
    options = replace(QUICK, transfer=replace(QUICK.transfer, apply_s=1.5)) if "stall" in fault.kind else QUICK
    async with proxied(vector_urls[0]) as proxy:
        proxy.faults = [replace(fault, hits=0)]
        server = server_at(proxy.url, vector_http)
        with pytest.raises(error, match=f"failed at {stage}"):
            await restore_and_switch(server, catalog, manifest, _new(manifest), options=options)
    await _is_untouched(primary, catalog, 3000)


async def _is_untouched(primary: CleanServer, catalog: Catalog, count: int) -> None:
    assert await primary.mine() == [primary.name()]
    assert await primary.aliases() == {primary.name("alias"): primary.name()}
    assert await primary.server.exact_count(primary.name("alias")) == count
    assert list(catalog.scratch.iterdir()) == []


async def test_restore__from_damaged_parts_never_reaches_the_server(primary: CleanServer, catalog: Catalog) -> None:
    """One flipped bit, a cut or a missing part stops it at download; the stored backup is told by name."""
    manifest = await _backed_up(primary, catalog)
    key = manifest.parts[0].blob
    good = bytes(obstore.get(catalog.store, key).bytes())
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad in (bytes(flipped), good[:-1024], good + b"x", b""):
        obstore.put(catalog.store, key, bad)
        with pytest.raises(Damaged, match=r"failed at download.*shard-0"):
            await restore_and_switch(primary.server, catalog, manifest, _new(manifest))
        await _is_untouched(primary, catalog, 400)
    obstore.delete(catalog.store, key)
    with pytest.raises(NotFound, match="failed at download"):
        await restore_and_switch(primary.server, catalog, manifest, _new(manifest))
    await _is_untouched(primary, catalog, 400)


async def test_restore__that_is_not_the_backup_is_not_switched_to(primary: CleanServer, catalog: Catalog) -> None:
    """Count, sentinels and known answers must all hold; a collection where one does not is deleted."""
    manifest = await _backed_up(primary, catalog)
    wrong_point = [Sentinel(id=manifest.sentinels[0].id, sha256="0" * 64), *manifest.sentinels[1:]]
    first = manifest.golden[0]
    wrong_answer = first.model_copy(update={"hits": first.hits[1:] + first.hits[:1]})
    for changes, check in (
        ({"exact_count": 401}, "count"),
        ({"sentinels": wrong_point}, "sentinels"),
        ({"golden": [wrong_answer]}, "known answers"),
    ):
        with pytest.raises(VerificationFailed, match=check):
            await restore_and_switch(primary.server, catalog, manifest.model_copy(update=changes), _new(manifest))
        await _is_untouched(primary, catalog, 400)


async def test_restore__into_another_dimension_is_noticed(primary: CleanServer, catalog: Catalog) -> None:
    """A real server takes a shard of another dimension with a 200; here it does not become live."""
    manifest = await _backed_up(primary, catalog)
    params = {**manifest.config["params"], "vectors": {"size": 4, "distance": "Cosine"}}
    wrong = manifest.model_copy(update={"config": {**manifest.config, "params": params}})
    with pytest.raises(Damaged, match="config says"):
        await restore_and_switch(primary.server, catalog, wrong, _new(manifest))
    await _is_untouched(primary, catalog, 400)


async def test_restore__only_to_names_of_its_own(primary: CleanServer, catalog: Catalog) -> None:
    """Neither a collection of somebody's nor a live restored one is ever written to."""
    manifest = await _backed_up(primary, catalog)
    with pytest.raises(InputInvalid, match="new name of its own"):
        await restore(primary.server, catalog, manifest, primary.name())
    with pytest.raises(InputInvalid):
        await discard(primary.server, primary.name())
    live = (await restore_and_switch(primary.server, catalog, manifest, _new(manifest))).name
    with pytest.raises(Refused, match="it is live"):
        await restore(primary.server, catalog, manifest, live)
    assert await primary.server.exact_count(live) == 400


async def test_restore__of_another_version_is_refused(primary: CleanServer, catalog: Catalog) -> None:
    """The version rule holds also for who skips the plan."""
    manifest = await _backed_up(primary, catalog)
    older = manifest.model_copy(update={"server": manifest.server.model_copy(update={"version": "1.9.0"})})
    with pytest.raises(Refused, match="only the same minor version"):
        await restore(primary.server, catalog, older, _new(manifest))


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import httpx
from obstore.store import LocalStore
from reanimate.backups.keyring import Keyring
from reanimate.config import BackupSettings
from reanimate.backups.catalog import Catalog
from reanimate.restores.restore import restore_and_switch
from reanimate.vector.server import VectorServer

url, key, folder, backup, name, stage = sys.argv[1:]

def die(at, done, total):
    if at == stage:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    keyring = Keyring.load_or_create(Path(folder), BackupSettings())
    catalog = Catalog(LocalStore(prefix=Path(folder) / "blobs"), Path(folder) / "scratch", keyring)
    async with httpx.AsyncClient(trust_env=False) as http:
        server = VectorServer("primary", url, key or None, http)
        await restore_and_switch(server, catalog, catalog.get(backup), name, die)

asyncio.run(main())
"""


@pytest.mark.parametrize("stage", ["create", "download", "upload", "settle", "verify", "switch"])
async def test_restore__killed_anywhere_is_done_again_under_the_same_name(
    primary: CleanServer, catalog: Catalog, tmp_path: Path, stage: str
) -> None:
    """After SIGKILL in a stage, the same restore again ends well and leaves one copy only."""
    manifest = await _backed_up(primary, catalog)
    name = _new(manifest)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, primary.server.url, KEY or "", str(tmp_path), manifest.id, name, stage
    )
    assert await process.wait() == -signal.SIGKILL
    assert await primary.aliases() == {primary.name("alias"): primary.name()}
    restored = await restore_and_switch(primary.server, catalog, manifest, name)
    assert restored.verification.passed
    assert list(catalog.scratch.iterdir()) == []
    assert await primary.mine() == sorted([primary.name(), name])
    assert await primary.aliases() == {primary.name("alias"): name}


async def test_switch__repeated_keeps_what_stood_before(primary: CleanServer, catalog: Catalog) -> None:
    """A switch that is done again, as after a kill, gives the first `before` when it is given the plan."""
    manifest = await _backed_up(primary, catalog)
    restored = await restore_and_switch(primary.server, catalog, manifest, _new(manifest))
    again = await switch_aliases(primary.server, manifest, restored.name, restored.switch)
    assert again.before == {primary.name("alias"): primary.name()}
    with pytest.raises(NotFound):
        await switch_aliases(primary.server, manifest, primary.name("none"))


async def test_undo__leaves_alone_what_was_pointed_elsewhere_since(primary: CleanServer, catalog: Catalog) -> None:
    """A new alias that somebody has taken over is theirs."""
    manifest = await _backed_up(primary, catalog)
    switch = AliasSwitch(before={}, after={primary.name("alias"): "something-else"})
    await undo_switch(primary.server, switch)
    assert await primary.aliases() == {primary.name("alias"): manifest.collection}


async def test_verify__of_a_live_collection(primary: CleanServer, catalog: Catalog) -> None:
    """Verification goes through an alias as well, and tells a missing collection from a wrong one."""
    manifest = await _backed_up(primary, catalog)
    assert (await verify(primary.server, primary.name("alias"), manifest)).passed
    missing = await verify(primary.server, primary.name("none"), manifest)
    assert [(check.name, check.passed) for check in missing.checks] == [("collection", False)]
    await primary.server.upsert(primary.name(), points(9000, 9001))
    found = await verify(primary.server, primary.name(), manifest)
    assert "count" in {check.name for check in found.checks if not check.passed}


async def test_seed__fills_a_replica_once_per_backup(
    primary: CleanServer, replica: CleanServer, catalog: Catalog
) -> None:
    """The same backup is not loaded twice, a newer one replaces it, and one older copy is kept."""
    manifest = await _backed_up(primary, catalog)
    replica.prefix = primary.prefix
    first = await seed(replica.server, catalog, manifest)
    assert await replica.server.exact_count(primary.name("alias")) == 400
    stages: list[str] = []
    again = await seed(replica.server, catalog, manifest, lambda stage, done, total: stages.append(stage))
    assert (again.name, stages) == (first.name, [])
    names = [first.name]
    for hours in (1, 2, 3):
        later = manifest.model_copy(update={"taken_at": manifest.taken_at + timedelta(hours=hours)})
        names.append((await seed(replica.server, catalog, later)).name)
    kept = [name for name in await replica.mine() if "-s" in name]
    assert kept == names[-2:]
    assert (await replica.aliases())[primary.name("alias")] == names[-1]


async def test_seed__replaces_a_copy_that_went_bad(
    primary: CleanServer, replica: CleanServer, catalog: Catalog
) -> None:
    """A live copy that no longer verifies is not written to: a good one is made beside it."""
    manifest = await _backed_up(primary, catalog)
    replica.prefix = primary.prefix
    first = await seed(replica.server, catalog, manifest)
    await replica.server.upsert(first.name, points(9000, 9010))
    second = await seed(replica.server, catalog, manifest)
    assert second.name != first.name
    assert await replica.server.exact_count(primary.name("alias")) == 400
