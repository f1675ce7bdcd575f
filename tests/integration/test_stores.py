"""One contract for every kind of store: a folder, S3 servers with different habits, and the one that S3_URL names."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import obstore
import pytest
from faulty_proxy import Fault, proxied
from object_stores import StoreAt, localbucket, make_bucket, ministack
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store
from pyrage import x25519
from qdrant_servers import CleanServer, fill

from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.clock import utcnow
from reanimate.errors import ConfigInvalid, Damaged, NotFound, Refused, Unreachable
from reanimate.restores.restore import new_collection_name, restore, verify
from reanimate.storage.belts import Chunk
from reanimate.storage.blobs import create_object, read_object, remove_objects
from reanimate.storage.object_lock import lock_of
from reanimate.storage.packing import fetch_packed, store_packed
from reanimate.storage.stores import open_url
from reanimate.storage.transport import hash_object, object_ranges, object_size, put_stream

PART = 8 << 20


@pytest.fixture(scope="session")
def stack_url(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    """A running ministack."""
    with ministack(free_port(), tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(scope="session")
def local_url(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    """A running localbucket."""
    with localbucket(free_port(), tmp_path_factory.mktemp("localbucket")) as url:
        yield url


S3_URL = os.environ.get("S3_URL")


@pytest.fixture(scope="session", params=["folder", "ministack", "localbucket", *(["S3_URL"] if S3_URL else [])])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StoreAt:
    """A store of each kind, empty at first and shared by the tests here."""
    match request.param:
        case "folder":
            return StoreAt(tmp_path_factory.mktemp("folder").as_uri())
        case "ministack":
            return make_bucket(request.getfixturevalue("stack_url"))
        case "localbucket":
            return make_bucket(request.getfixturevalue("local_url"))
        case _:
            return StoreAt(f"{str(S3_URL).rstrip('/')}/{secrets.token_hex(6)}")


@pytest.fixture
def store(place: StoreAt) -> ObjectStore:
    """A place of this test's own in the store."""
    at = place.below(secrets.token_hex(4))
    return open_url(at.url, at.options)


def _pieces(content: bytes, size: int = 1 << 20) -> Generator[Chunk, None, None]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def _keys(store: ObjectStore, under: str) -> list[str]:
    return sorted(meta["path"] for page in obstore.list(store, prefix=under) for meta in page)


async def test_create__happens_once(store: ObjectStore) -> None:
    """Of many who create one object one wins; the same content again is no quarrel, another is refused."""
    key = "backups/caf=C3=A9 x/20261123T013000Z-kb-1a2b/manifest.json"
    contents = [b"content %d" % number for number in range(8)]
    results = await asyncio.gather(*(create_object(store, key, one) for one in contents), return_exceptions=True)
    kept = await read_object(store, key)
    assert [content for content, result in zip(contents, results, strict=True) if result is None] == [kept]
    assert {type(result) for result in results if result is not None} == {Refused}
    await create_object(store, key, kept)
    with pytest.raises(Refused, match="exists already"):
        await create_object(store, key, b"other")
    assert await read_object(store, key) == kept


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 12_345])
async def test_stream__arrives_as_it_was_sent(store: ObjectStore, size: int) -> None:
    """Below, at and above the size of a part: what is there is what was sent, whole, and in order."""
    content = np.random.default_rng(size).bytes(size)
    assert await asyncio.to_thread(put_stream, store, "a/b", _pieces(content), size) == size
    assert object_size(store, "a/b") == size
    expected = hashlib.sha256(content).hexdigest()
    assert await asyncio.to_thread(hash_object, store, "a/b") == (size, expected)
    assert b"".join(object_ranges(store, "a/b", size)) == content


async def test_stream__that_breaks_leaves_no_object(store: ObjectStore) -> None:
    """An error on our side in the middle of sending leaves what was there before."""

    def broken(good: int) -> Generator[Chunk, None, None]:
        for _ in range(good):
            yield bytes(1 << 20)
        raise RuntimeError("on purpose")

    for good in (0, 3, 20):
        with pytest.raises(RuntimeError, match="on purpose"):
            await asyncio.to_thread(put_stream, store, "a/b", broken(good), 64 << 20)
        assert _keys(store, "a") == []
    await asyncio.to_thread(put_stream, store, "a/b", _pieces(b"old"), 3)
    with pytest.raises(RuntimeError, match="on purpose"):
        await asyncio.to_thread(put_stream, store, "a/b", broken(20), 64 << 20)
    assert await read_object(store, "a/b") == b"old"


