"""What an incident leaves on its run in Prefect: steps, timeline and postmortem, as Markdown that the UI renders."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reanimate.errors import ReanimateError
from reanimate.incidents.chart import mermaid_timeline
from reanimate.incidents.postmortem import render, steps_table
from reanimate.orchestrator.launcher import Launcher

__all__ = ["Artifact", "artifacts_of", "publish"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """One document. Keys are lowercase with dashes, as Prefect asks for."""

    key: str
    markdown: str
    description: str


def artifacts_of(view: Mapping[str, Any]) -> tuple[Artifact, ...]:
    """Return the documents of an incident from its view (`incidents.views.incident_view`)."""
    incident_id = view["incident"]["id"]
    return (
        Artifact(f"steps-{incident_id}", steps_table(view), f"Every step of {incident_id}, with its time"),
        Artifact(f"timeline-{incident_id}", mermaid_timeline(view) + "\n", f"What ran when in {incident_id}"),
        Artifact(f"postmortem-{incident_id}", render(view), f"The postmortem of {incident_id}"),
    )


async def publish(launcher: Launcher, run_id: str, artifacts: Sequence[Artifact]) -> list[str]:
    """Attach the documents to a run, each within the launcher's budget, and return what could not be, in words.

    They are for reading: none of them is worth an error or a delay of what matters.
    """
    problems = []
    for artifact in artifacts:
        try:
            await launcher.write_artifact(
                run_id, key=artifact.key, markdown=artifact.markdown, description=artifact.description
            )
        except ReanimateError as error:
            log.warning("artifact %s was not written: %s", artifact.key, error)
            problems.append(f"{artifact.key}: {error}")
    return problems
