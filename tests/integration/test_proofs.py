"""Proofs on real servers: what is right passes, each thing that is wrong fails by its name, a kill leaves nothing."""

import asyncio
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from qdrant_servers import KEY, CleanServer, fill

from reanimate.backups.backup import BackupOptions, take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.checks import Check
from reanimate.backups.manifest import Embedding, VectorManifest
from reanimate.backups.marks import read_mark
from reanimate.clock import utcnow
from reanimate.errors import NotFound
from reanimate.proofs.examining import examine
from reanimate.proofs.proof import Proof, new_proof_id, prove_collection, proving
from reanimate.proofs.record import mark_backup
from reanimate.proofs.scratch import Scratch, ScratchServer, sweep
from reanimate.restores.read_only import BadPart, fetching, load
from reanimate.vector.server import VectorServer

NAMES = [
    "status", "schema", "indexes", "aliases", "count", "ids", "points", "vectors", "payloads", "dimensions",
    "queries, exact", "queries, through the index",
]  # fmt: skip


async def _backed_up(primary: CleanServer, catalog: Catalog, count: int = 400) -> VectorManifest:
    await fill(primary.server, primary.name(), count, alias=primary.name("alias"))
    return await take_backup(primary.server, primary.name("alias"), catalog)


def _wrong(checks: list[Check] | tuple[Check, ...]) -> list[str]:
    return [check.name for check in checks if not check.passed]


@pytest.fixture(params=["own", "set aside"])
def scratch(request: pytest.FixtureRequest, tmp_path: Path, vector_http: httpx.AsyncClient) -> Scratch:
    """A server of our own for each proof, and one that is set aside: with QDRANT_URL that is the real one."""
    if request.param == "own":
        return Scratch(vector_http, tmp_path / "notes")
    replica: CleanServer = request.getfixturevalue("replica")
    return Scratch(vector_http, tmp_path / "notes", replica.server)


async def _left(scratch: Scratch, manifest: VectorManifest) -> list[str]:
    """Return what is left on the server that is set aside."""
    if scratch.set_aside is None:
        return []
    base = f"{manifest.collection}-p"
    found = [name for name in await scratch.set_aside.collections() if name.startswith(base)]
    return found + [alias for alias in await scratch.set_aside.aliases() if alias.startswith(base)]


async def test_prove__what_is_right_passes_and_leaves_nothing(
    primary: CleanServer, catalog: Catalog, scratch: Scratch
) -> None:
    """Every check has its name and passes; the scratch collection, its aliases and files are gone."""
    manifest = await _backed_up(primary, catalog)
    stages: list[str] = []
    checks = await prove_collection(catalog, manifest, scratch, lambda stage, done, total: stages.append(stage))
    assert [check.name for check in checks] == NAMES
    assert _wrong(checks) == []
    assert {*stages} == {"download", "create", "load", "examine"}
    assert await _left(scratch, manifest) == []
    assert list(catalog.scratch.iterdir()) == []
    assert not scratch.notes.exists() or list(scratch.notes.iterdir()) == []


async def test_prove__every_kind_of_collection_and_changes_only(
    primary: CleanServer, catalog: Catalog, scratch: Scratch
) -> None:
    """Named, sparse and multivectors in two shards; then a backup of changes on top of it, proven like a full one."""
    name = primary.name()
    config = {
        "vectors": {
            "dense": {"size": 4, "distance": "Euclid"},
            "late": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"bm25": {"modifier": "idf"}},
        "shard_number": 2,
    }
    await primary.server.create_collection(name, config)
    await primary.server.create_index(name, "text", {"type": "text", "tokenizer": "word", "lowercase": True})

    def rows(begin: int, end: int) -> list[dict[str, Any]]:
        return [
            {
                "id": number if number % 2 else str(uuid.UUID(int=number)),
                "vector": {
                    "dense": [number / 9 + 0.1, 0.5, 0.25, 1.0],
                    "late": [[number / 9, 0.5, 0.1, 0.2], [0.1, 0.2, 0.3, 0.5]],
                    "bm25": {"indices": [number % 7, 100 + number], "values": [0.5, 1.5]},
                },
                "payload": {"text": f"Größe {number}"},
            }
            for number in range(begin, end)
        ]

    await primary.server.upsert(name, rows(0, 150))
    full = await take_backup(primary.server, name, catalog)
    assert _wrong(await prove_collection(catalog, full, scratch)) == []
    await primary.server.upsert(name, rows(150, 155))
    partial = await take_backup(primary.server, name, catalog, BackupOptions(partial_share=10.0), partial=True)
    assert partial.base == full.id, partial.instead_of_partial
    assert _wrong(await prove_collection(catalog, partial, scratch)) == []
    assert await _left(scratch, full) == []


