"""Files become objects and come back the same or not at all: compressed where it pays, encrypted where asked."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import obstore
import pytest
import zstandard
from obstore.store import LocalStore
from pyrage import x25519

from reanimate.errors import ConfigInvalid, Damaged, NotFound
from reanimate.storage import packing
from reanimate.storage.belts import Chunk, ahead, in_order
from reanimate.storage.compression import Kind, choose_level, sample
from reanimate.storage.encryption import Sealed, can_open, is_encrypted
from reanimate.storage.packing import Packed, fetch_packed, store_packed

KEY = "backups/kb/one/shard-0.snapshot"
FULL = Path("/dev/full")
OURS, THEIRS = x25519.Identity.generate(), x25519.Identity.generate()
ROWS = b"".join(
    b"INSERT INTO orders VALUES (%d, 'order %d of tenant %d');\n" % (n, n * 7, n % 13) for n in range(30_000)
)


def _vectors(count: int) -> bytes:
    return np.random.default_rng(5).standard_normal(count, dtype=np.float32).tobytes()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(prefix=tmp_path / "blobs", mkdir=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(ROWS)
    return path


async def _packed_rows(store: LocalStore, file: Path, *, sealed: bool) -> tuple[Packed, bytes]:
    packed = await store_packed(store, KEY, file, "rows", [OURS.to_public()] if sealed else [])
    return packed, bytes(obstore.get(store, KEY).bytes())


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
@pytest.mark.parametrize(
    ("content", "kind", "steps"),
    [
        (b"", "vectors", ()),
        (b"x", "text", ()),
        (_vectors(1 << 20), "vectors", ()),
        (_vectors(1 << 20) + bytes(30 << 20), "vectors", ("zstd",)),
        (ROWS * 12, "rows", ("zstd",)),
        (bytes(3 << 20), "text", ("zstd",)),
    ],
    ids=["empty", "a byte", "vectors", "vectors and empty pages", "rows", "zeros"],
)
async def test_file__comes_back_the_same(
    store: LocalStore, tmp_path: Path, content: bytes, kind: Kind, steps: tuple[str, ...], sealed: bool
) -> None:
    """Whatever the file is, what is said of it and of the object is true, and the file comes back."""
    file, into = tmp_path / "file", tmp_path / "into"
    file.write_bytes(content)
    done: list[tuple[int, int]] = []
    recipients = [THEIRS.to_public(), OURS.to_public()] if sealed else []
    packed = await store_packed(store, KEY, file, kind, recipients, lambda *step: done.append(step))
    stored = bytes(obstore.get(store, KEY).bytes())
    assert packed == Packed(
        len(content),
        hashlib.sha256(content).hexdigest(),
        len(stored),
        hashlib.sha256(stored).hexdigest(),
        (*steps, "age") if sealed else steps,
    )
    assert is_encrypted(stored) == sealed
    assert not content or done[-1] == (len(content), len(content))
    done.clear()
    await fetch_packed(store, KEY, packed, into, [OURS] if sealed else [], lambda *step: done.append(step))
    assert into.read_bytes() == content
    assert not stored or done[-1] == (len(stored), len(stored))


async def test_object__is_what_the_usual_programs_read(store: LocalStore, file: Path) -> None:
    """Without us a backup opens with `age -d` and `zstd -d`: one age file around one zstd frame that knows its size."""
    _, stored = await _packed_rows(store, file, sealed=False)
    assert zstandard.get_frame_parameters(stored).content_size == len(ROWS)
    assert zstandard.get_frame_parameters(stored).has_checksum
    assert zstandard.decompress(stored) == ROWS


def test_level__is_as_high_as_it_pays() -> None:
    """Noise is left alone, empty pages take the fastest level, rows a slow one."""
    noise = np.random.default_rng(1).bytes(64 << 10)
    vectors = _vectors(16 << 10)
    words = [ROWS[at : at + (64 << 10)] for at in range(0, 1 << 20, 64 << 10)]
    assert choose_level([], "vectors") is None
    assert choose_level([noise] * 8, "text") is None
    assert choose_level([vectors] * 8, "vectors") is None
    assert choose_level([vectors] * 6 + [bytes(64 << 10)] * 2, "vectors") == -1
    assert (choose_level(words, "rows") or 0) >= 3


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True], ids=["zstd", "zstd and age"])
async def test_damage__of_the_object_is_found(store: LocalStore, file: Path, tmp_path: Path, sealed: bool) -> None:
    """A flipped bit anywhere, a cut, a longer or another object: Damaged, said as such, and no file stays."""
    packed, stored = await _packed_rows(store, file, sealed=sealed)
    into = tmp_path / "into"
    changed = [_flip(stored, at) for at in range(0, len(stored), max(1, len(stored) // 97))]
    changed += [_flip(stored, at) for at in (0, 3, 30, 100, 150, 200, len(stored) - 1)]
    for content in [*changed, ROWS[: len(stored)]]:
        obstore.put(store, KEY, content)
        with pytest.raises(Damaged, match="the object has SHA-256"):
            await fetch_packed(store, KEY, packed, into, [OURS])
        assert not into.exists()
    for content in (stored[:-1], stored[: len(stored) // 2], b"", stored + b"x", stored * 2):
        obstore.put(store, KEY, content)
        with pytest.raises(Damaged, match=r"the object has \d+ bytes"):
            await fetch_packed(store, KEY, packed, into, [OURS])
        assert not into.exists()


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


async def test_missing_object__is_not_found(store: LocalStore, tmp_path: Path) -> None:
    """What is not there is NotFound, before anything is written."""
    with pytest.raises(NotFound):
        await fetch_packed(store, KEY, Packed(1, "00", 1, "00", ()), tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(
    ("held", "told"), [([THEIRS], "none of the 1 identities can open it"), ([], "there is no identity to open it")]
)
async def test_wrong_key__is_said(
    store: LocalStore, file: Path, tmp_path: Path, held: list[x25519.Identity], told: str
) -> None:
    """A whole object that our keys do not open is told apart from a damaged one."""
    packed, _ = await _packed_rows(store, file, sealed=True)
    with pytest.raises(Damaged, match=told):
        await fetch_packed(store, KEY, packed, tmp_path / "into", held)
    assert not (tmp_path / "into").exists()


async def test_packing__that_is_told_wrong_is_found(store: LocalStore, file: Path, tmp_path: Path) -> None:
    """The right object under a manifest that lies about how it was packed, or of what."""
    packed, _ = await _packed_rows(store, file, sealed=False)
    lies = [
        (replace(packed, packing=()), "the manifest says"),
        (replace(packed, packing=("age",)), "age header"),
        (replace(packed, packing=("zstd", "age")), "age header"),
        (replace(packed, packing=("lz4",)), "does not know"),
        (replace(packed, packing=("age", "zstd")), "does not know"),
        (replace(packed, size=packed.size + 1), "the manifest says"),
        (replace(packed, size=packed.size - 1), "the manifest says"),
        (replace(packed, sha256="00" * 32), "the manifest says"),
        (replace(packed, stored_sha256="00" * 32), "the manifest says"),
    ]
    for lie, told in lies:
        with pytest.raises(Damaged, match=told):
            await fetch_packed(store, KEY, lie, tmp_path / "into", [OURS])
        assert not (tmp_path / "into").exists()


async def test_bomb__never_fills_the_disk(store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of 10 kB that unpacks into 256 MB is given up at the size that the file should have."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    bomb = b"".join(compressor.compress(bytes(16 << 20)) for _ in range(16)) + compressor.flush()
    obstore.put(store, KEY, bomb)
    packed = Packed(5 << 20, "00" * 32, len(bomb), hashlib.sha256(bomb).hexdigest(), ("zstd",))
    written: list[int] = []
    unlink = Path.unlink
    monkeypatch.setattr(
        Path,
        "unlink",
        lambda path, missing_ok=False: (written.append(path.stat().st_size), unlink(path, missing_ok))[1],
    )
    with pytest.raises(Damaged, match="the manifest says"):
        await fetch_packed(store, KEY, packed, tmp_path / "into")
    assert len(bomb) < 50_000
    assert max(written) <= packed.size


async def test_unwritable_file__is_no_damage(store: LocalStore, file: Path, tmp_path: Path) -> None:
    """Where the file cannot be written it is not the backup that is wrong."""
    packed, _ = await _packed_rows(store, file, sealed=False)
    with pytest.raises(ConfigInvalid, match="writing"):
        await fetch_packed(store, KEY, packed, tmp_path / "nowhere" / "into")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
async def test_full_disk__is_no_damage(store: LocalStore, file: Path, tmp_path: Path) -> None:
    """Where there is no room it is not the backup that is wrong."""
    packed, _ = await _packed_rows(store, file, sealed=False)
    (tmp_path / "into").symlink_to(FULL)
    with pytest.raises(ConfigInvalid, match="No space left"):
        await fetch_packed(store, KEY, packed, tmp_path / "into")


@pytest.mark.parametrize("kind", ["vectors", "rows"])
@pytest.mark.parametrize("size", [1000, 3 << 20], ids=["shorter", "longer"])
async def test_file__that_changes_meanwhile_is_refused(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, size: int
) -> None:
    """A file that grows or shrinks under us is no backup."""
    file = tmp_path / "file"
    file.write_bytes(ROWS[: 1 << 20] if kind == "rows" else _vectors(1 << 18))

    def change(changed: Path) -> list[bytes]:
        found = sample(changed)
        os.truncate(changed, size)
        return found

    monkeypatch.setattr(packing, "sample", change)
    with pytest.raises(Damaged, match="changed while it was read"):
        await store_packed(store, KEY, file, kind)


# -- ending early ------------------------------------------------------------------------------------------------------


async def test_cancelled__store_and_fetch_leave_nothing(store: LocalStore, tmp_path: Path) -> None:
    """Who is cancelled has stopped when he says so: no object, no file, no thread."""
    file, into = tmp_path / "file", tmp_path / "into"
    file.touch()
    os.truncate(file, 100 << 20)
    packed = await store_packed(store, "whole", file, "vectors", [OURS.to_public()])
    for work in (
        lambda: store_packed(store, KEY, file, "vectors", [OURS.to_public()], started),
        lambda: fetch_packed(store, "whole", packed, into, [OURS], started),
    ):
        begun = asyncio.Event()

        def started(done: int, total: int, begun: asyncio.Event = begun) -> None:
            begun.set()

        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("belt")] == []
    assert not into.exists()
    assert sorted(_files(tmp_path)) == ["file", "whole"]


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_belt__hands_errors_on_and_stops() -> None:
    """An error in a stage reaches the reader after what came before it; a reader who leaves stops the stage."""

    def source(end: type[Exception]) -> Generator[Chunk, None, None]:
        try:
            yield b"one"
            yield b"two"
            if end is ValueError:
                raise end("three")
            while True:
                yield b"more"
        finally:
            closed.append(end)

    closed: list[type[Exception]] = []
    chunks = ahead(ahead(source(ValueError)))
    assert [next(chunks), next(chunks)] == [b"one", b"two"]
    with pytest.raises(ValueError, match="three"):
        next(chunks)
    endless = ahead(ahead(source(KeyError)))
    next(endless)
    endless.close()
    assert closed == [ValueError, KeyError]
    jobs = (lambda n=n: time.sleep(0.01 * (n % 3)) or n for n in range(20))
    assert [*in_order(jobs, 4)] == [*range(20)]


# -- headers -----------------------------------------------------------------------------------------------------------


async def test_header__says_whether_a_key_opens_it(store: LocalStore, file: Path) -> None:
    """The first bytes of an object are enough to know that a key is lost, long before it is needed."""
    _, stored = await _packed_rows(store, file, sealed=True)
    for head in (stored, stored[:1000]):
        assert can_open(head, [THEIRS, OURS])
        assert not can_open(head, [THEIRS])
        assert not can_open(head, [])
    for bad in (b"", b"no age file", stored[:60], stored.replace(b"X25519", b"Y25519")):
        if bad.startswith(b"age") and len(bad) > 60:
            assert not can_open(bad, [OURS])
        else:
            with pytest.raises(Sealed, match="age header"):
                can_open(bad, [OURS])
