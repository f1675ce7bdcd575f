"""Damaged snapshots: refused before they do harm, and whatever they do, they do it to nobody else."""

import hashlib
import json
import random
import tarfile
from collections.abc import Callable
from io import BytesIO

import httpx
import pytest
from points import all_points, count, dense_points, make_collection, upload, upsert
from qdrant_server import StandbyProcess
from recorded import RECORDINGS, points_of, snapshot

NewName = Callable[[], str]

CORRUPTIONS = [json.loads(line) for line in (RECORDINGS / "corruptions.jsonl").read_text().splitlines()]


def _flipped(content: bytes, offset: int, length: int = 64) -> bytes:
    part = bytes(byte ^ 0x55 for byte in content[offset : offset + length])
    return content[:offset] + part + content[offset + length :]


async def test_checksum__refuses_every_damage(client: httpx.AsyncClient, new_name: NewName) -> None:
    """With the checksum given, no flipped and no cut file is taken, wherever the damage is; the data stays."""
    path = await make_collection(client, new_name(), vectors={"size": 8, "distance": "Cosine"})
    whole = snapshot("docs.shard-0.snapshot")
    checksum = hashlib.sha256(whole).hexdigest()
    assert (await upload(client, f"{path}/shards/0", whole, checksum=checksum)).status_code == 200
    chance = random.Random(7)
    damaged = [_flipped(whole, chance.randrange(len(whole) - 64)) for _ in range(12)]
    damaged += [whole[: chance.randrange(1, len(whole))] for _ in range(6)]
    damaged += [whole[: -512 * n] for n in (1, 2, 3)]
    for content in damaged:
        answer = await upload(client, f"{path}/shards/0", content, checksum=checksum)
        assert answer.status_code == 400
        assert answer.json()["status"]["error"].startswith("Checksum mismatch: expected ")
    assert await count(client, path) == 191


