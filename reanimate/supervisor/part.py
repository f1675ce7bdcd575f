"""One thing that `reanimate up` starts, as data."""

import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reanimate.errors import ConfigInvalid

__all__ = ["Backoff", "Job", "Part", "ProcessSpec", "check_needs", "stop_waves"]


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a part that died is started again."""

    first_s: float = 0.2
    longest_s: float = 10.0
    good_after_s: float = 30.0
    """A part that ran this long was well: its next death counts as the first."""

    def delay_s(self, deaths_in_a_row: int) -> float:
        """Return the pause before the next start; doubles with each death in a row (1 is the first)."""
        return float(min(self.first_s * 2 ** (max(1, deaths_in_a_row) - 1), self.longest_s))


@dataclass(frozen=True, eq=False)
class ProcessSpec:
    """A process to keep running, or, with `once`, a command that must succeed before others start."""

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()
    health: str = ""
    """http://… (must answer below 400), tcp://host:port, postgresql+psycopg://…, or empty: alive is ready."""
    ready_text: str = ""
    """For a part that listens nowhere: what it writes to its log once it is ready."""
    url: str = ""
    """What a person may open or point a client at."""
    env: Mapping[str, str] = field(default_factory=dict)
    late_env: Callable[[], Mapping[str, str]] | None = None
    """More environment, asked for at each start: what only the parts before it could find out."""
    whole_env: bool = False
    """`env` is the whole environment, rather than what is added to ours."""
    popen: Mapping[str, Any] = field(default_factory=dict)
    cwd: Path | None = None
    once: bool = False
    before: Callable[[], None] | None = None
    """Called before each start, in a thread of the supervisor: clears what a crash left."""
    stop_signal: signal.Signals = signal.SIGTERM
    ready_within_s: float = 60.0


@dataclass(frozen=True)
class Job:
    """Work done in the supervisor itself once its needs are ready (creating databases, migrating)."""

    name: str
    work: Callable[[], Awaitable[None]]
    needs: tuple[str, ...] = ()


Part = ProcessSpec | Job


def check_needs(parts: Iterable[Part]) -> None:
    """Check that names are unique and that what a part needs comes before it.

    Raises:
        ConfigInvalid: a name is used twice, or a need is unknown or comes later (which also rules out cycles).
    """
    seen: set[str] = set()
    for part in parts:
        if part.name in seen:
            raise ConfigInvalid(f"two parts are called {part.name!r}")
        if missing := set(part.needs) - seen:
            raise ConfigInvalid(f"part {part.name!r} needs {sorted(missing)}, which no part before it is called")
        seen.add(part.name)


def stop_waves(parts: Iterable[Part]) -> list[list[ProcessSpec]]:
    """Return the processes in the order to stop them: each wave only has parts that no part of a later wave needs."""
    listed = list(parts)
    height: dict[str, int] = {}  # how long the longest chain of dependants above a part is
    for part in reversed(listed):
        height.setdefault(part.name, 0)
        for need in part.needs:
            height[need] = max(height.get(need, 0), height[part.name] + 1)
    processes = [part for part in listed if isinstance(part, ProcessSpec)]
    levels = sorted({height[part.name] for part in processes})
    return [[part for part in processes if height[part.name] == level] for level in levels]
