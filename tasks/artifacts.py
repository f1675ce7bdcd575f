"""What a run shows at its end in Prefect."""

from prefect import task
from prefect.runtime import flow_run

from reanimate.incidents.views import incident_view
from reanimate.orchestrator.artifacts import artifacts_of, publish
from reanimate.orchestrator.launcher import Launcher
from tasks.retrying import ARTIFACT
from tasks.wiring import get_services

__all__ = ["write_artifacts"]


@task(name="write artifacts", timeout_seconds=15, **ARTIFACT)
async def write_artifacts(incident_id: str) -> list[str]:
    """Attach steps, timeline and postmortem to this run, two seconds each at most; return what could not be."""
    services = await get_services()
    launcher = Launcher(services.http, services.addresses.prefect_api)
    return await publish(launcher, flow_run.id, artifacts_of(await incident_view(services, incident_id)))
