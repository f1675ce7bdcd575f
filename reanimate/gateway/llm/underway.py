"""The calls that are underway, so that a kill finds those that it is about."""

from collections.abc import Iterator

from reanimate.gateway.llm.call import Call

__all__ = ["Underway"]


class Underway:
    """Every call from its arrival to its end."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()

    def add(self, call: Call) -> None:
        self._calls.add(call)

    def discard(self, call: Call) -> None:
        self._calls.discard(call)

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls))