@asynccontextmanager
async def _loaded(
    catalog: Catalog, manifest: VectorManifest, scratch: Scratch, folder: Path
) -> AsyncIterator[tuple[VectorServer, str]]:
    """Have the backup loaded in a scratch collection."""
    async with (
        fetching(catalog, manifest, folder, lambda stage, done, total: None) as parts,
        scratch.open(folder / "server") as server,
        scratch.collection(server, manifest) as name,
    ):
        await load(server.server, name, manifest, parts, lambda stage, done, total: None, flat=server.is_own)
        yield server.server, name


async def test_prove__data_that_is_not_what_it_was_fails_by_name(
    primary: CleanServer, catalog: Catalog, scratch: Scratch, tmp_path: Path
) -> None:
    """A vector, a payload, an id, an index changed in the data itself: the check of that name says so, no other."""
    manifest = await _backed_up(primary, catalog)
    known = {one.id for one in manifest.sentinels}
    other = next(number for number in range(400) if number not in known)
    first, second = manifest.sentinels[0].id, manifest.sentinels[1].id
    async with _loaded(catalog, manifest, scratch, tmp_path) as (server, name):

        async def judged() -> list[str]:
            return _wrong(await examine(server, name, manifest, {}))

        async def write(method: str, path: str, body: dict[str, Any]) -> None:
            await server.request(
                method, server.path(name, path), doing="spoiling", timeout_s=30, json=body, params={"wait": "true"}
            )

        assert await judged() == []
        payload = (await server.retrieve(name, [first]))[0]["payload"]
        await write("PUT", "points/payload", {"payload": {**payload, "year": 1999}, "points": [first]})
        assert await judged() == ["payloads"]
        await write("PUT", "points/payload", {"payload": payload, "points": [first]})
        vector = (await server.retrieve(name, [second]))[0]["vector"]
        await write("PUT", "points/vectors", {"points": [{"id": second, "vector": [-one for one in vector]}]})
        assert "vectors" in await judged()
        assert "payloads" not in await judged()
        await write("PUT", "points/vectors", {"points": [{"id": second, "vector": vector}]})
        gone = (await server.retrieve(name, [other]))[0]
        await write("POST", "points/delete", {"points": [other]})
        assert {"count", "ids"} <= set(await judged())
        await server.upsert(name, [{**gone, "id": 100_000}])
        assert (wrong := await judged())[0] == "ids", f"as many points, another id: {wrong}"
        await write("POST", "points/delete", {"points": [100_000]})
        await server.upsert(name, [gone])
        assert await judged() == []
        await write("DELETE", "index/lang", {})
        assert await judged() == ["indexes"]
    assert await _left(scratch, manifest) == []


