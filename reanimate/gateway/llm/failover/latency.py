"""How long a target takes until its first byte, in 95 of 100 cases. Pure."""

__all__ = ["Latency"]

_KEPT = 128
_EVERY = 16
_ENOUGH = 5
"""Fewer than this say nothing of one in twenty."""


class Latency:
    """Of the last 128 answers; worked out anew after each 16, so that a call pays next to nothing for it."""

    __slots__ = ("_at", "_kept", "_until_next", "p95")

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._at = 0
        self._until_next = _ENOUGH
        self.p95: float | None = None
        """In seconds; None while too little is known."""

    def add(self, took_s: float) -> None:
        """Take note of how long one took; of one that was not waited for, how long it had taken until then."""
        if len(self._kept) < _KEPT:
            self._kept.append(took_s)
        else:
            self._kept[self._at] = took_s
            self._at = (self._at + 1) % _KEPT
        self._until_next -= 1
        if not self._until_next:
            self._until_next = _EVERY
            ordered = sorted(self._kept)
            self.p95 = ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
