"""Which shard a point belongs to: the same hash ring as a Qdrant server's, so that shards can travel both ways."""

import struct
from bisect import bisect_left
from uuid import UUID

__all__ = ["HashRing", "siphash24"]

_MASK = 0xFFFFFFFFFFFFFFFF
_PLACES_PER_SHARD = 100

PointId = int | str


def siphash24(data: bytes) -> int:
    """SipHash-2-4 with a key of zeros."""
    v0, v1, v2, v3 = 0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573
    tail = len(data) % 8
    padded = data[: len(data) - tail]
    last = (len(data) & 0xFF) << 56 | int.from_bytes(data[len(data) - tail :], "little")
    for (word,) in (*struct.iter_unpack("<Q", padded), (last,)):
        v3 ^= word
        v0, v1, v2, v3 = _round(*_round(v0, v1, v2, v3))
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _MASK
    v1 = ((v1 << 13 | v1 >> 51) & _MASK) ^ v0
    v0 = (v0 << 32 | v0 >> 32) & _MASK
    v2 = (v2 + v3) & _MASK
    v3 = ((v3 << 16 | v3 >> 48) & _MASK) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = ((v3 << 21 | v3 >> 43) & _MASK) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = ((v1 << 17 | v1 >> 47) & _MASK) ^ v2
    v2 = (v2 << 32 | v2 >> 32) & _MASK
    return v0, v1, v2, v3


class HashRing:
    """The shards of one collection on a ring; a point belongs to the next shard after its own hash."""

    def __init__(self, shards: list[int]) -> None:
        places = [
            (siphash24(struct.pack("<II", shard, i)), shard) for shard in shards for i in range(_PLACES_PER_SHARD)
        ]
        places.sort(key=lambda place: place[0])
        self._hashes = [place[0] for place in places]
        self._shards = [place[1] for place in places]
        self._only = shards[0] if len(shards) == 1 else None

    def shard_of(self, point: PointId) -> int:
        """Return the shard of a point id: an unsigned integer, or the text of a UUID."""
        if self._only is not None:
            return self._only
        at = bisect_left(self._hashes, siphash24(_ring_key(point)))
        return self._shards[at % len(self._shards)]


def _ring_key(point: PointId) -> bytes:
    if isinstance(point, int):
        return struct.pack("<QQ", 0, point)
    return struct.pack("<QQ", 1, 16) + UUID(point).bytes
