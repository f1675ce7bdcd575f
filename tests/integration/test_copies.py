"""Copies of backups in other repositories: byte for byte, once, whole or not at all, and going on after a cut."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import obstore
import pytest
from faulty_proxy import Fault, proxied
from manifests import TAKEN
from object_stores import StoreAt, make_bucket, ministack
from pyrage import x25519
from stored_backups import publish_small

from reanimate.backups.catalog import Catalog
from reanimate.backups.copying import ABANDONED_AFTER, copy_backup, sweep_copies, to_copy
from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import Manifest, VectorManifest
from reanimate.backups.marks import write_mark
from reanimate.backups.repositories import Repository
from reanimate.backups.stored_parts import fetch_part
from reanimate.config import RepositorySettings
from reanimate.errors import Damaged, InputInvalid, NotFound, Refused
from reanimate.protection.copies import copy_backups
from reanimate.storage.blobs import create_object, read_object, remove_objects
from reanimate.storage.stores import open_url

KEYS = Keyring.ephemeral()
BULK = np.random.default_rng(11).bytes(9 << 20)


@pytest.fixture(scope="module")
def stack_url(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    """A running ministack."""
    with ministack(free_port(), tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture
def bucket(stack_url: str) -> StoreAt:
    return make_bucket(stack_url)


@pytest.fixture
def here(tmp_path: Path) -> Catalog:
    return Catalog(open_url((tmp_path / "here").as_uri()), tmp_path / "scratch", KEYS)


@pytest.fixture
def cloud(bucket: StoreAt, tmp_path: Path) -> Catalog:
    return Catalog(open_url(bucket.url, bucket.options), tmp_path / "scratch", KEYS)


def _repositories(here: Catalog, cloud: Catalog) -> dict[str, Repository]:
    return {
        name: Repository(name, name, catalog, RepositorySettings(name=name, url=name))
        for name, catalog in (("local", here), ("cloud", cloud))
    }


def _objects(catalog: Catalog) -> dict[str, bytes]:
    keys = [meta["path"] for page in obstore.list(catalog.store, prefix="backups") for meta in page]
    return {key: bytes(obstore.get(catalog.store, key).bytes()) for key in keys}


async def test_copies__are_the_stored_bytes(here: Catalog, cloud: Catalog, tmp_path: Path) -> None:
    """What was packed and sealed stays as it is; proofs and holds come along, marks of deletion and use do not."""
    owner = x25519.Identity.generate()
    key = tmp_path / "age.key"
    key.write_text(f"# a comment\n{owner}\n")
    sealing = Keyring(KEYS.signing, recipients=(str(owner.to_public()),), identity_files=(key,))
    source = Catalog(here.store, tmp_path / "scratch", sealing)
    one = await publish_small(source, 1, BULK, b"two" * 1000)
    await publish_small(source, 2, b"three")
    other = await publish_small(source, 3, b"four", collection="other")
    deleted = await publish_small(source, 4, b"five")
    for mark in ("proof-passed", "held", "used"):
        await write_mark(here.store, one.folder, mark, {"by": "test", "reason": "x"}, KEYS, now=TAKEN)
    await write_mark(here.store, deleted.folder, "deleted", {"by": "test", "reason": "x"}, KEYS, now=TAKEN)
    seen: list[tuple[str, int, int]] = []
    copies = await copy_backups(_repositories(source, cloud), to="cloud", on_progress=lambda *step: seen.append(step))
    assert (len(copies.copied), copies.failed) == (3, {})
    assert all(done.new and done.there == 0 for done in copies.copied)
    assert (one.manifest.id, one.manifest.stored_bytes, one.manifest.stored_bytes) in seen
    there, origin = _objects(cloud), _objects(here)
    assert there == {name: origin[name] for name in there}
    left = {
        name.rsplit("/", 1)[1].split("-2")[0] for name in origin.keys() - there.keys() if deleted.folder not in name
    }
    assert left == {"used"}
    assert {copy.manifest.id for copy in cloud.published(VectorManifest)} == {
        one.manifest.id,
        "20261123T033000Z-kb-0002",
        other.manifest.id,
    }
    assert cloud.find(one.manifest.id, VectorManifest).proven_at == TAKEN
    opened = Catalog(cloud.store, tmp_path / "scratch", sealing)
    await fetch_part(opened, one.manifest.parts[0], tmp_path / "into")
    assert (tmp_path / "into").read_bytes() == BULK
    again = await copy_backups(_repositories(source, cloud), to="cloud")
    assert again.copied == ()


async def test_copy__of_a_partial_brings_its_base(here: Catalog, cloud: Catalog) -> None:
    """The full backup that it builds on comes first, and once."""
    full = await publish_small(here, 1, b"full")
    await publish_small(here, 2, b"other full")
    changes = [await publish_small(here, hours, b"changes", base=full.manifest.id) for hours in (3, 4)]
    ids = [one.manifest.id for one in changes]
    assert [one.manifest.id for one in to_copy(here, cloud, ids)] == [full.manifest.id, *ids]
    copies = await copy_backups(_repositories(here, cloud), ids, to="cloud", parallel=4)
    assert [one.id for one in copies.copied] == [full.manifest.id, *ids]
    assert cloud.damaged() == ()


async def test_cut_copy__goes_on(here: Catalog, bucket: StoreAt, stack_url: str, tmp_path: Path) -> None:
    """Cut at every object in turn, the next attempt finishes it and sends nothing again that is there and right."""
    one = await publish_small(here, 1, b"a" * 5000, BULK, b"c" * 5000)
    sizes = [part.stored_size for part in one.manifest.parts]
    async with proxied(stack_url) as proxy:
        store = open_url(bucket.url, {**bucket.options, "endpoint": proxy.url})
        there = Catalog(store, tmp_path / "scratch", KEYS)
        for cut in ("shard-0.snapshot", "shard-1.snapshot", "shard-2.snapshot", "manifest.json"):
            proxy.faults = [Fault("status", method, cut, status=400, times=99) for method in ("PUT", "POST")]
            copies = await copy_backups(_repositories(here, there), [one.manifest.id], to="cloud")
            assert list(copies.failed) == [one.manifest.id], cut
            assert await asyncio.to_thread(there.published, Manifest) == (), cut
        proxy.faults = []
        finished = await copy_backup(here, there, one)
    assert (finished.sent, finished.there, finished.new) == (0, sum(sizes), True)
    direct = Catalog(open_url(bucket.url, bucket.options), tmp_path / "scratch", KEYS)
    assert _objects(direct) == _objects(here)


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
async def test_damaged_part__is_not_copied(here: Catalog, cloud: Catalog, tmp_path: Path, damage: str) -> None:
    """What is damaged here is not published there, and the others are."""
    bad, good = await publish_small(here, 1, BULK), await publish_small(here, 2, b"good")
    path = tmp_path / "here" / bad.manifest.parts[0].blob
    content = path.read_bytes()
    match damage:
        case "flipped":
            path.write_bytes(content[:5000] + b"\xff\x00" + content[5002:])
        case "cut":
            path.write_bytes(content[:-1])
        case _:
            path.unlink()
    copies = await copy_backups(_repositories(here, cloud), to="cloud")
    assert list(copies.failed) == [bad.manifest.id]
    assert [one.id for one in copies.copied] == [good.manifest.id]
    assert [one.manifest.id for one in cloud.published(Manifest)] == [good.manifest.id]


async def test_what_lies_there_already__is_believed_only_if_it_is_right(here: Catalog, cloud: Catalog) -> None:
    """A part of the right size and wrong bytes is replaced; another manifest by the same id is never overwritten."""
    one = await publish_small(here, 1, b"content " * 1000)
    part = one.manifest.parts[0]
    await create_object(cloud.store, part.blob, bytes(part.stored_size))
    copied = await copy_backup(here, cloud, one)
    assert (copied.sent, copied.there) == (part.stored_size, 0)
    assert _objects(cloud) == _objects(here)
    await remove_objects(cloud.store, [one.key])
    await create_object(cloud.store, one.key, b"somebody else's")
    with pytest.raises(Refused, match="another manifest by that id"):
        await copy_backup(here, cloud, one)
    assert await read_object(cloud.store, one.key) == b"somebody else's"


async def test_names__that_cannot_be_copied(here: Catalog, cloud: Catalog) -> None:
    """To itself, to nowhere, of nothing, of what is deleted or damaged: said before anything is sent."""
    one = await publish_small(here, 1, b"x")
    both = _repositories(here, cloud)
    with pytest.raises(InputInvalid, match="to itself"):
        await copy_backups(both, to="local")
    with pytest.raises(NotFound, match="no repository"):
        await copy_backups(both, to="tape")
    with pytest.raises(NotFound, match="no published backup"):
        await copy_backups(both, ["nope"], to="cloud")
    mark = await write_mark(here.store, one.folder, "deleted", {"by": "t", "reason": "r"}, KEYS, now=TAKEN)
    with pytest.raises(Refused, match="marked as deleted"):
        await copy_backups(both, [one.manifest.id], to="cloud")
    await remove_objects(here.store, [mark.key])
    await write_mark(here.store, one.folder, "damaged", {"by": "t", "reason": "r"}, KEYS, now=TAKEN)
    with pytest.raises(Damaged):
        await copy_backups(both, [one.manifest.id], to="cloud")
    assert _objects(cloud) == {}


async def test_cancelled_copy__leaves_no_backup_and_is_swept_up(here: Catalog, cloud: Catalog) -> None:
    """What a copy that nobody finished left goes after a week, unless it is about to be finished."""
    one = await publish_small(here, 1, BULK, BULK[::-1])
    begun = asyncio.Event()
    task = asyncio.create_task(copy_backup(here, cloud, one, lambda done, total: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    note = json.loads(await read_object(cloud.store, f"{one.folder}/copying.json"))
    assert cloud.published(Manifest) == ()
    now = TAKEN.fromisoformat(note["began"])
    assert await sweep_copies(cloud, now + timedelta(days=1)) == []
    assert await sweep_copies(cloud, now + ABANDONED_AFTER, keep=[one.manifest.id]) == []
    assert await sweep_copies(cloud, now + ABANDONED_AFTER) == [one.manifest.id]
    assert _objects(cloud) == {}