async def test_prove__a_manifest_that_says_other_things_fails_by_name(
    primary: CleanServer, catalog: Catalog, tmp_path: Path, vector_http: httpx.AsyncClient
) -> None:
    """What the manifest claims is looked for: schema, index, alias, model, hash, known answer, quality of the index."""
    manifest = await _backed_up(primary, catalog)
    sentinel, golden = manifest.sentinels[0], manifest.golden[0]
    off = golden.model_copy(update={"hits": [hit.model_copy(update={"score": hit.score / 2}) for hit in golden.hits]})
    never = golden.model_copy(update={"hits": [hit.model_copy(update={"id": 10**9 + hit.id}) for hit in golden.hits]})
    params = {**manifest.config["params"], "vectors": {"size": 17, "distance": "Dot"}}
    bad_config = {**manifest.config, "params": params}
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"exact_count": 401}, ["count"]),
        ({"ids_sha256": "00" * 32}, ["ids"]),
        ({"payload_schema": {**manifest.payload_schema, "ghost": {"data_type": "geo"}}}, ["indexes"]),
        ({"sentinels": [sentinel.model_copy(update={"id": 10**9})]}, ["points"]),
        ({"sentinels": [sentinel.model_copy(update={"sha256": "00" * 32})]}, ["points"]),
        ({"sentinels": [sentinel.model_copy(update={"vectors_sha256": "00" * 32})]}, ["vectors"]),
        ({"sentinels": [sentinel.model_copy(update={"payload_sha256": "00" * 32})]}, ["payloads"]),
        ({"embedding": Embedding(model="other", dimension=768)}, ["dimensions"]),
        ({"config": bad_config}, ["schema", "dimensions"]),
        ({"golden": [off, *manifest.golden[1:]]}, ["queries, exact"]),
        ({"golden": [never, *manifest.golden[1:]]}, ["queries, exact", "queries, through the index"]),
    ]
    async with _loaded(catalog, manifest, Scratch(vector_http, tmp_path / "notes"), tmp_path) as (server, name):
        for changes, expected in cases:
            assert _wrong(await examine(server, name, manifest.model_copy(update=changes), {})) == expected, changes
        aliases = {"a/b": "not/possible", "fine": "fine"}
        assert _wrong(await examine(server, name, manifest, aliases)) == ["aliases"]
        fair = manifest.model_copy(update={"golden": [never, *manifest.golden[1:]], "index_recall": 0.95})
        assert _wrong(await examine(server, name, fair, {})) == ["queries, exact"]


async def _proof(catalog: Catalog, manifest: VectorManifest, scratch: Scratch) -> Proof:
    """Prove as the use case does, and mark it."""
    backup = catalog.find(manifest.id, VectorManifest)
    proof_id = new_proof_id(manifest.id, utcnow())
    about = {"repository": "local", "target": scratch.name, "trigger": "test"}
    async with proving(proof_id, backup, valid_for=timedelta(days=30), **about) as draft:
        draft.checks = await prove_collection(catalog, manifest, scratch)
    assert draft.proof is not None
    await mark_backup(catalog, backup, draft.proof)
    return draft.proof