@pytest.mark.usefixtures("standby_only")
async def test_cut_file__is_refused_without_a_checksum(client: httpx.AsyncClient, new_name: NewName) -> None:
    """A cut file is refused even where it was cut between two members, which servers take for whole."""
    path = await make_collection(client, new_name(), vectors={"size": 8, "distance": "Cosine"})
    for file in ("docs.shard-0.snapshot", "docs.shard-0.streamed.snapshot"):
        whole = snapshot(file)
        with tarfile.open(fileobj=BytesIO(whole)) as archive:
            borders = [member.offset for member in archive][1:]
        for cut in [*borders[:: max(1, len(borders) // 12)], borders[-1], len(whole) - 1024]:
            answer = await upload(client, f"{path}/shards/0", whole[:cut])
            assert answer.status_code == 500, f"{file} cut at {cut}: {answer.text}"
    assert await count(client, path) == 0


@pytest.mark.usefixtures("standby_only")
@pytest.mark.parametrize("case", CORRUPTIONS, ids=lambda case: case["file"])
async def test_flipped_bytes__do_no_harm_elsewhere(client: httpx.AsyncClient, new_name: NewName, case: dict) -> None:
    """Damage that the structure does not show is opened beside the data: refused it leaves nothing, and others go on.

    Of the twenty damages a real server left a broken collection behind in nine.
    """
    bystander = await make_collection(client, new_name())
    await upsert(client, bystander, dense_points(20))
    content = snapshot("docs.collection.snapshot")
    for offset in case["offsets"]:
        content = _flipped(content, offset, case["bytes"])
    name = new_name()
    answer = await upload(client, f"/collections/{name}", content)
    assert answer.status_code in (200, 500)
    exists = (await client.get(f"/collections/{name}/exists")).json()["result"]["exists"]
    assert exists == (answer.status_code == 200)
    if exists:
        assert await count(client, f"/collections/{name}") == 191
    assert await count(client, bystander) == 20
    assert (await client.get("/healthz")).status_code == 200


@pytest.mark.usefixtures("standby_only")
async def test_refused_snapshot__leaves_the_old_data(client: httpx.AsyncClient, new_name: NewName) -> None:
    """A shard that was refused, by its structure or by the engine, leaves the points that were there."""
    path = await make_collection(client, new_name(), vectors={"size": 8, "distance": "Cosine"})
    whole = snapshot("docs.shard-0.streamed.snapshot")
    assert (await upload(client, f"{path}/shards/0", whole)).status_code == 200
    with tarfile.open(fileobj=BytesIO(whole)) as archive:
        mappings = next(member for member in archive if member.name.endswith("mutable_id_tracker.mappings"))
    for content in (b"no tar", whole[: len(whole) // 2], _flipped(whole, mappings.offset_data)):
        answer = await upload(client, f"{path}/shards/0", content)
        assert answer.status_code == 500, answer.text
        assert set(await all_points(client, path)) == set(points_of("docs"))


def _tar(*members: tuple[str, bytes, bytes]) -> bytes:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info, BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        _tar(("../outside", tarfile.REGTYPE, b"x")),
        _tar(("/tmp/outside", tarfile.REGTYPE, b"x")),
        _tar(("segments/a/files/link", tarfile.SYMTYPE, b"")),
        _tar(("segments/a/files/segment.json", tarfile.REGTYPE, b"{}"), ("shard_config.json", tarfile.REGTYPE, b"{}")),
        _tar(),
    ],
    ids=["parent path", "absolute path", "symbolic link", "empty segment", "nothing"],
)
async def test_hostile_archive__is_refused(
    start_standby: Callable[..., StandbyProcess], standby_only: None, content: bytes
) -> None:
    """An archive that reaches outside, links, or is hollow is refused, and writes nothing."""
    process = start_standby()
    async with process.server.client() as client:
        path = await make_collection(client, "target")
        answer = await upload(client, f"{path}/shards/0", content)
        assert answer.status_code == 500, answer.text
        assert await count(client, path) == 0
    assert list((process.directory / "data" / "tmp").iterdir()) == []
    assert not (process.directory / "data" / "outside").exists()


@pytest.mark.parametrize("name", ["a%2F..%2F..%2Foutside", "..", "a%00b"])
async def test_name__cannot_lead_outside(
    start_standby: Callable[..., StandbyProcess], standby_only: None, name: str
) -> None:
    """A collection's name never becomes a path outside of the data directory, nor a file's name in an upload."""
    process = start_standby()
    content = snapshot("docs.collection.snapshot")
    async with process.server.client() as client:
        files = {"snapshot": ("../../../outside.snapshot", content)}
        answer = await client.post(f"/collections/{name.replace('..', '%2E%2E')}/snapshots/upload", files=files)
        listed = (await client.get("/collections")).json()["result"]["collections"]
    assert answer.status_code == (200 if name == ".." else 422), answer.text
    assert listed == ([{"name": ".."}] if name == ".." else [])
    data = process.directory / "data"
    assert sorted(path.name for path in process.directory.iterdir()) == ["data", "standby.log"]
    assert {path.name for path in data.iterdir()} <= {".lock", "peer.json", "tmp", "collections", "snapshots"}


@pytest.mark.usefixtures("standby_only")
async def test_rocksdb_relics__are_refused(client: httpx.AsyncClient, new_name: NewName) -> None:
    """Segments that only a server before 1.16 can read are refused by name."""
    state = b'{"version":1,"config":{"vector_data":{"":{"size":8,"distance":"Dot","storage_type":"Memory"}},'
    state += b'"payload_storage_type":{"type":"in_memory"}}}'
    content = _tar(
        ("segments/a/files/segment.json", tarfile.REGTYPE, state),
        ("segments/a/files/version.info", tarfile.REGTYPE, b"0.6.0"),
        ("shard_config.json", tarfile.REGTYPE, b'{"type":"ReplicaSet"}'),
    )
    path = await make_collection(client, new_name())
    answer = await upload(client, f"{path}/shards/0", content)
    assert answer.status_code == 500
    assert "RocksDB" in answer.json()["status"]["error"]
