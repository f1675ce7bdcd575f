"""Claiming flow runs and running them in this process: the one module that uses Prefect's less documented parts.

A run is claimed by proposing PENDING: the server lets exactly one claimant win and applies the deployment's
concurrency limit. Then it carries our name, so that whoever comes after us knows whose it was.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.flow_engine import run_flow  # fills in the run's parameters; run_flow_async does not
from prefect.states import AwaitingRetry, Cancelled, Crashed, Pending

__all__ = ["MARK", "Claims", "is_due", "owner_of", "superseded"]

log = logging.getLogger(__name__)

MARK = "responder:"
"""How the names of responders begin; what a worker writes in the same place looks different."""

_CLAIMED = "claimed by "
_AHEAD = timedelta(seconds=1)


class Others(Protocol):
    """Who else is alive."""

    owner: str

    async def is_alive(self, owner: str) -> bool: ...


def is_due(run: FlowRun, now: datetime) -> bool:
    """Say whether a run's time has come; schedules announce their runs days ahead."""
    due = run.next_scheduled_start_time or run.expected_start_time
    return due is None or due <= now + _AHEAD


def owner_of(run: FlowRun) -> str | None:
    """Return the responder that claimed a run, by its mark or by the message of the claim; None for anybody else's."""
    if run.infrastructure_pid:
        return run.infrastructure_pid if run.infrastructure_pid.startswith(MARK) else None
    said = (run.state.message or "") if run.state else ""
    return said.removeprefix(_CLAIMED) if said.startswith(_CLAIMED + MARK) else None


def superseded(runs: Iterable[FlowRun]) -> list[FlowRun]:
    """Return those due runs of schedules that a newer due run of the same schedule makes pointless.

    After an outage every missed run is due at once; one backup is as good as five.
    """
    newest: dict[tuple[UUID | None, Any], FlowRun] = {}
    old = []
    for run in sorted(runs, key=lambda run: run.expected_start_time or datetime.min.replace(tzinfo=UTC)):
        if not run.auto_scheduled:
            continue
        schedule = run.deployment_id, run.parameters.get("schedule")
        if (before := newest.get(schedule)) is not None:
            old.append(before)
        newest[schedule] = run
    return old