async def test_listing_and_deletion(store: ObjectStore) -> None:
    """A prefix lists whole folders only; deleting what is gone is fine; reading it is NotFound."""
    for key in ("backups/kb/1/a", "backups/kb/1/b", "backups/kb/2/a", "backups/kb2/1/a"):
        await create_object(store, key, b"x")
    assert _keys(store, "backups/kb") == ["backups/kb/1/a", "backups/kb/1/b", "backups/kb/2/a"]
    await remove_objects(store, ["backups/kb/1/a", "backups/kb/1/a", "backups/kb/never"])
    assert _keys(store, "backups") == ["backups/kb/1/b", "backups/kb/2/a", "backups/kb2/1/a"]
    for read in (read_object(store, "backups/kb/1/a"), asyncio.to_thread(hash_object, store, "backups/kb/1/a")):
        with pytest.raises(NotFound):
            await read


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
async def test_packed_file__comes_back_or_is_damaged(store: ObjectStore, tmp_path: Path, sealed: bool) -> None:
    """Through any store a file comes back the same, and one changed byte of its object is found."""
    file, into, key = tmp_path / "file", tmp_path / "into", "backups/kb/1/shard-0.snapshot"
    owner = x25519.Identity.generate()
    file.write_bytes(np.random.default_rng(3).bytes(9 << 20) + bytes(20 << 20))
    packed = await store_packed(store, key, file, "vectors", [owner.to_public()] if sealed else [])
    assert packed.packing == (("zstd", "age") if sealed else ("zstd",))
    await fetch_packed(store, key, packed, into, [owner])
    assert into.read_bytes() == file.read_bytes()
    stored = bytearray(await read_object(store, key))
    stored[len(stored) // 2] ^= 1
    await remove_objects(store, [key])
    await create_object(store, key, bytes(stored))
    with pytest.raises(Damaged, match="the object has SHA-256"):
        await fetch_packed(store, key, packed, into, [owner])
    assert not into.exists()


# -- what goes wrong on the way ----------------------------------------------------------------------------------------


async def test_cut_transfers__go_on_where_they_were(stack_url: str) -> None:
    """A cut answer is asked for again from where it broke, a cut part sent again, and a 503 waited for."""
    place = make_bucket(stack_url)
    content = np.random.default_rng(9).bytes(3 * PART)
    async with proxied(stack_url) as proxy:
        store = open_url(place.url, {**place.options, "endpoint": proxy.url})
        proxy.faults = [
            Fault("cut request", "PUT", "partNumber=2", after=1 << 20),
            Fault("status", "PUT", "partNumber=3", status=503),
            Fault("cut answer", "GET", "/a/b", after=100_000, times=2),
            Fault("status", "GET", "/a/b", status=503, skip=3),
        ]
        await asyncio.to_thread(put_stream, store, "a/b", _pieces(content), len(content))
        found = await asyncio.to_thread(hash_object, store, "a/b")
        read = sum(end - start for start, end in map(_range, proxy.seen) if end)
    assert found == (len(content), hashlib.sha256(content).hexdigest())
    assert read <= len(content) + 3 * PART, "more was asked for again than what was cut"


def _range(seen: tuple[str, str, str]) -> tuple[int, int]:
    method, path, span = seen
    if method != "GET" or "/a/b" not in path:
        return 0, 0
    start, end = span.removeprefix("bytes=").split("-")
    return int(start), int(end) + 1


async def test_lost_reply__of_a_create_is_no_quarrel(stack_url: str) -> None:
    """The store made the object and its answer was lost: it is found to be ours, and all is well."""
    place = make_bucket(stack_url)
    async with proxied(stack_url) as proxy:
        store = open_url(place.url, {**place.options, "endpoint": proxy.url, "timeout": "1s"})
        proxy.faults = [
            Fault("swallow answer", "PUT", "/manifest.json"),
            Fault("status", "PUT", "/other.json", times=99),
        ]
        await create_object(store, "manifest.json", b"content")
        assert await read_object(store, "manifest.json") == b"content"
        with pytest.raises(Unreachable):
            await create_object(store, "other.json", b"content")


async def test_store__that_is_away_or_wrong_says_so(stack_url: str, free_port: Callable[[], int]) -> None:
    """A dead server is Unreachable within seconds, a missing bucket and an unknown option are for the settings."""
    place = make_bucket(stack_url)
    dead = open_url(place.url, {**place.options, "endpoint": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(Unreachable):
        await asyncio.to_thread(put_stream, dead, "a/b", _pieces(b"x"), 1)
    none = open_url("s3://no-such-bucket/x", place.options)
    with pytest.raises(ConfigInvalid, match="the bucket does not exist"):
        await asyncio.to_thread(put_stream, none, "a/b", _pieces(b"x"), 1)
    for url, options in [("s3://b/p", {"endpiont": "x"}), ("nope://b", {}), ("file:///dev/null/x", {})]:
        with pytest.raises(ConfigInvalid, match="cannot be opened"):
            open_url(url, options)
    with pytest.raises(ConfigInvalid) as told:
        open_url("nope://user:hunter2@host/p?sig=hunter2")
    assert "hunter2" not in str(told.value)


async def test_sent_bytes__are_held_against_their_hash_by_the_server(stack_url: str) -> None:
    """S3 is sent a SHA-256 with every part, so that bytes changed on the way are refused there."""
    place = make_bucket(stack_url)
    store = open_url(place.url, place.options)
    assert store.config["checksum_algorithm"] == "SHA256"  # type: ignore[union-attr]
    assert "checksum_algorithm" not in open_url(place.url, {**place.options, "checksum_algorithm": "none"}).config  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("gs://bucket/some/prefix", {"skip_signature": "true"}, GCSStore),
        ("az://container/some/prefix", {"account_name": "me", "access_key": "a2V5", "timeout": "10s"}, AzureStore),
        ("abfss://container@me.dfs.core.windows.net/some/prefix", {"access_key": "a2V5"}, AzureStore),
        ("s3a://bucket/some/prefix", {"region": "eu-central-1"}, S3Store),
    ],
)
def test_url__chooses_the_kind_of_store(url: str, options: dict[str, str], kind: type[ObjectStore]) -> None:
    """Google and Azure take their own options; the rest of the URL is the prefix. Nothing is connected yet."""
    store = open_url(url, options)
    assert isinstance(store, kind)
    assert store.prefix == "some/prefix"  # type: ignore[union-attr]


# -- object lock -------------------------------------------------------------------------------------------------------


async def test_locked_bucket__is_told(stack_url: str, tmp_path: Path) -> None:
    """Where the bucket locks, we know until when, and deleting hides without destroying."""
    locked, plain = make_bucket(stack_url, locked_days=30), make_bucket(stack_url)
    store, free = open_url(locked.url, locked.options), open_url(plain.url, plain.options)
    folder = open_url(tmp_path.as_uri())
    for each in (store, free, folder):
        await create_object(each, "manifest.json", b"content")
    lock = await lock_of(store, "manifest.json")
    assert lock is not None
    assert lock.until is not None
    assert (lock.mode, lock.holds(utcnow()), (lock.until - utcnow()).days) == ("COMPLIANCE", True, 29)
    assert "deleting only hides it" in lock.told
    assert await lock_of(free, "manifest.json") is None
    assert await lock_of(folder, "manifest.json") is None
    with pytest.raises(NotFound):
        await lock_of(store, "none.json")
    version = obstore.head(store, "manifest.json")["version"]
    await remove_objects(store, ["manifest.json"])
    with pytest.raises(NotFound):
        await read_object(store, "manifest.json")
    hidden = obstore.get(store, "manifest.json", options={"version": version})
    assert bytes(hidden.bytes()) == b"content"


# -- all of it ---------------------------------------------------------------------------------------------------------


async def test_backup_and_restore__sealed_through_any_store(
    store: ObjectStore, primary: CleanServer, tmp_path: Path
) -> None:
    """A collection of a real server, packed, sealed, published in the store, listed anew, restored and verified."""
    owner, name = x25519.Identity.generate(), primary.name()
    key = tmp_path / "age.key"
    key.write_text(f"{owner}\n")
    keys = Keyring(Keyring.ephemeral().signing, recipients=(str(owner.to_public()),), identity_files=(key,))
    await fill(primary.server, name, 500)
    manifest = await take_backup(primary.server, name, Catalog(store, tmp_path / "scratch", keys))
    assert {part.packing[-1] for part in manifest.parts} == {"age"}
    catalog = Catalog(store, tmp_path / "scratch", keys)
    found = await asyncio.to_thread(catalog.get, manifest.id)
    assert found.parts == manifest.parts
    copy = new_collection_name(name, utcnow())
    await restore(primary.server, catalog, found, copy)
    assert (await verify(primary.server, copy, found)).passed
    assert await primary.server.exact_count(copy) == 500
