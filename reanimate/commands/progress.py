"""Progress bars on standard error for work that reports stages: (stage, done, total)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from reanimate.commands.output import err

__all__ = ["Report", "progress_bars"]

Report = Callable[[str, int, int], None]


_IN_POINTS = ("carry", "carry late", "compare", "write")
"""Stages that count points; others count bytes, or steps."""


class _Rate(ProgressColumn):
    """How fast it goes, in points or bytes a second."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = TransferSpeedColumn()

    def render(self, task: Task) -> Text:
        if task.description not in _IN_POINTS:
            return self._bytes.render(task)
        speed = task.finished_speed or task.speed
        return Text("?" if speed is None else f"{speed:,.0f} points/s", style="progress.data.speed")


@contextmanager
def progress_bars() -> Iterator[Report]:
    """Give a function that draws one bar per stage. Nothing is drawn where nobody looks."""
    bars = Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        _Rate(),
        console=err,
        disable=not err.is_terminal,
    )
    known: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in known:
            known[stage] = bars.add_task(stage, total=total)
        bars.update(known[stage], completed=done, total=total)

    with bars:
        yield report
