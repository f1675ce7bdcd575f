"""From the outbox to the world: runs started in Prefect, runs written down there afterwards, notices sent.

Starting a run has two seconds. After that the same services are ordered to run directly, and an order stays to write
the run down once Prefect is back.
"""

from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident, Outbox
from reanimate.errors import ReanimateError, Unreachable
from reanimate.incidents import timeline
from reanimate.incidents.lifecycle import State
from reanimate.incidents.views import incident_view
from reanimate.orchestrator import notices
from reanimate.orchestrator.artifacts import artifacts_of, publish
from reanimate.orchestrator.launcher import BUDGET_S, RESPOND, Launcher, Run, RunState, RunType
from reanimate.orchestrator.outbox import Lane, Order, finish, put, serve

__all__ = ["ACTOR", "RUNS", "Relay", "outcome_of", "run"]

ACTOR = "relay"

RUNS = "runs"
"""The Postgres channel on which responders hear the id of a run as soon as it is created; only ever a hint."""

_OWN_WORD = timedelta(minutes=5)
"""How long a run that somebody has claimed may take to end by itself, once its incident is over."""


async def run(services: Services) -> None:
    """Carry the outbox until cancelled. Any number of processes may do so at once."""
    relay = Relay(services, Launcher(services.http, services.addresses.prefect_api))
    await serve(services.sessions, services.database_url, relay.lanes())


def outcome_of(state: State) -> RunState | None:
    """Return how a run that is over is to be written down, by the state its incident came to; None while it goes on."""
    match state:
        case State.RECOVERED:
            return RunState(
                RunType.COMPLETED, "Recovered", "it ran without Prefect, which was away; written down since"
            )
        case State.ESCALATED:
            return RunState(RunType.FAILED, "Escalated", "a person was called; it ran without Prefect, which was away")
        case State.CLOSED:
            return RunState(RunType.COMPLETED, "Closed", "a person closed the incident while Prefect was away")
    return None


class Relay:
    """The three kinds of order that go out from here."""

    def __init__(self, services: Services, launcher: Launcher) -> None:
        self._services = services
        self._launcher = launcher

    def lanes(self) -> list[Lane]:
        """Return how each kind is worked on."""
        return [
            Lane("start_flow", self.start_flow, lease_s=BUDGET_S + 2),
            Lane("record_flow", self.record_flow, lease_s=30),
            Lane("notify", self.notify, lease_s=60, renewed=True, max_attempts=notices.ATTEMPTS),
        ]

    async def start_flow(self, order: Order) -> None:
        """Create the incident's run in Prefect, or have the same services run without it."""
        incident_id = order.key
        try:
            run = await self._launcher.create_run(RESPOND, key=incident_id, parameters={"incident_id": incident_id})
        except ReanimateError as error:
            await self._run_directly(order, error)
            return
        async with self._services.sessions.begin() as session:
            await session.execute(select(func.pg_notify(RUNS, run.id)))
        async with self._services.sessions.begin() as session:
            await self._remember(session, incident_id, run, f"Prefect runs {run.name}")
            await finish(session, order, now=utcnow())

    async def _run_directly(self, order: Order, error: ReanimateError) -> None:
        now = utcnow()
        told = "did not answer in time" if isinstance(error, Unreachable) else "could not start the run"
        async with self._services.sessions.begin() as session:
            for kind in ("respond_directly", "record_flow"):
                await put(session, kind, order.key, incident_id=order.key, now=now)
            await timeline.append(
                session,
                order.key,
                "note",
                f"Prefect {told}: the same steps run without it",
                actor=ACTOR,
                now=now,
                data={"error": str(error)},
            )
            await finish(session, order, now=now, note=str(error))

    async def record_flow(self, order: Order) -> None:
        """Write down in Prefect a run that happened without it: its outcome and its documents.

        The run is created in its final state, so that nobody claims it and does the work again.

        Raises:
            Unreachable: it is still going on, or Prefect is still away; the order stays.
        """
        incident_id = order.key
        outcome = await self._outcome(incident_id)
        run = await self._launcher.create_run(
            RESPOND, key=incident_id, parameters={"incident_id": incident_id}, state=outcome
        )
        if not run.is_over:  # the first try had reached Prefect after all
            if run.is_claimed and utcnow() - order.created_at < _OWN_WORD:
                raise Unreachable(f"{run.name} is claimed; it is given time to end by its own word")
            await self._launcher.set_state(run.id, outcome)
        await publish(self._launcher, run.id, artifacts_of(await incident_view(self._services, incident_id)))
        async with self._services.sessions.begin() as session:
            await self._remember(session, incident_id, run, f"{run.name} is written down in Prefect")
            await finish(session, order, now=utcnow())

    async def _outcome(self, incident_id: str) -> RunState:
        async with self._services.sessions() as session:
            going_on = await session.scalar(
                select(Outbox.id).where(
                    Outbox.kind == "respond_directly", Outbox.key == incident_id, Outbox.done_at.is_(None)
                )
            )
            state = await session.scalar(select(Incident.state).where(Incident.id == incident_id))
        outcome = outcome_of(State(state)) if state and going_on is None else None
        if outcome is None:
            raise Unreachable(f"incident {incident_id} is still being worked on; its run is written down afterwards")
        return outcome

    async def notify(self, order: Order) -> None:
        """Send a notice."""
        await notices.send(self._services, order)

    async def _remember(self, session: AsyncSession, incident_id: str, run: Run, message: str) -> None:
        await session.execute(update(Incident).where(Incident.id == incident_id).values(flow_run_id=run.id))
        await timeline.append(
            session, incident_id, "note", message, actor=ACTOR, now=utcnow(), data={"flow_run_id": run.id}
        )
