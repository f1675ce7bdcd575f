"""The last calls, to be looked up by their id: what a caller has in `X-Reanimate-Call` leads to all that was done."""

from collections import OrderedDict, deque
from typing import Any

import orjson

from reanimate.gateway.llm.accounts.record import Brief

__all__ = ["Lookups"]

_KEPT = 10_000
_FAILED_KEPT = 200
_BYTES = 8 * 1024 * 1024
"""Of all that are kept; long stories (many attempts) make them fewer."""


_BRIEF = 800
"""What a brief record takes, in bytes."""


class Lookups:
    """Long stories are kept as JSON, which takes a tenth of the memory that the objects would."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, bytes | Brief] = OrderedDict()
        self._size = 0
        self._failed: deque[str] = deque(maxlen=_FAILED_KEPT)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: dict[str, Any], *, failed: bool) -> None:
        """Keep the record of a call that has ended."""
        kept = bytes(memoryview(orjson.dumps(record)))  # copied: orjson's own has room for several kilobytes more
        self._keep(record["id"], kept, len(kept))
        if failed:
            self._failed.append(record["id"])

    def add_brief(self, brief: Brief) -> None:
        """Keep what is known of a call that went well."""
        self._keep(brief.id, brief, _BRIEF)

    def _keep(self, call_id: str, kept: bytes | Brief, size: int) -> None:
        self._records[call_id] = kept
        self._size += size
        while len(self._records) > _KEPT or self._size > _BYTES:
            oldest = self._records.popitem(last=False)[1]
            self._size -= len(oldest) if isinstance(oldest, bytes) else _BRIEF

    def get(self, call_id: str) -> bytes | None:
        """Return the record of a call as JSON."""
        kept = self._records.get(call_id)
        return orjson.dumps(kept.record()) if isinstance(kept, Brief) else kept

    def failed(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest calls that failed, or were answered only by what is kept for that; newest first."""
        found = [kept for call_id in reversed(self._failed) if (kept := self.get(call_id)) is not None]
        return [orjson.loads(kept) for kept in found[:limit]]
