"""What an action is: one thing that can be done, with a check before and after, an undo and a time limit."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, update

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident, StepRecord
from reanimate.incidents import timeline

__all__ = ["Action", "ActionContext", "Evidence", "NoParams", "Outcome", "Params", "target_of"]

Evidence = dict[str, Any]


class Params(BaseModel):
    """Base of every action's parameters: closed, so that a typo in a runbook is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParams(Params):
    """For actions that need none."""


P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class Outcome:
    """What an action came to. `skipped` says why nothing had to, or could safely, be done."""

    evidence: Evidence = field(default_factory=dict)
    skipped: str | None = None


@dataclass
class ActionContext(Generic[P]):
    """Everything an action may use. `progress` survives a kill; save it before what cannot be done twice."""

    services: Services
    incident: Incident
    params: P
    actor: str
    record_id: int | None
    """The step record that keeps `progress`; None for a reflex, which keeps none."""
    progress: dict[str, Any]

    def now(self) -> datetime:
        return utcnow()

    @property
    def target(self) -> str:
        """The vector target that this incident is about."""
        return target_of(self.incident)

    async def save(self, **progress: Any) -> None:
        """Write what a resumed run must know, durably, before going on."""
        self.progress.update(progress)
        if self.record_id is None:
            return
        async with self.services.sessions.begin() as session:
            await session.execute(
                update(StepRecord).where(StepRecord.id == self.record_id).values(progress=self.progress)
            )

    async def earlier(self, action: str, key: str) -> list[dict[str, Any]]:
        """Return what an earlier action of this incident kept in its progress under `key`; empty if it did not run."""
        async with self.services.sessions() as session:
            kept = await session.scalars(
                select(StepRecord.progress).where(
                    StepRecord.incident_id == self.incident.id, StepRecord.action == action
                )
            )
            return [item for progress in kept for item in progress.get(key, [])]

    async def note(self, kind: str, message: str, **data: Any) -> None:
        """Add an entry to the incident's timeline."""
        async with self.services.sessions.begin() as session:
            await timeline.append(session, self.incident.id, kind, message, actor=self.actor, now=self.now(), data=data)


def target_of(incident: Incident) -> str:
    """Return the vector target of an incident: its scope says, else its component (vector:NAME), else `primary`."""
    kind, _, name = incident.component.partition(":")
    return str(incident.scope.get("target") or (name if kind == "vector" else "") or "primary")


class Action(Generic[P]):
    """One entry of the registry. Subclasses say what they do; the runner decides when.

    `act` may be cut at any line and run again: it finds out from the world and from `progress` what is left to do.
    """

    name: ClassVar[str]
    params: ClassVar[type[Params]] = NoParams
    time_limit_s: ClassVar[float] = 60.0
    destructive: ClassVar[bool] = False
    safe_as_reflex: ClassVar[bool] = False
    undoes: ClassVar[str] = "nothing: it changes nothing"

    def describe(self, incident: Incident, params: P) -> str:
        """Say in one sentence what would be done, for a dry run."""
        return (type(self).__doc__ or self.name).split("\n", 1)[0].rstrip(".")

    def limit_s(self, params: P) -> float:
        """Return how long the whole action may take, in seconds."""
        return self.time_limit_s

    async def check_before(self, context: ActionContext[P]) -> Outcome | None:
        """Return an outcome with `skipped` set when nothing is to be done; raise CheckFailed when it must not be."""
        return None

    async def act(self, context: ActionContext[P]) -> Evidence:
        """Do it, and return the evidence."""
        raise TypeError(f"action {self.name} does nothing")

    def said(self, evidence: Evidence) -> str:
        """Say in a few words what came of it, for the timeline."""
        return f"{self.name} done"

    async def check_after(self, context: ActionContext[P], evidence: Evidence) -> Evidence:
        """Look whether it worked; return further evidence or raise CheckFailed."""
        return {}

    async def undo(self, context: ActionContext[P]) -> Evidence | None:
        """Put back what was changed; None when there is nothing to put back. May be run twice."""
        return None
