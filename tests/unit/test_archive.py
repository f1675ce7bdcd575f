"""Snapshot archives are whole, safe and of the kind they are taken for, or they are refused."""

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from reanimate.vector.archive import ArchiveDamaged, inspect_archive

STATE = b'{"version":3,"config":{"vector_data":{"":{"size":4,"distance":"Dot","storage_type":"InRamChunkedMmap"}}}}'
SEGMENT = [("segment.json", STATE), ("version.info", b"0.6.0")]
END = [("shard_config.json", b'{"type":"ReplicaSet"}')]


def _tar(members: list[tuple[str, bytes]]) -> bytes:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return out.getvalue()


def _streamed(prefix: str = "") -> list[tuple[str, bytes]]:
    return [(f"{prefix}segments/a/files/{name}", content) for name, content in SEGMENT]


def _nested(prefix: str = "") -> list[tuple[str, bytes]]:
    inner = _tar([(f"snapshot/files/{name}", content) for name, content in SEGMENT])
    return [(f"{prefix}segments/a.tar", inner)]


def _file(directory: Path, content: bytes) -> Path:
    path = directory / "x.snapshot"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("segment", [_streamed(), _nested()], ids=["streamed", "nested"])
def test_shard__is_read(tmp_path: Path, segment: list[tuple[str, bytes]]) -> None:
    """Both forms of a shard snapshot say which segments and vectors they hold."""
    facts = inspect_archive(_file(tmp_path, _tar(segment + END)))
    assert facts.segments == ("a",)
    assert facts.vectors == {"": {"size": 4, "distance": "Dot"}}
    assert facts.last_member == "shard_config.json"
    assert facts.rocksdb_relics == ()


def test_collection__is_read(tmp_path: Path) -> None:
    """A collection snapshot says its shards, its config and its payload indexes."""
    shards = [part for n in (0, 1) for part in (*_nested(f"{n}/"), (f"{n}/shard_config.json", b"{}"))]
    top = [
        ("version.info", b"0.4.2"),
        ("config.json", b'{"params":{}}'),
        ("payload_index.json", b'{"schema":{"lang":"keyword"}}'),
    ]
    facts = inspect_archive(_file(tmp_path, _tar(shards + top)), "collection")
    assert facts.shards == (0, 1)
    assert facts.segments == ("0/a", "1/a")
    assert facts.collection_config == {"params": {}}
    assert facts.payload_schema == {"lang": "keyword"}


def test_every_cut__is_noticed(tmp_path: Path) -> None:
    """Wherever the file ends too early, it is refused: inside a member, between two, and before the end marker."""
    with tarfile.open(fileobj=BytesIO(_tar(_streamed() + END))) as archive:
        end = max(member.offset_data + 512 for member in archive)
    whole = _tar(_streamed() + END)[: end + 1024]
    inspect_archive(_file(tmp_path, whole))
    for cut in range(0, len(whole), 128):
        with pytest.raises(ArchiveDamaged):
            inspect_archive(_file(tmp_path, whole[:cut]))


def test_damaged_header__is_noticed(tmp_path: Path) -> None:
    """A header that cannot be read is not taken for the end of the archive."""
    content = bytearray(_tar(_streamed() + END))
    content[1024 + 150] ^= 0x55
    with pytest.raises(ArchiveDamaged) as refused:
        inspect_archive(_file(tmp_path, bytes(content)))
    assert refused.value.reason == "not_a_tar"


@pytest.mark.parametrize("name", ["../x", "/x", "segments/../../x"])
def test_path_outside__is_refused(tmp_path: Path, name: str) -> None:
    """No member may point outside of the snapshot."""
    with pytest.raises(ArchiveDamaged) as refused:
        inspect_archive(_file(tmp_path, _tar([(name, b"x"), *_streamed(), *END])))
    assert refused.value.reason == "forbidden"


def test_other_kind__is_refused(tmp_path: Path) -> None:
    """A collection snapshot is no shard snapshot, and the other way round."""
    shard = _file(tmp_path, _tar(_streamed() + END))
    with pytest.raises(ArchiveDamaged) as refused:
        inspect_archive(shard, "collection")
    assert refused.value.reason == "wrong_kind"


def test_segment_without_its_end__is_refused(tmp_path: Path) -> None:
    """A segment is written with its version last; without it, it was cut."""
    with pytest.raises(ArchiveDamaged, match="not complete"):
        inspect_archive(_file(tmp_path, _tar(_streamed()[:1] + END)))


def test_segments_that_disagree__are_refused(tmp_path: Path) -> None:
    """All segments of a snapshot have the same vectors."""
    other = STATE.replace(b'"size":4', b'"size":8')
    second = [("segments/b/files/segment.json", other), ("segments/b/files/version.info", b"0.6.0")]
    with pytest.raises(ArchiveDamaged, match="disagree"):
        inspect_archive(_file(tmp_path, _tar(_streamed() + second + END)))


def test_rocksdb__is_named(tmp_path: Path) -> None:
    """What only servers before 1.16 could read is listed; whether that is refused is the caller's business."""
    old = [
        ("segments/a/db_backup/private/1/MANIFEST", b"x"),
        ("segments/a/files/segment.json", STATE.replace(b"InRamChunkedMmap", b"Memory")),
        ("segments/a/files/version.info", b"0.6.0"),
    ]
    facts = inspect_archive(_file(tmp_path, _tar(old + END)))
    assert facts.rocksdb_relics == ("segments/a/db_backup/private/1/MANIFEST", "segments/a/segment.json")
