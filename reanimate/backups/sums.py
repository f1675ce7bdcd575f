"""One bar for several transfers that go on at the same time."""

from collections.abc import Callable, Hashable

__all__ = ["Sums"]

Progress = Callable[[str, int, int], None]


class Sums:
    """Adds up how far each of several transfers has got, and tells it as one stage."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress = progress
        self._stage = stage
        self._done: dict[Hashable, tuple[int, int]] = {}

    def of(self, key: Hashable) -> Callable[[int, int], None]:
        """Return what one transfer reports to."""

        def report(done: int, total: int) -> None:
            self._done[key] = (done, total)
            read, whole = (sum(column) for column in zip(*self._done.values(), strict=True))
            self._progress(self._stage, read, whole)

        return report
