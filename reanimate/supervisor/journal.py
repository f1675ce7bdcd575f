"""What happened to each part: `run/processes.jsonl`, appended to, a JSON object per line."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from reanimate.clock import utcnow

__all__ = ["Journal", "PartState", "SystemState", "read_journal", "summarize"]

_ROTATE_BYTES = 1_000_000


class Journal:
    """The writing end, held by the supervisor."""

    def __init__(self, home: Path) -> None:
        self._path = journal_file(home)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > _ROTATE_BYTES:
            self._path.replace(self._path.with_suffix(".1.jsonl"))

    def write(self, event: str, part: str = "", **facts: Any) -> None:
        """Append one line; a line is one write, so a kill never leaves half of one in front of another."""
        entry = {"at": utcnow().isoformat(), "event": event, **({"part": part} if part else {}), **facts}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class PartState:
    """One part, as the journal tells it."""

    name: str
    state: str
    """waiting | starting | ready | done | down | stopped"""
    since: datetime
    pid: int | None = None
    restarts: int = 0
    last_exit: str = ""


@dataclass(frozen=True)
class SystemState:
    """The last run of `up` in a home directory."""

    pid: int
    started_at: datetime
    ready: bool
    parts: tuple[PartState, ...]


def journal_file(home: Path) -> Path:
    """Where the journal of this home directory is."""
    return home / "run" / "processes.jsonl"


def read_journal(home: Path) -> Iterator[dict[str, Any]]:
    """Yield the journal's entries, oldest first; a half-written last line is passed over."""
    try:
        lines = journal_file(home).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


_STATES = {
    "part.waiting": "waiting",
    "part.started": "starting",
    "part.ready": "ready",
    "part.done": "done",
    "part.died": "down",
    "part.stopped": "stopped",
}


def summarize(entries: Iterable[dict[str, Any]]) -> SystemState | None:
    """Return what the entries say about the last run, or None when there was none."""
    system: SystemState | None = None
    parts: dict[str, PartState] = {}
    for entry in entries:
        event, at = entry["event"], datetime.fromisoformat(entry["at"])
        if event == "system.starting":
            system, parts = SystemState(entry["pid"], at, False, ()), {}
        elif system is None:
            continue
        elif event == "system.ready":
            system = replace(system, ready=True)
        elif event == "system.stopped":
            system = replace(system, ready=False)
        elif event in _STATES:
            name = entry["part"]
            parts[name] = _advance(parts.get(name) or PartState(name, "waiting", at), _STATES[event], at, entry)
    return replace(system, parts=tuple(parts.values())) if system else None


def _advance(part: PartState, state: str, at: datetime, entry: dict[str, Any]) -> PartState:
    restarted = state == "starting" and bool(entry.get("restart"))
    return replace(
        part,
        state=state,
        since=at,
        pid=entry.get("pid") if state in ("starting", "ready") else None,
        restarts=part.restarts + int(restarted),
        last_exit=entry.get("exit", part.last_exit),
    )
