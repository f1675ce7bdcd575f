"""The figures of one incident, computed from its record and its timeline and from nothing else.

The definitions here are the only ones: pages, postmortem, command line and demo show these numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reanimate.db.tables import Incident, TimelineEntry

__all__ = ["Figures", "StepFigure", "incident_figures"]

_Key = tuple[str, str, int]

_OUTCOMES = {
    "step.done": "done",
    "step.skipped": "skipped",
    "step.failed": "failed",
    "step.undone": "undone",
}


@dataclass(frozen=True)
class StepFigure:
    """One action of one step, as the timeline tells it."""

    phase: str
    step: str
    action: str
    ordinal: int
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    """Of the attempt that ended it; None while it runs."""
    outcome: str
    """running, done, skipped, failed or undone."""
    attempts: int
    resumed: int
    """How often a cut run was taken up again."""
    entries: tuple[int, ...]
    """Numbers of the timeline entries that say so."""


@dataclass(frozen=True)
class Figures:
    """Times in seconds; None means that the record does not hold what is needed, never zero.

    - `detect_s`: fault to incident: `opened_at - fault_at`.
    - `contain_s`: incident to contained: `contained_at - opened_at`.
    - `recover_s`: incident to verified recovery: `recovered_at - opened_at`. This is what the RTO is held against.
    - `total_s`: fault to verified recovery: `recovered_at - fault_at`.
    - `rto_share`: `recover_s / rto_s`; `rto_met`: None until recovered.
    """

    detect_s: float | None
    contain_s: float | None
    recover_s: float | None
    total_s: float | None
    rto_s: float | None
    rto_share: float | None
    rto_met: bool | None
    steps: tuple[StepFigure, ...]


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None


def incident_figures(incident: Incident, entries: Sequence[TimelineEntry]) -> Figures:
    """Return the figures of `incident`, whose timeline is `entries` in their order."""
    recover_s = _between(incident.opened_at, incident.recovered_at)
    rto_s = incident.rto_s
    share = recover_s / rto_s if recover_s is not None and rto_s else None
    return Figures(
        detect_s=_between(incident.fault_at, incident.opened_at),
        contain_s=_between(incident.opened_at, incident.contained_at),
        recover_s=recover_s,
        total_s=_between(incident.fault_at, incident.recovered_at),
        rto_s=rto_s,
        rto_share=share,
        rto_met=None if share is None else share <= 1,
        steps=_step_figures(entries),
    )


def _step_figures(entries: Iterable[TimelineEntry]) -> tuple[StepFigure, ...]:
    """Fold the step entries, one figure for each (phase, step, ordinal), in the order in which they began."""
    grouped: dict[_Key, list[TimelineEntry]] = {}
    for entry in entries:
        if entry.kind.startswith("step."):
            grouped.setdefault(_key(entry, grouped), []).append(entry)
    return tuple(_fold(key, group) for key, group in grouped.items())


def _key(entry: TimelineEntry, known: Mapping[_Key, list[TimelineEntry]]) -> _Key:
    """Return the action that an entry is about; an undo names the action but not its place in the step."""
    data = entry.data
    phase, step = str(data.get("phase", "")), str(data.get("step", ""))
    if "ordinal" in data:
        return phase, step, int(data["ordinal"])
    same = [
        key
        for key, group in known.items()
        if key[:2] == (phase, step) and group[0].data.get("action") == data.get("action")
    ]
    return same[-1] if same else (phase, step, 0)


def _ending(group: list[TimelineEntry]) -> TimelineEntry:
    """Return the entry that ended the work itself; what was undone later ended before that."""
    return next(
        (entry for entry in reversed(group) if entry.kind in _OUTCOMES and entry.kind != "step.undone"), group[-1]
    )


def _fold(key: tuple[str, str, int], group: list[TimelineEntry]) -> StepFigure:
    begun = [entry for entry in group if entry.kind in ("step.started", "step.resumed")]
    last = group[-1]
    ended = _ending(group) if last.kind in _OUTCOMES else None
    started_at = begun[0].at if begun else (ended.at if ended else None)
    ended_at = ended.at if ended else None
    given = ended.data.get("duration_s") if ended else None
    return StepFigure(
        phase=key[0],
        step=key[1],
        action=str(next((entry.data["action"] for entry in group if entry.data.get("action")), "")),
        ordinal=key[2],
        started_at=started_at,
        ended_at=ended_at,
        seconds=float(given) if given is not None else _between(started_at, ended_at),
        outcome=_OUTCOMES[last.kind] if ended else "running",
        attempts=max((int(entry.data.get("attempt") or 1) for entry in group), default=1),
        resumed=sum(entry.kind == "step.resumed" for entry in group),
        entries=tuple(entry.seq for entry in group),
    )
