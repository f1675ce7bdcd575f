"""Counts of one stretch of time: open while it lasts, packed afterwards, which takes a tenth of the memory. Pure."""

from array import array
from dataclasses import dataclass, field

from reanimate.gateway.llm.accounts.account import Key

__all__ = ["Bucket", "Names", "Packed"]


@dataclass(slots=True)
class Bucket:
    """Counts that are added to."""

    second: int
    counts: dict[Key, float] = field(default_factory=dict)

    def add(self, counts: dict[Key, float]) -> None:
        known = self.counts
        for key, count in counts.items():
            known[key] = known.get(key, 0) + count


@dataclass(frozen=True, slots=True)
class Packed:
    """Counts that stay as they are; each key as its number."""

    second: int
    numbers: "array[int]"
    counts: "array[float]"


class Names:
    """The number of each key. As many as there are in the sum of all counts, which is kept anyway."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}
        self._keys: list[Key] = []

    def pack(self, bucket: Bucket) -> Packed:
        """Return the same counts, packed."""
        numbers = array("I", (self._number(key) for key in bucket.counts))
        return Packed(bucket.second, numbers, array("d", bucket.counts.values()))

    def unpack(self, packed: Packed, into: Bucket) -> None:
        """Add packed counts to a bucket."""
        keys, known = self._keys, into.counts
        for number, count in zip(packed.numbers, packed.counts, strict=True):
            key = keys[number]
            known[key] = known.get(key, 0) + count

    def _number(self, key: Key) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
        return number
