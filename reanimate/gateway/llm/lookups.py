"""The last calls, to be looked up by their id: what a caller has in `X-Reanimate-Call` leads to all that was done."""

from collections import OrderedDict, deque
from typing import Any

import orjson

__all__ = ["Lookups"]

_KEPT = 10_000
_FAILED_KEPT = 200
_BYTES = 8 * 1024 * 1024
"""Of all that are kept; long stories (many attempts) make them fewer."""


class Lookups:
    """Kept as JSON, which takes a tenth of the memory that the objects would."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._failed: deque[str] = deque(maxlen=_FAILED_KEPT)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: dict[str, Any], *, failed: bool) -> None:
        """Keep the record of a call that has ended."""
        kept = bytes(memoryview(orjson.dumps(record)))  # copied: orjson's own has room for several kilobytes more
        self._records[record["id"]] = kept
        self._size += len(kept)
        while len(self._records) > _KEPT or self._size > _BYTES:
            self._size -= len(self._records.popitem(last=False)[1])
        if failed:
            self._failed.append(record["id"])

    def get(self, call_id: str) -> bytes | None:
        """Return the record of a call as JSON."""
        return self._records.get(call_id)

    def failed(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest calls that failed, or were answered only by what is kept for that; newest first."""
        found = [kept for call_id in reversed(self._failed) if (kept := self._records.get(call_id)) is not None]
        return [orjson.loads(kept) for kept in found[:limit]]
