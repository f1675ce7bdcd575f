"""A file is the same when it holds the same, however a tar stores its zeros."""

import random
from pathlib import Path

import pytest

from reanimate.vector.slimming import content_digest
from reanimate.vector.tar_walk import walk_archive
from reanimate.vector.tar_write import TarWriter

SIZE = 300_000


def _digest(folder: Path, pieces: list[tuple[int, bytes]], size: int = SIZE) -> bytes:
    """Write a file with holes between the pieces, pack it, and hash what the archive says it holds."""
    plain, packed = folder / "plain", folder / "packed.tar"
    with plain.open("wb") as file:
        for offset, content in pieces:
            file.seek(offset)
            file.write(content)
        file.truncate(size)
    with packed.open("wb") as file:
        writer = TarWriter(file)
        writer.add_file("segments/a/files/x", plain)
        writer.finish()
    (digest,) = [content_digest(entry) for entry in walk_archive(packed)]
    return digest


def test_zeros__written_or_not(tmp_path: Path) -> None:
    """Zeros that were written and holes are the same; so are pieces that were written in one or in two."""
    data = random.Random(1).randbytes(70_000)
    sparse = _digest(tmp_path, [(100_000, data)])
    assert sparse == _digest(tmp_path, [(0, bytes(100_000) + data + bytes(SIZE - 170_000))])
    assert sparse == _digest(tmp_path, [(100_000, data[:30_000]), (130_000, data[30_000:]), (200_000, bytes(8192))])
    assert _digest(tmp_path, []) == _digest(tmp_path, [(0, bytes(SIZE))])


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        ([(100_000, b"x" * 70_001)], SIZE),
        ([(100_001, b"x" * 70_000)], SIZE),
        ([(100_000, b"x" * 69_999 + b"y")], SIZE),
        ([(100_000, b"x" * 70_000)], SIZE + 1),
        ([(165_536, b"x" * 70_000)], SIZE),
        ([], SIZE),
    ],
    ids=["longer", "shifted", "another byte", "another size", "shifted by a window", "empty"],
)
def test_other_content__is_other(tmp_path: Path, pieces: list[tuple[int, bytes]], size: int) -> None:
    """Any other byte, place or size is another file."""
    assert _digest(tmp_path, pieces, size) != _digest(tmp_path, [(100_000, b"x" * 70_000)])
