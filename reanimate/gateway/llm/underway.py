"""The calls that are underway, so that a kill finds those that it is about."""

from collections.abc import Callable, Iterator

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failures import Rejected

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

    def end(self, concerns: Callable[[Call], bool], why: Rejected) -> int:
        """Stop every call that `concerns`; return how many they are."""
        found = [call for call in self._calls if concerns(call)]
        for call in found:
            call.end(why)
        return len(found)