class Claims:
    """The runs that this process has claimed, and how it gets more."""

    def __init__(
        self,
        client: PrefectClient,
        flows: Mapping[UUID, Flow[..., Any]],
        presence: Others,
        *,
        abandoned: Callable[[FlowRun, str], Awaitable[None]],
    ) -> None:
        """`flows` are by deployment id; `abandoned` is told of a run that Prefect itself kept from ending."""
        self._client = client
        self.flows = dict(flows)
        self._presence = presence
        self._abandoned = abandoned
        self._running: dict[UUID, asyncio.Task[Any] | None] = {}
        self._cancelling: set[UUID] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._suspects: set[UUID] = set()
        self._closing = False

    def offer(self, run: FlowRun) -> None:
        """Claim and run a scheduled run in the background, unless it is not ours, not due, or running already."""
        if self._closing or run.id in self._running or run.deployment_id not in self.flows:
            return
        if run.state_type != StateType.SCHEDULED or not is_due(run, datetime.now(UTC)):
            return
        self._running[run.id] = None  # reserved before the first await
        job = asyncio.create_task(self._claim_and_run(run), name=f"run {run.name}")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _claim_and_run(self, run: FlowRun) -> None:
        try:
            if await self._claim(run):
                await self._run(run)
        except Exception:
            log.exception("run %s: claiming it failed", run.name)
        finally:
            self._running.pop(run.id, None)
            self._cancelling.discard(run.id)

    async def _claim(self, run: FlowRun) -> bool:
        answer = await self._client.set_flow_run_state(run.id, Pending(message=_CLAIMED + self._presence.owner))
        if answer.status != SetStateStatus.ACCEPT or answer.state is None or not answer.state.is_pending():
            return False  # somebody was quicker, or every slot is taken
        run.state = answer.state  # carries the lease of the concurrency slot
        return True

    async def _run(self, run: FlowRun) -> None:
        flow = self.flows[run.deployment_id]
        task = self._running[run.id] = asyncio.ensure_future(run_flow(flow, flow_run=run, return_type="state"))
        # Beside it, not before it: until the mark is there, the message of the claim says whose the run is.
        mark = asyncio.ensure_future(self._client.update_flow_run(run.id, infrastructure_pid=self._presence.owner))
        await asyncio.wait({task, mark})
        if mark.exception() is not None:
            log.warning("run %s could not be marked as ours: %r", run.name, mark.exception())
        if run.id in self._cancelling:
            await self._cancelled(flow, run)
        elif self._closing:
            await self._set_aside(run, "its responder was stopped")
        elif task.cancelled():
            log.warning("run %s was cut off", run.name)
        elif isinstance(task.exception(), (Pause, Abort)):
            log.info("run %s left the process: %r", run.name, task.exception())
        elif task.exception() is not None:
            log.error("run %s: Prefect kept it from ending: %r", run.name, task.exception())
            await self._abandoned(run, f"{type(task.exception()).__name__}: {task.exception()}")

    async def _cancelled(self, flow: Flow[..., Any], run: FlowRun) -> None:
        state = Cancelled(message="cancelled by an operator")
        await self._client.set_flow_run_state(run.id, state, force=True)
        for hook in flow.on_cancellation_hooks:
            await hook(flow, run, state)  # all of ours are async

    async def _set_aside(self, run: FlowRun, why: str) -> None:
        """Leave a run to whoever comes next: the same run is taken up again, and its finished steps are skipped."""
        state = (await self._client.read_flow_run(run.id)).state
        if state is None or (state.is_final() and not state.is_crashed()):
            return
        if not state.is_crashed():
            await self._client.set_flow_run_state(run.id, Crashed(message=why), force=True)  # frees its slot
        await self._client.set_flow_run_state(run.id, AwaitingRetry(message=f"{why}; to be resumed"))

    async def noticed(self, run_id: UUID) -> None:
        """Look at a run of which an event said that it is scheduled, or to be cancelled."""
        try:
            run = await self._client.read_flow_run(run_id)
        except ObjectNotFound:
            return
        if run.state_type == StateType.CANCELLING:
            self._cancel(run.id)
        else:
            self.offer(run)

    def _cancel(self, run_id: UUID) -> None:
        if (task := self._running.get(run_id)) is not None and run_id not in self._cancelling:
            self._cancelling.add(run_id)
            task.cancel()

    def is_running(self, run_id: UUID) -> bool:
        """Say whether this process has the run."""
        return run_id in self._running

    async def sweep(self) -> None:
        """Take due runs that no event announced: schedules whose time has come, events that were missed."""
        due = await self._client.get_scheduled_flow_runs_for_deployments(
            list(self.flows), scheduled_before=datetime.now(UTC)
        )
        runs = [FlowRun.model_validate(run.model_dump()) for run in due]
        stale = superseded(runs)
        for run in stale:
            await self._client.set_flow_run_state(run.id, Cancelled(message="a newer run of this schedule is due"))
        for run in runs:
            if run not in stale:
                self.offer(run)

    async def reconcile(self, *, at_once: bool = False) -> None:
        """Take back the runs of dead responders, and those that we lost hold of ourselves.

        A run must be found without an owner twice in a row, since locks are gone for a moment when Postgres restarts;
        `at_once` is for the start of a process, when it is most likely its own predecessor that died.
        """
        orphans = {run.id: run for run in await self._unfinished() if await self._is_orphan(run)}
        sure = set(orphans) if at_once else set(orphans) & self._suspects
        self._suspects = set(orphans) - sure
        for run_id in sure:
            run = orphans[run_id]
            if run.state_type == StateType.CANCELLING:
                await self._cancelled(self.flows[run.deployment_id], run)
            else:
                log.warning("run %s of %s is taken up again", run.name, owner_of(run))
                await self._set_aside(run, "its responder died")

    async def _unfinished(self) -> list[FlowRun]:
        types = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
        return await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=list(self.flows)),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)),
            )
        )

    async def _is_orphan(self, run: FlowRun) -> bool:
        owner = owner_of(run)
        if owner is None or run.id in self._running:
            return False
        return owner == self._presence.owner or not await self._presence.is_alive(owner)

    async def close(self, within_s: float) -> None:
        """Cancel every run, so that its step is left as running and can be resumed, and set the runs aside."""
        self._closing = True
        for task in self._running.values():
            if task is not None:
                task.cancel()
        if self._jobs:
            _, late = await asyncio.wait(set(self._jobs), timeout=within_s)
            for job in late:
                job.cancel()
