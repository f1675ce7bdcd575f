"""The responder: a long-lived process that claims flow runs within a quarter of a second and runs them inside itself.

`python -m deployments.responder`. It also carries out responses that must do without Prefect. It needs neither Prefect
nor Postgres to be there when it starts, and outlives a restart of both.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from reanimate.addresses import Addresses
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config import load_settings
from reanimate.db.listen import listen
from reanimate.errors import ReanimateError
from reanimate.logs import log_to_stderr
from reanimate.orchestrator import direct
from reanimate.orchestrator.environment import client_environment
from reanimate.orchestrator.launcher import Launcher
from reanimate.orchestrator.presence import Presence
from reanimate.orchestrator.relay import RUNS

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

    from deployments.claims import Claims

__all__ = ["main", "serve"]

log = logging.getLogger("responder")

SWEEP_S = 2.0
CATCH_UP_S = 60.0
GRACE_S = 3.0
"""How long runs may take to be set aside when we are told to stop."""


async def serve(services: Services, stop: asyncio.Event) -> None:
    """Claim and run until `stop` is set; then leave every run so that the next responder can resume it."""
    presence = Presence(services.database_url)
    known = asyncio.create_task(_for_ever("presence", presence.hold))
    work = [
        asyncio.create_task(_for_ever("direct responses", lambda: direct.run(services))),
        asyncio.create_task(_for_ever("prefect", lambda: _with_prefect(services, presence))),
    ]
    await stop.wait()
    for task in work:
        task.cancel()
    await asyncio.wait(work, timeout=GRACE_S + 0.5)
    known.cancel()
    await asyncio.wait({known}, timeout=0.5)


async def _for_ever(what: str, start: Callable[[], Awaitable[None]]) -> None:
    """Keep one of the responder's duties going, whatever it meets; the others are not to suffer for it."""
    while True:
        try:
            return await start()
        except Exception as error:  # noqa: BLE001 - what ended it is logged, and it is started again
            log.warning("%s: %s; starting it again", what, _brief(error))
        await asyncio.sleep(1.0)


async def _with_prefect(services: Services, presence: Presence) -> None:
    """Find the deployments, take up what was left, then claim until cancelled; runs are set aside then."""
    from deployments.claims import Claims

    async def abandoned(run: "FlowRun", why: str) -> None:
        if incident_id := run.parameters.get("incident_id"):
            async with services.sessions.begin() as session:
                await direct.ask(
                    session, incident_id, now=utcnow(), reason=f"Prefect failed the run ({why}): it goes on without it"
                )

    async with _client() as client:
        flows = await _deployed(client)
        await presence.held.wait()
        claims = Claims(client, flows, presence, abandoned=abandoned)
        await claims.reconcile(at_once=True)
        log.info("%s claims runs of %d deployments", presence.owner, len(flows))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_for_ever("events", lambda: _push(claims)))
                group.create_task(_for_ever("word of the relay", lambda: _hear(services.database_url, claims)))
                group.create_task(_sweep(client, claims))
                group.create_task(_for_ever("missed slots", lambda: _catch_up(services)))
        finally:
            await claims.close(GRACE_S)


@asynccontextmanager
async def _client() -> AsyncIterator["PrefectClient"]:
    """Open the clients that our own calls share with Prefect's engine.

    The engine looks for them in these contexts. Without, it makes four new ones for each run between the claim and the
    first line of the flow, 35 ms of the processor's time each.
    """
    from prefect.context import AsyncClientContext, SyncClientContext

    async with AsyncClientContext() as context:
        with SyncClientContext():
            yield context.client


async def _deployed(client: "PrefectClient") -> dict[UUID, "Flow[..., Any]"]:
    """Return the flows by deployment id.

    Raises:
        prefect.exceptions.ObjectNotFound: one is not deployed (yet).
    """
    from deployments.catalogue import deployments

    found = {}
    for deployment in deployments():
        answer = await client.read_deployment_by_name(deployment.full_name)
        # Nobody reads results afterwards; unless that is said, each run first asks the server where they would go.
        found[answer.id] = deployment.flow().with_options(persist_result=False)
    return found


async def _hear(database_url: str, claims: "Claims") -> None:
    """Hear from the relay itself of a run that it has just created: Prefect's event is some 40 ms behind."""
    async for _, run_id in listen(database_url, [RUNS]):
        if run_id and not claims.is_running(UUID(run_id)):
            await claims.noticed(UUID(run_id))


async def _push(claims: "Claims") -> None:
    """Hear of new runs and of cancellations some 40 ms after they happen."""
    from prefect.events.clients import get_events_subscriber
    from prefect.events.filters import EventFilter, EventNameFilter

    wanted = EventFilter(event=EventNameFilter(prefix=["prefect.flow-run."]))
    async with get_events_subscriber(filter=wanted) as events:
        log.info("listening to Prefect's events")
        async for event in events:
            # The event's name varies (Scheduled, Resuming, AwaitingRetry, Late); the type of the state does not.
            kind, run_id = event.resource.get("prefect.state-type"), event.resource.id
            run_id = UUID(run_id.removeprefix("prefect.flow-run."))
            ours = any(related.id == f"prefect.deployment.{id_}" for related in event.related for id_ in claims.flows)
            if ours and (kind == "CANCELLING" or (kind == "SCHEDULED" and not claims.is_running(run_id))):
                await claims.noticed(run_id)


async def _sweep(client: "PrefectClient", claims: "Claims") -> None:
    """Every two seconds, what events did not say; deployments made anew are found too."""
    rounds = 0
    while True:
        await asyncio.sleep(SWEEP_S)
        rounds += 1
        try:
            await claims.sweep()
            await claims.reconcile()
            if rounds % 10 == 0:
                claims.flows.update(await _deployed(client))
        except Exception as error:  # noqa: BLE001 - Prefect is away or failing; the next round is the retry
            log.warning("sweep: %s", _brief(error))


async def _catch_up(services: Services) -> None:
    """See every minute to slots of schedules that nobody has had."""
    from deployments.catch_up import catch_up

    launcher = Launcher(services.http, services.addresses.prefect_api)
    while True:
        await catch_up(services, launcher, now=utcnow())
        await asyncio.sleep(CATCH_UP_S)


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def main() -> int:
    """Run the responder until SIGTERM or SIGINT.

    Prefect's engine puts its own SIGTERM handler in place whenever it runs a flow in the main thread, and turns the
    signal into a crash of that run. So the loop lives in a thread of its own, and the main thread only waits.
    """
    log_to_stderr()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = load_settings()
        os.environ.update(client_environment(settings, Addresses.load(settings.home)))
    except ReanimateError as error:
        log.error("%s", error)  # noqa: TRY400 - one line, no traceback
        return 1
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(_run(loop, stop)), name="responder")
    thread.start()
    while thread.is_alive():
        thread.join(0.2)  # in slices, so that signals are handled
    logging.shutdown()
    os._exit(ended[0] if ended else 1)  # Prefect's own threads may wait a minute for a server that is away


def _run(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> int:
    try:
        loop.run_until_complete(_main(stop))
    except Exception:
        log.exception("the responder ends")
        return 1
    log.info("stopped")
    return 0


async def _main(stop: asyncio.Event) -> None:
    from tasks.wiring import services_open

    async with services_open() as services:
        await serve(services, stop)


if __name__ == "__main__":
    sys.exit(main())
