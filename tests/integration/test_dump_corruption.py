"""Corruption of a stored dump or its manifest is found before any server sees a byte: swept over every region."""

from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore
from pyrage import x25519
from rich_database import Databases, query
from sweep_count import SWEEPS, Sweep

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.published import Published
from reanimate.dumps.backup import take_dump
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.programs import Programs
from reanimate.dumps.proof import fetched
from reanimate.errors import Damaged, NotFound

REGIONS = 64


@pytest.fixture(scope="module")
def sweep(request: pytest.FixtureRequest) -> Sweep:
    """The count of this module."""
    tally = Sweep()
    request.config.stash.setdefault(SWEEPS, []).append(tally)
    return tally


@pytest.fixture(scope="module")
async def source(databases: Databases) -> Login:
    return await databases.small(3000)


async def _taken(
    source: Login, programs: list[Programs], folder: Path, keyring: Keyring
) -> tuple[Catalog, Published[PostgresManifest], Published[PostgresManifest]]:
    """Take two backups of one database into a store in memory: an older one, and the one to damage."""
    catalog = Catalog(MemoryStore(), folder / "scratch", keyring)
    older = await take_dump(source, "agent", catalog, programs)
    await query(source, "UPDATE t SET n = n + 1 WHERE id = 1")
    return catalog, older, await take_dump(source, "agent", catalog, programs)


def _keyring(folder: Path) -> Keyring:
    identity = x25519.Identity.generate()
    file = folder / "identity"
    file.write_text(str(identity))
    return replace(Keyring.ephemeral(), recipients=(str(identity.to_public()),), identity_files=(file,))


async def _refused(catalog: Catalog, manifest: PostgresManifest) -> bool:
    """Say whether the dump is refused on its way here."""
    try:
        async with fetched(catalog, manifest):
            return False
    except (Damaged, NotFound):
        return True


@pytest.mark.parametrize("form", ["zstd", "zstd+age"])
async def test_sweep__every_region_of_the_dump(
    form: str, source: Login, programs: list[Programs], tmp_path: Path, sweep: Sweep
) -> None:
    """A flipped bit, a cut, more bytes, another backup's or an older dump, a missing one: never given out."""
    keyring = _keyring(tmp_path) if "age" in form else Keyring.ephemeral()
    catalog, older, one = await _taken(source, programs, tmp_path, keyring)
    part, store = one.manifest.dump, catalog.store
    assert "+".join(part.packing) == form
    good = bytes(obstore.get(store, part.blob).bytes())
    damages = [("flipped bit", f"at {at}", _flipped(good, at, at % 8)) for at in _regions(len(good))]
    damages += [("cut", f"to {size}", good[:size]) for size in _regions(len(good))]
    damages += [("more bytes", "a zero", good + b"\0"), ("more bytes", "twice", good + good)]
    replayed = bytes(obstore.get(store, older.manifest.dump.blob).bytes())
    damages.append(("older dump", older.manifest.id, replayed))
    for kind, what, content in damages:
        assert content != good
        obstore.put(store, part.blob, content)
        sweep.count(f"dump {form}: {kind}", what, found=await _refused(catalog, one.manifest))
    obstore.delete(store, part.blob)
    sweep.count(f"dump {form}: missing", part.blob, found=await _refused(catalog, one.manifest))
    obstore.put(store, part.blob, good)
    assert not await _refused(catalog, one.manifest)
    assert sweep.missed == []
    assert [*catalog.scratch.iterdir()] == []


async def test_sweep__every_region_of_the_manifest(
    source: Login, programs: list[Programs], tmp_path: Path, sweep: Sweep
) -> None:
    """A manifest that was edited, cut, swapped or signed by a stranger is listed as damaged, and never chosen."""
    catalog, older, one = await _taken(source, programs, tmp_path, Keyring.ephemeral())
    good = bytes(obstore.get(catalog.store, one.key).bytes())
    stranger = Catalog(MemoryStore(), tmp_path / "other")
    await take_dump(source, "agent", stranger, programs, backup_id=one.manifest.id)
    damages = [("flipped bit", f"at {at}", _flipped(good, at, at % 7)) for at in _regions(len(good))]
    damages += [("cut", f"to {size}", good[:size]) for size in _regions(len(good))]
    damages += [
        ("of another backup", older.key, bytes(obstore.get(catalog.store, older.key).bytes())),
        ("signed by a stranger", one.key, bytes(obstore.get(stranger.store, one.key).bytes())),
        ("rows edited", "3000", good.replace(b"3000", b"3001")),
    ]
    for kind, what, content in damages:
        assert content != good
        obstore.put(catalog.store, one.key, content)
        found = Catalog(catalog.store, tmp_path / "scratch", catalog.keyring)
        listed = [entry.manifest.id for entry in found.published(PostgresManifest)]
        told = [entry.id for entry in found.damaged(PostgresManifest)]
        sweep.count(f"dump manifest: {kind}", what, found=one.manifest.id not in listed and one.manifest.id in told)
    obstore.put(catalog.store, one.key, good)
    assert len(Catalog(catalog.store, tmp_path / "s", catalog.keyring).published(PostgresManifest)) == 2
    assert sweep.missed == []


async def test_wrong_identity__says_which_setting(source: Login, programs: list[Programs], tmp_path: Path) -> None:
    """A dump that is encrypted to somebody else is not opened, and the message says what to set."""
    catalog, _, one = await _taken(source, programs, tmp_path, _keyring(tmp_path))
    (tmp_path / "other").mkdir()
    other = replace(catalog.keyring, identity_files=_keyring(tmp_path / "other").identity_files)
    with pytest.raises(Damaged, match=r"backups\.identities"):
        async with fetched(Catalog(catalog.store, tmp_path / "scratch", other), one.manifest):
            pytest.fail("it was opened")


def _regions(size: int) -> list[int]:
    """Return places spread over all of `size` bytes, the first and the last among them."""
    return sorted({*range(0, size, max(1, size // REGIONS)), size - 1})


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)
