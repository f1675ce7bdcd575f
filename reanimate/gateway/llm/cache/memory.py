"""The answers in memory: those least recently asked for give way."""

from collections import OrderedDict

from reanimate.gateway.llm.cache.entry import Entry

__all__ = ["Memory"]

_GREATEST_SHARE = 4
"""An answer of more than the limit divided by this is not kept: it would drive out all the others."""


class Memory:
    """At most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, entry: Entry) -> None:
        """Keep an entry in place of the one of the same key."""
        self.drop(entry.key)
        if entry.size * _GREATEST_SHARE > self.limit:
            return
        self._entries[entry.key] = entry
        self.size += entry.size
        self.shrink()

    def drop(self, key: bytes) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self.size -= entry.size

    def shrink(self) -> None:
        """Drop what is over the limit."""
        while self.size > self.limit:
            _, entry = self._entries.popitem(last=False)
            self.size -= entry.size
