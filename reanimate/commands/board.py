"""The board that `reanimate up` shows while parts come up: a live table on a terminal, a line per part elsewhere."""

import time
from types import TracebackType

from rich.live import Live
from rich.table import Table

from reanimate.commands.output import err
from reanimate.supervisor.part import Part

__all__ = ["Board"]

_MARKS = {"ready": "[green]●[/]", "done": "[green]✓[/]", "starting": "[yellow]●[/]", "down": "[red]●[/]"}


class Board:
    """Hears of changes and shows them on standard error."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._states: dict[str, tuple[str, float]] = {}
        self._live = Live(console=err, transient=True, refresh_per_second=8) if err.is_terminal else None
        self._open = False

    def expect(self, parts: list[Part]) -> None:
        """Show what will be started."""
        self._states = {part.name: ("waiting", 0.0) for part in parts}
        self._draw()

    def change(self, name: str, state: str) -> None:
        """Show that a part is in a new state; after `close` only what an operator must know is said."""
        after = time.monotonic() - self._began
        self._states[name] = (state, after)
        if not self._open:
            if state == "down":
                err.print(f"[red]{name} ended; it is started again[/]")
        elif self._live is not None:
            self._draw()
        elif state in ("ready", "done", "down"):
            err.print(f"{after:6.1f} s  {name} {state}", highlight=False)

    def close(self) -> None:
        """Take the live table away; safe to call twice."""
        if self._open and self._live is not None:
            self._live.stop()
        self._open = False

    def __enter__(self) -> "Board":
        self._open = True
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _draw(self) -> None:
        if self._live is None:
            return
        table = Table.grid(padding=(0, 1))
        for name, (state, after) in self._states.items():
            when = f"{after:.1f} s" if state in ("ready", "done") else state
            table.add_row(_MARKS.get(state, "[dim]○[/]"), name, f"[dim]{when}[/]")
        self._live.update(table)
