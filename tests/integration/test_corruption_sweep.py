"""Corruption is found before anything uses it: every kind, over every region of every part, and counted.

One small backup of recorded snapshots of a real server, stored in every form. Each damage must be refused by what comes
before any server sees a byte: the listing that plans choose from, or the bringing of a part to this machine.
"""

import asyncio
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
import zstandard
from manifests import TAKEN, manifest
from obstore.store import LocalStore, MemoryStore
from pyrage import x25519
from sweep_count import SWEEPS, Sweep

from reanimate.backups.catalog import MANIFEST, Catalog, backup_prefix
from reanimate.backups.comparison import tally
from reanimate.backups.facts import read_facts
from reanimate.backups.keyring import Keyring
from reanimate.backups.liveness import count_warnings, point_warnings
from reanimate.backups.manifest import Embedding, ShardPart, VectorManifest
from reanimate.backups.materialise import materialise
from reanimate.backups.memory import Memory
from reanimate.backups.parts import check_part
from reanimate.backups.published import Published
from reanimate.errors import Damaged, NotFound, Refused
from reanimate.restores.candidates import Copy, Rules, Wish
from reanimate.restores.plan import Sight, plan_restore
from reanimate.storage.packing import Packed, store_packed
from reanimate.vector.archive import ArchiveDamaged, inspect_archive
from reanimate.vector.server import ServerIdentity

RECORDED = Path(__file__).parent.parent / "recorded" / "qdrant"
RECORDINGS = Path(__file__).parent.parent / "contracts" / "recordings"
CONFIG = {"params": {"vectors": {"size": 8, "distance": "Cosine"}, "shard_number": 2}}
FORMS = ("raw", "zstd", "zstd+age")
SIGNING = Keyring.ephemeral().signing
OWNER = x25519.Identity.generate()


def _snapshot(file: Path) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()


SNAPSHOTS = (
    _snapshot(RECORDED / "docs.shard-0.snapshot.zst"),
    _snapshot(RECORDED / "docs.shard-0.streamed.snapshot.zst"),
)
CORRUPTIONS = [json.loads(line) for line in (RECORDINGS / "corruptions.jsonl").read_text().splitlines()]
"""What a real server made of 64 flipped bytes in each kind of file: two were taken with a 200 and answered wrongly."""


@pytest.fixture(scope="module")
def sweep(request: pytest.FixtureRequest) -> Sweep:
    """The count of this module."""
    tally = Sweep()
    request.config.stash.setdefault(SWEEPS, []).append(tally)
    return tally


