"""What a run shows in Prefect, as Markdown that the UI renders: of an incident, and of the plan of a restore."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reanimate.errors import ReanimateError
from reanimate.incidents.chart import mermaid_timeline
from reanimate.incidents.postmortem import render, steps_table
from reanimate.orchestrator.launcher import Launcher
from reanimate.restores.plan import RestorePlan
from reanimate.restores.wording import plan_lines

__all__ = ["Artifact", "artifacts_of", "plan_document", "publish"]

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


def plan_document(plan: RestorePlan) -> Artifact:
    """Return the plan of a restore, the backups that were not chosen with it."""
    lines = {**plan_lines(plan), **{f"note {number}": note for number, note in enumerate(plan.warnings, 1)}}
    rows = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in lines.items())
    others = "\n".join(
        "| " + " | ".join(map(_cell, (one.id, one.repository, one.taken_at, one.proof, one.reason))) + " |"
        for one in plan.others
    )
    markdown = f"| plan | |\n|---|---|\n{rows}\n"
    if others:
        markdown += f"\n| not chosen | in | taken | proof | why not |\n|---|---|---|---|---|\n{others}\n"
    return Artifact("restore-plan", markdown, f"What restoring {plan.collection} would do")


def _cell(text: str | None) -> str:
    return (text or "–").replace("|", "\\|").replace("\n", " ")


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