async def test_prove__parts_that_are_damaged_fail_and_are_marked(
    primary: CleanServer, catalog: Catalog, tmp_path: Path, vector_http: httpx.AsyncClient
) -> None:
    """A flipped bit, a missing part, one of other vectors: a failed proof, signed beside it; then a good one."""
    manifest = await _backed_up(primary, catalog)
    scratch = Scratch(vector_http, tmp_path / "notes")
    part = manifest.parts[0]
    content = bytearray((await obstore.get_async(catalog.store, part.blob)).bytes())
    content[len(content) // 2] ^= 0x10
    original = bytes((await obstore.get_async(catalog.store, part.blob)).bytes())
    await obstore.put_async(catalog.store, part.blob, bytes(content))
    proof = await _proof(catalog, manifest, scratch)
    assert (proof.outcome, _wrong(proof.checks), proof.expires_at) == ("failed", ["parts"], None)
    failed = catalog.find(manifest.id, VectorManifest)
    assert failed.proven_at is None
    assert failed.last_proof is not None
    said = await read_mark(catalog.store, failed.last_proof, catalog.keyring)
    assert (said["what"], said["backup_id"], said["outcome"]) == ("proof-failed", manifest.id, "failed")
    assert part.blob in said["checks"][0]["found"]
    await obstore.delete_async(catalog.store, part.blob)
    with pytest.raises(BadPart, match="is not in the"):
        await prove_collection(catalog, manifest, scratch)
    await obstore.put_async(catalog.store, part.blob, original)
    other = {**manifest.config, "params": {**manifest.config["params"], "vectors": {"size": 17, "distance": "Cosine"}}}
    with pytest.raises(BadPart, match="holds vectors") as bad:
        await prove_collection(catalog, manifest.model_copy(update={"config": other}), scratch)
    assert bad.value.check == "dimensions"
    await asyncio.sleep(1.1)  # marks are named by the second
    good = await _proof(catalog, manifest, scratch)
    assert (good.outcome, good.error) == ("passed", None)
    assert catalog.find(manifest.id, VectorManifest).proven_at is not None
    assert list(catalog.scratch.iterdir()) == []


async def test_prove__trouble_of_ours_says_nothing_about_the_backup(
    primary: CleanServer, catalog: Catalog, tmp_path: Path, vector_http: httpx.AsyncClient
) -> None:
    """A scratch server that is away, a version it cannot load: an error, no mark, and the proof is due again."""
    manifest = await _backed_up(primary, catalog, 50)
    away = Scratch(vector_http, tmp_path / "notes", VectorServer("away", "http://127.0.0.1:9", None, vector_http))
    proof = await _proof(catalog, manifest, away)
    assert (proof.outcome, proof.checks) == ("error", ())
    assert "away" in str(proof.error)
    old = manifest.model_copy(update={"server": manifest.server.model_copy(update={"version": "1.9.0"})})
    proof = await _proof(catalog, old, Scratch(vector_http, tmp_path / "notes"))
    assert proof.outcome == "error"
    assert "1.9.0" in str(proof.error)
    assert catalog.find(manifest.id, VectorManifest).last_proof is None


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import httpx
from obstore.store import LocalStore
from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.config import BackupSettings
from reanimate.proofs.proof import prove_collection
from reanimate.proofs.scratch import Scratch
from reanimate.vector.server import VectorServer

folder, url, key, backup, stage = sys.argv[1:]

def die(now, done, total):
    if now == stage:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    keyring = Keyring.load_or_create(Path(folder), BackupSettings())
    catalog = Catalog(LocalStore(prefix=Path(folder) / "blobs"), Path(folder) / "scratch", keyring)
    async with httpx.AsyncClient(trust_env=False) as http:
        aside = VectorServer("replica", url, key or None, http) if url else None
        scratch = Scratch(http, Path(folder) / "notes", aside)
        await prove_collection(catalog, catalog.get(backup), scratch, die)

asyncio.run(main())
"""


async def test_prove__killed_anywhere_leaves_nothing_behind_the_next(
    primary: CleanServer, catalog: Catalog, scratch: Scratch, tmp_path: Path
) -> None:
    """SIGKILL in each stage: no server of ours lives on, and the next proof removes what was left, and passes."""
    manifest = await _backed_up(primary, catalog)
    url = scratch.set_aside.url if scratch.set_aside is not None else ""
    for stage in ("download", "create", "load", "examine"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, str(tmp_path), url, KEY or "", manifest.id, stage
        )
        assert await process.wait() == -signal.SIGKILL
    await _until_no_process_uses(str(catalog.scratch))
    if scratch.set_aside is not None:
        assert await _left(scratch, manifest), "the last kill was to leave something"
    assert _wrong(await prove_collection(catalog, manifest, scratch)) == []
    assert await _left(scratch, manifest) == []
    assert list(catalog.scratch.iterdir()) == []


async def _until_no_process_uses(folder: str) -> None:
    for _ in range(100):
        processes = await asyncio.to_thread(lambda: [*Path("/proc").glob("[0-9]*")])
        if not any(folder in _command_line(path) for path in processes):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"a process still uses {folder}")


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


async def test_sweep__leaves_alone_what_lives_and_what_is_anothers(
    replica: CleanServer, tmp_path: Path, vector_http: httpx.AsyncClient, primary: CleanServer, catalog: Catalog
) -> None:
    """The collection of a proof that runs, and one that only looks a little like ours, stay."""
    manifest = await _backed_up(primary, catalog, 20)
    body = {"vectors": {"size": 4, "distance": "Dot"}}
    ours_by_age = f"{replica.name()}-p20200101000000-abcdef"
    others = [f"{replica.name()}-p2020", f"{replica.name()}-p{utcnow():%Y%m%d%H%M%S}-abcdef"]
    for name in (ours_by_age, *others):
        await replica.server.create_collection(name, body)
    scratch = Scratch(vector_http, tmp_path / "notes", replica.server)
    async with scratch.collection(ScratchServer(replica.server, False), manifest) as name:
        await replica.server.create_collection(name, body)
        assert await sweep(replica.server, scratch.notes) == [ours_by_age]
        assert await replica.server.exists(name)
    with pytest.raises(NotFound):
        await replica.server.info(name)
    assert sorted(await replica.mine())[-2:] == sorted(others)