@dataclass
class Stored:
    """A backup in one form, in memory, and how it must come back."""

    catalog: Catalog
    backup: Published[VectorManifest]
    scratch: Path

    @property
    def parts(self) -> tuple[ShardPart, ...]:
        return self.backup.manifest.parts

    def content(self, part: ShardPart) -> bytes:
        return bytes(obstore.get(self.catalog.store, part.blob).bytes())

    async def refused(self, part: ShardPart) -> bool:
        """Say whether the part is refused, and nothing is left that somebody could take for it."""
        into = self.scratch / "into"
        try:
            await materialise(self.catalog, self.backup.manifest, part, into)
        except (Damaged, NotFound):
            return not into.exists()
        return False

    async def refused_as(self, part: ShardPart, content: bytes | None) -> bool:
        """Say whether other bytes in its place (None: nothing) are refused; then put the right ones back."""
        right = self.content(part)
        if content is None:
            obstore.delete(self.catalog.store, part.blob)
        else:
            obstore.put(self.catalog.store, part.blob, content)
        try:
            return await self.refused(part)
        finally:
            obstore.put(self.catalog.store, part.blob, right)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the identity that opens the sealed parts."""
    file = tmp_path_factory.mktemp("keys") / "age.key"
    file.write_text(f"{OWNER}\n")
    return file


@pytest.fixture(scope="module", params=FORMS)
async def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Stored:
    """The backup in each form; undamaged, it comes back."""
    scratch = tmp_path_factory.mktemp("sweep")
    keys = Keyring(SIGNING, recipients=(str(OWNER.to_public()),), identity_files=(key_file,))
    catalog = Catalog(MemoryStore(), scratch, keys)
    backup = await _publish(catalog, scratch, request.param, SNAPSHOTS)
    one = Stored(catalog, backup, scratch)
    for part in one.parts:
        assert "+".join(part.packing) == ("" if request.param == "raw" else request.param)
        await materialise(catalog, backup.manifest, part, scratch / "into")
        assert (scratch / "into").read_bytes() == SNAPSHOTS[part.shard_id]
        (scratch / "into").unlink()
    return one


async def _publish(
    catalog: Catalog, scratch: Path, form: str, snapshots: tuple[bytes, ...], *, hours: int = 0, **changes: Any
) -> Published[VectorManifest]:
    collection = changes.get("collection", "docs")
    backup_id = f"{TAKEN + timedelta(hours=hours):%Y%m%dT%H%M%SZ}-{collection}-{hours:04x}"
    parts = []
    for shard_id, content in enumerate(snapshots):
        key = f"{backup_prefix(collection, backup_id)}/shard-{shard_id}.snapshot"
        packed = await _store(catalog, key, content, form, scratch)
        fields = {"name": f"shard-{shard_id}.snapshot", "blob": key, "shard_id": shard_id}
        parts.append(ShardPart(**fields, **packed.__dict__))
    named = {"collection": collection, "subject": collection, "asked_as": collection}
    one = manifest(
        **{
            "id": backup_id,
            "config": CONFIG,
            "parts": parts,
            "exact_count": 191,
            "taken_at": TAKEN + timedelta(hours=hours),
            **named,
            **changes,
        }
    )
    return await catalog.publish(one)


async def _store(catalog: Catalog, key: str, content: bytes, form: str, scratch: Path) -> Packed:
    if form == "raw":
        obstore.put(catalog.store, key, content)
        digest = hashlib.sha256(content).hexdigest()
        return Packed(len(content), digest, len(content), digest, ())
    file = scratch / "file"
    file.write_bytes(content)
    sealed = [OWNER.to_public()] if form == "zstd+age" else []
    return await store_packed(catalog.store, key, file, "vectors", sealed)


def _flip(content: bytes, at: int) -> bytes:
    """Flip one bit, not always the same."""
    changed = bytearray(content)
    changed[at] ^= 1 << (at * 5 % 8)
    return bytes(changed)


def _changed(content: bytes, offsets: list[int]) -> bytes:
    """Do what was done to the snapshots that a real server was given: 64 bytes XOR 0x55 at each offset."""
    changed = bytearray(content)
    for at in offsets:
        changed[at : at + 64] = bytes(byte ^ 0x55 for byte in changed[at : at + 64])
    return bytes(changed)


# -- where in a snapshot -----------------------------------------------------------------------------------------------

_HEADER_FIELDS = {"name": 2, "size": 130, "checksum": 150, "type": 156, "holes": 400}


@dataclass(frozen=True)
class Member:
    """One member of a snapshot or of an archive in it: where it begins, its content, and where the next begins."""

    begins: int
    content: int
    stored: int
    ends: int


def _members(snapshot: bytes) -> Iterator[Member]:
    """Yield every member, those of nested archives too."""
    yield from _members_of(snapshot, 0)


def _members_of(archive: bytes, base: int) -> Iterator[Member]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
        ends = [*(member.offset for member in members[1:]), tar.offset]
    for member, end in zip(members, ends, strict=True):
        stored = _stored_size(member)
        yield Member(base + member.offset, base + member.offset_data, stored, base + end)
        if member.name.endswith(".tar"):
            yield from _members_of(archive[member.offset_data : member.offset_data + stored], base + member.offset_data)


def _stored_size(member: tarfile.TarInfo) -> int:
    holes = getattr(member, "sparse", None)
    return sum(size for _, size in holes) if holes is not None else member.size


def _regions(snapshot: bytes) -> dict[str, set[int]]:
    """Return offsets in every region of a snapshot, by what they lie in."""
    regions: dict[str, set[int]] = {"header": set(), "content": set(), "padding": set(), "trailer": set()}
    last = 0
    for member in _members(snapshot):
        header = member.content - 512  # the last block before the content; longer names come before it
        regions["header"] |= {header + at for at in _HEADER_FIELDS.values()} | {member.begins, member.content - 1}
        if member.stored:
            regions["content"] |= {member.content + at for at in (0, member.stored // 2, member.stored - 1)}
        after = member.content + member.stored
        if after < member.ends:
            regions["padding"] |= {after, member.ends - 1}
        last = max(last, member.ends)
    regions["trailer"] = {*range(last, len(snapshot), 128), len(snapshot) - 1}
    return regions


# -- bytes of parts ----------------------------------------------------------------------------------------------------


async def test_flipped_bit__anywhere_in_a_part(stored: Stored, sweep: Sweep) -> None:
    """Every header, every member's content at its start, middle and end, padding and trailer; or, packed, all over."""
    for part in stored.parts:
        content = stored.content(part)
        if part.packing:
            step = max(1, len(content) // 150)
            regions = {"packed": {*range(0, len(content), step), *range(0, 400, 3), len(content) - 1}}
        else:
            regions = _regions(content)
            assert all(regions.values())
        for region, offsets in regions.items():
            kind = f"a flipped bit, {'+'.join(part.packing) or 'raw'}, {region}"
            for at in sorted(offsets):
                found = await stored.refused_as(part, _flip(content, at))
                sweep.count(kind, f"{part.name} at {at}", found=found)


async def test_cut_part__anywhere(stored: Stored, sweep: Sweep) -> None:
    """Cut at every member's border and inside every member; packed, at as many places; and longer than it was."""
    for part in stored.parts:
        content = stored.content(part)
        if part.packing:
            cuts = {*range(0, len(content), max(1, len(content) // 100))}
        else:
            members = [*_members(content)]
            cuts = {member.begins for member in members} | {member.content + member.stored // 2 for member in members}
            cuts |= {len(content) - 512 * n for n in (1, 2, 3)}
        for at in sorted(cuts - {len(content)}):
            found = await stored.refused_as(part, content[:at])
            sweep.count(f"a cut, {'+'.join(part.packing) or 'raw'}", f"{part.name} at {at}", found=found)
        for more in (b"\0", b"\0" * 512, content):
            sweep.count("bytes added", part.name, found=await stored.refused_as(part, content + more))


async def test_part__that_is_missing_swapped_or_another_ones(stored: Stored, sweep: Sweep) -> None:
    """Not there, exchanged with another shard's, or that of another backup, of an empty one, or stored otherwise."""
    first, second = stored.parts
    contents = [stored.content(part) for part in stored.parts]
    for part in stored.parts:
        sweep.count("a missing part", part.name, found=await stored.refused_as(part, None))
        sweep.count("an emptied part", part.name, found=await stored.refused_as(part, b""))
    sweep.count("swapped parts", first.name, found=await stored.refused_as(first, contents[1]))
    sweep.count("swapped parts", second.name, found=await stored.refused_as(second, contents[0]))
    for other in (SNAPSHOTS[first.shard_id], zstandard.compress(SNAPSHOTS[first.shard_id], 19)):
        if other != contents[0]:
            sweep.count("a part stored otherwise", first.name, found=await stored.refused_as(first, other))


async def test_damage__that_a_real_server_takes(tmp_path: Path, sweep: Sweep) -> None:
    """What a real server did with flipped bytes is on record: of 20 kinds it took 11, and 2 answer wrongly."""
    whole = _snapshot(RECORDINGS / "docs.collection.snapshot.zst")
    catalog = Catalog(MemoryStore(), tmp_path)
    taken = 0
    for form in ("raw", "zstd"):
        backup = await _publish(catalog, tmp_path, form, (whole,), hours=1 if form == "raw" else 2)
        stored = Stored(catalog, backup, tmp_path)
        (part,) = stored.parts
        for case in CORRUPTIONS:
            content = _changed(whole, case["offsets"])
            content = content if form == "raw" else zstandard.compress(content)
            taken += case["server"]["upload_status"] == 200
            wrong = ", and it answers wrongly" if case["server"]["wrong_answer"] else ""
            kind = (
                f"64 bytes that a real server {'takes' if case['server']['upload_status'] == 200 else 'refuses'}{wrong}"
            )
            sweep.count(kind, case["file"], found=await stored.refused_as(part, content))
    assert taken == 22


async def test_cut_snapshot__with_a_right_checksum(tmp_path: Path, sweep: Sweep) -> None:
    """A server that hands out a cut snapshot hashes what it cut: the archive itself must show it."""
    file = tmp_path / "snapshot"
    for content in SNAPSHOTS:
        members = [*_members(content)]
        cuts = {member.begins for member in members} | {member.content + member.stored // 2 for member in members}
        cuts |= {0, len(content) - 512, len(content) - 1024, len(content) - 1}
        for at in sorted(cuts):
            file.write_bytes(content[:at])
            try:
                inspect_archive(file)
            except ArchiveDamaged:
                found = True
            else:
                found = False
            sweep.count("a cut snapshot with a right checksum", f"at {at}", found=found)


# -- manifests ---------------------------------------------------------------------------------------------------------


class Shelf:
    """A repository in a folder, opened anew each time, as another process would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = Keyring(SIGNING)

    def open(self, keys: Keyring | None = None, *, remembers: bool = False) -> Catalog:
        memory = Memory(self.folder / "memory.json") if remembers else None
        return Catalog(LocalStore(prefix=self.folder / "blobs", mkdir=True), self.folder, keys or self.keys, memory)

    def path(self, backup: Published[Any]) -> Path:
        return self.folder / "blobs" / backup.key

    def refuses(self, *backups: Published[Any], keys: Keyring | None = None, remembers: bool = False) -> bool:
        """Say whether none of these backups is among those that plans choose from, and each is told as damaged."""
        listing = self.open(keys, remembers=remembers).listing()
        ids = {backup.manifest.id for backup in backups}
        return not ids & {one.id for one in listing.manifests} and ids <= {one.id for one in listing.damaged}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_flipped_bit__anywhere_in_a_manifest(shelf: Shelf, sweep: Sweep) -> None:
    """Fields, numbers, white space and the signature itself; and a cut anywhere."""
    backup = await _publish(shelf.open(), shelf.folder, "raw", SNAPSHOTS)
    path = shelf.path(backup)
    right = path.read_bytes()
    signature = right.index(b'"signature"')
    for at in [*range(0, signature, 3), *range(signature, len(right))]:
        path.write_bytes(_flip(right, at))
        sweep.count("a flipped bit in a manifest", f"at {at}", found=shelf.refuses(backup))
    for at in range(0, len(right) - 1, max(1, len(right) // 60)):
        path.write_bytes(right[:at])
        sweep.count("a cut manifest", f"at {at}", found=shelf.refuses(backup))
    path.write_bytes(right)
    assert not shelf.refuses(backup)


async def test_edited_manifest(shelf: Shelf, sweep: Sweep) -> None:
    """Parts taken out, added, repeated, reordered or pointed elsewhere, or another count: nothing of it is signed."""
    backup = await _publish(shelf.open(), shelf.folder, "raw", SNAPSHOTS)
    path = shelf.path(backup)
    right = json.loads(path.read_bytes())
    first, second = right["parts"]
    edits: dict[str, dict[str, Any]] = {
        "a part is left out": {"parts": [first]},
        "no part is left": {"parts": []},
        "a part is added": {"parts": [first, second, {**second, "shard_id": 2, "name": "shard-2.snapshot"}]},
        "a part is repeated": {"parts": [first, first]},
        "parts are reordered": {"parts": [second, first]},
        "shards are exchanged": {"parts": [{**first, "shard_id": 1}, {**second, "shard_id": 0}]},
        "a part is another one's": {"parts": [{**first, "blob": second["blob"]}, second]},
        "it is another collection": {"collection": "other", "subject": "other"},
        "it is of another model": {"embedding": {"model": "another", "dimension": 8}},
        "it holds nothing": {"exact_count": 0},
        "it is newer": {"taken_at": "2027-01-01T00:00:00Z"},
        "it was signed by nobody": {"signature": None},
    }
    for what, edit in edits.items():
        edited = {**right, **edit}
        if edited["signature"] is None:
            del edited["signature"]
        path.write_text(json.dumps(edited))
        sweep.count("an edited manifest", what, found=shelf.refuses(backup))


async def test_manifest__of_another_backup_or_time(shelf: Shelf, sweep: Sweep) -> None:
    """Rightly signed manifests in the wrong place, and repositories put back to what they were."""
    first = await _publish(shelf.open(remembers=True), shelf.folder, "raw", SNAPSHOTS, hours=1)
    shutil.copytree(shelf.folder / "blobs", shelf.folder / "older")
    second = await _publish(shelf.open(remembers=True), shelf.folder, "raw", SNAPSHOTS, hours=2)
    other = await _publish(shelf.open(remembers=True), shelf.folder, "raw", SNAPSHOTS, hours=3, collection="other")
    shutil.copytree(shelf.folder / "blobs", shelf.folder / "right")

    def put_back() -> None:
        shutil.rmtree(shelf.folder / "blobs")
        shutil.copytree(shelf.folder / "right", shelf.folder / "blobs")

    for what, into, source in (
        ("an older one in place of a newer", second, first),
        ("a newer one in place of an older", first, second),
        ("another collection's", second, other),
    ):
        shelf.path(into).write_bytes(shelf.path(source).read_bytes())
        sweep.count("a manifest of another backup", what, found=shelf.refuses(into))
        put_back()
    for backup, what in ((first, "with a successor"), (second, "the newest")):
        replayed = backup.manifest.model_copy(update={"previous": None, "exact_count": 1})
        shelf.path(backup).unlink()
        await shelf.open().publish(replayed)
        sweep.count("an older version replayed", what, found=shelf.refuses(backup, remembers=True))
        put_back()
    shutil.rmtree(shelf.folder / "blobs")
    shutil.copytree(shelf.folder / "older", shelf.folder / "blobs")
    sweep.count("a repository put back", "all of it", found=shelf.refuses(second, other, remembers=True))
    put_back()
    for backup in (second, other):
        shutil.rmtree(shelf.path(backup).parent)
        sweep.count("the newest is gone", backup.manifest.id, found=shelf.refuses(backup, remembers=True))
        put_back()
    moved = shelf.folder / "blobs" / backup_prefix("elsewhere", second.manifest.id)
    shutil.copytree(shelf.path(second).parent, moved)
    listing = shelf.open(remembers=True).listing("elsewhere")
    sweep.count("a backup under another collection", "moved", found=listing.manifests == ())
    assert (moved / MANIFEST).exists()


async def test_wrong_keys(shelf: Shelf, stored: Stored, sweep: Sweep, tmp_path: Path) -> None:
    """Signed by somebody who is not trusted; sealed to somebody else; or with no key at hand."""
    backup = await _publish(shelf.open(), shelf.folder, "raw", SNAPSHOTS)
    sweep.count("a wrong key", "signed by a stranger", found=shelf.refuses(backup, keys=Keyring.ephemeral()))
    if "age" not in stored.parts[0].packing:
        return
    stranger = tmp_path / "stranger.key"
    stranger.write_text(f"{x25519.Identity.generate()}\n")
    for files in ((stranger,), ()):
        without = Catalog(stored.catalog.store, tmp_path, Keyring(SIGNING, identity_files=files))
        found = await Stored(without, stored.backup, tmp_path).refused(stored.parts[0])
        sweep.count("a wrong key", f"{len(files)} identities of a stranger", found=found)


# -- right bytes of the wrong thing ------------------------------------------------------------------------------------


async def test_snapshot__of_another_kind_with_right_checksums(tmp_path: Path, sweep: Sweep) -> None:
    """Signed, hashed and stored as it should be, and yet no snapshot of a shard of this collection."""
    catalog = Catalog(MemoryStore(), tmp_path)
    other_shape = {"params": {"vectors": {"size": 16, "distance": "Cosine"}}}
    other_distance = {"params": {"vectors": {"size": 8, "distance": "Dot"}}}
    for number, (what, content, config) in enumerate(
        (
            ("nothing", b"", CONFIG),
            ("an empty archive", bytes(1024), CONFIG),
            ("zeros", bytes(100_000), CONFIG),
            ("a whole collection", _snapshot(RECORDINGS / "docs.collection.snapshot.zst"), CONFIG),
            ("vectors of another size", SNAPSHOTS[0], other_shape),
            ("vectors of another distance", SNAPSHOTS[0], other_distance),
            ("text", b"no snapshot " * 1000, CONFIG),
        )
    ):
        backup = await _publish(
            catalog, tmp_path, "zstd" if content else "raw", (content,), hours=number, config=config
        )
        found = await Stored(catalog, backup, tmp_path).refused(backup.manifest.parts[0])
        sweep.count("right checksums of the wrong thing", what, found=found)


def test_plan__for_the_wrong_collection_or_model(sweep: Sweep) -> None:
    """What is right and of something else is chosen by no plan: another collection, another embedding model."""
    here = ServerIdentity("qdrant - vector search engine", "1.18.3")
    docs = manifest(collection="docs", embedding=Embedding(model="small", dimension=2))
    for what, asked, models in (
        ("another collection", "other", {}),
        ("a longer name", "docs-2", {}),
        ("another model", "docs", {"docs": "large"}),
        ("another model by glob", "docs", {"d*": "large"}),
    ):
        for wish in (Wish(asked), Wish(asked, backup_id=docs.id)):
            copies = [Copy("local", docs)] if docs.answers_to(asked) else []
            try:
                plan_restore(copies, wish, Rules(here, TAKEN, models=models), Sight("primary"))
            except (NotFound, Refused):
                found = True
            else:
                found = False
            sweep.count("a wrong collection or model", what, found=found)
    right = plan_restore([Copy("local", docs)], Wish("docs"), Rules(here, TAKEN, models={"docs": "small"}), Sight("x"))
    assert right.backup_id == docs.id


# -- wrong bytes that the server itself hands out, with a right checksum -----------------------------------------------

_CHANGES_POINTS = (
    "vector_storage/chunk_0.mmap",
    "vector_storage/flags_a.dat",
    "payload_storage/page_0.dat",
    "payload_storage/tracker.dat",
    "mutable_id_tracker.mappings",
    "segment.json",
)
"""The files whose damage changes what points hold. The others are indexes, which a server rebuilds or refuses."""


async def test_damaged_snapshot__as_a_server_hands_it_out(tmp_path: Path, sweep: Sweep) -> None:
    """No checksum is wrong: the engine reads it back, and what it reads is held against the live points."""
    truth = [json.loads(line) for line in (RECORDED / "docs.points.jsonl").read_text().splitlines()]
    cases = {case["file"]: case["offsets"] for case in CORRUPTIONS}

    async def found(number: int, name: str) -> bool:
        file = tmp_path / f"{number}.snapshot"
        file.write_bytes(_changed(SNAPSHOTS[0], cases.get(name, [])))
        try:
            await check_part(file, CONFIG, name)
            facts = await read_facts(
                {0: file}, tmp_path / str(number), config=CONFIG, salt="s", sentinels=500, golden=1, timeout_s=120
            )
            count_warnings("docs", len(truth), len(truth), facts.count)
            point_warnings("docs", tally(facts.sentinels, truth), quiet=True)
        except Damaged:
            return True
        return False

    slots = asyncio.Semaphore(2)

    async def one(number: int, name: str) -> bool:
        async with slots:
            return await found(number, name)

    names = (*_CHANGES_POINTS, "none of them")
    for name, it in zip(names, await asyncio.gather(*(one(n, name) for n, name in enumerate(names))), strict=True):
        if name in cases:
            sweep.count("wrong bytes from the server itself", name, found=it)
        else:
            assert not it, "the undamaged snapshot was refused"
    for count, what in ((0, "an empty snapshot"), (190, "a point is missing")):
        try:
            count_warnings("docs", len(truth), len(truth), count)
        except Damaged:
            it = True
        else:
            it = False
        sweep.count("wrong bytes from the server itself", what, found=it)


def test_sweep__missed_nothing(sweep: Sweep) -> None:
    """Every damage was found before use. This test comes last; run with all others it has seen them all."""
    assert sweep.missed == []
    if len(sweep.tried) == 30:
        assert sum(sweep.tried.values()) > 6_000
