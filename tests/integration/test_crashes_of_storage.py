"""Killed at any point of publishing: nothing half is listed, nothing listed is half, and what is left is swept up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from crash_publishing import FIRST, SECOND, catalog_of, publish
from qdrant_servers import server_at

from reanimate.backups.manifest import VectorManifest
from reanimate.backups.published import Published
from reanimate.backups.rereading import read_part, stored_parts
from reanimate.backups.unfinished import sweep
from reanimate.clock import utcnow

POINTS = 32
TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Home directories, each left by a publisher that was killed a little later than the one before."""
    home = tmp_path_factory.mktemp("crashes")
    script = TESTS / "crash_publishing.py"
    subprocess.run([sys.executable, script, home, str(POINTS)], check=True, cwd=TESTS.parent, timeout=120)
    return sorted(path for path in home.iterdir() if path.name != "before")


async def test_kill__at_any_point_of_publishing(crashed: list[Path], vector_http: httpx.AsyncClient) -> None:
    """The backup from before stays; the new one is there whole or not at all, and a sweep leaves no crumb of it."""
    assert len(crashed) == POINTS + 1
    states = set()
    for home in crashed:
        catalog = catalog_of(home)
        published = catalog.published(VectorManifest)
        ids = {one.manifest.id for one in published}
        assert ids in ({FIRST}, {FIRST, SECOND}), home
        assert catalog.damaged() == (), home
        for part in stored_parts(published):
            assert (await read_part(catalog, part, utcnow())).ok, (home, part.key)
        crumbs = _files(home) - _needed(published)
        states.add((len(ids), any("#" in crumb for crumb in crumbs)))
        nobody = server_at("http://127.0.0.1:9", vector_http)
        await sweep(nobody, catalog, "kb", utcnow())
        assert _files(home) == _needed(published), home
        if SECOND not in ids:
            await publish(home, SECOND)
            assert {one.manifest.id for one in catalog_of(home).published(VectorManifest)} == {FIRST, SECOND}
    assert {(1, True), (1, False), (2, False)} <= states, "no kill came in the middle of a part, or none after the end"


def _needed(published: tuple[Published[VectorManifest], ...]) -> set[str]:
    return {one.key for one in published} | {part.blob for one in published for part in one.manifest.parts}


def _files(home: Path) -> set[str]:
    root = home / "blobs"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


MEMORY = """
import asyncio, re, sys
from pathlib import Path
from pyrage import x25519
from reanimate.storage.packing import fetch_packed, store_packed
from reanimate.storage.stores import open_url

async def there_and_back(file, home):
    store, owner = open_url((home / "blobs").as_uri()), x25519.Identity.generate()
    packed = await store_packed(store, "part", file, "vectors", [owner.to_public()])
    await fetch_packed(store, "part", packed, home / "into", [owner])
    assert packed.packing == ("zstd", "age") and (home / "into").stat().st_size == file.stat().st_size

asyncio.run(there_and_back(Path(sys.argv[1]), Path(sys.argv[2])))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_memory__does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A gigabyte, packed, sealed, stored and brought back, needs what 300 megabytes need: that fills every belt."""
    peaks = {}
    for megabytes in (300, 1000):
        home = tmp_path / str(megabytes)
        home.mkdir()
        with (home / "file").open("wb") as file:
            for at in range(0, megabytes, 5):  # a fifth is full, the rest are holes
                file.seek(at << 20)
                file.write(os.urandom(1 << 20))
            file.truncate(megabytes << 20)
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, home / "file", home], check=True, capture_output=True, text=True, timeout=120
        )
        peaks[megabytes] = int(run.stdout)
        shutil.rmtree(home)
    assert peaks[1000] < peaks[300] + 50, peaks
    assert peaks[1000] < 250, peaks
