"""Progress bars on standard error for work that reports stages: (stage, done, total)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from reanimate.commands.output import err

__all__ = ["Report", "progress_bars"]

Report = Callable[[str, int, int], None]


@contextmanager
def progress_bars() -> Iterator[Report]:
    """Give a function that draws one bar per stage. Nothing is drawn where nobody looks."""
    bars = Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TransferSpeedColumn(),
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
