"""From a verdict to the alarm that says it: fingerprint, labels, a summary a person can read, evidence. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from reanimate.incidents.faults import Fault
from reanimate.watch.alarm import Alarm
from reanimate.watch.data_judge import DataOutcome, DataState
from reanimate.watch.dependencies import Dependency
from reanimate.watch.judge import Standing

__all__ = ["data_alarm", "data_fingerprint", "down_alarm", "down_fingerprint"]

Evidence = dict[str, Any]

DATA_FAULT = {
    DataState.LOST: Fault.KNOWLEDGE_BASE_DELETED,
    DataState.SILENT: Fault.VECTOR_DATABASE_DOWN,
}


def down_fingerprint(dependency: Dependency) -> str:
    return f"watch:{dependency.key}:down"


def data_fingerprint(dependency: Dependency, collection: str, state: DataState) -> str:
    return f"watch:{dependency.key}:{'data' if state is DataState.LOST else 'reads'}:{collection}"


def down_alarm(
    dependency: Dependency, standing: Standing, observed: Iterable[Evidence], *, flapping: bool, now: datetime
) -> Alarm:
    """Say that a dependency does not answer, since its first failed sample."""
    first = standing.first_failure
    how = standing.failures[-1].detail if standing.failures else "no answer"
    annotations = {"summary": f"{dependency.key} does not answer at {dependency.shown_url}: {how}"}
    if flapping:
        within = f"{dependency.rules.flap_window_s:g} s"
        annotations["flapping"] = f"{len(standing.changes)} changes within {within}"
    samples = (sample.as_evidence(f"probe {dependency.shown_url}") for sample in standing.failures)
    return Alarm(
        fingerprint=down_fingerprint(dependency),
        subject=dependency.key,
        starts_at=first.at if first else now,
        labels=dependency.labels,
        annotations=annotations,
        evidence=(*samples, *observed),
    )


def data_alarm(
    dependency: Dependency,
    collection: str,
    backup: str,
    state: DataState,
    outcome: DataOutcome,
    observed: Iterable[Evidence],
    *,
    since: datetime,
) -> Alarm:
    """Say that a server answers and its data is not there, or that no read is answered; `since` the first bad look."""
    found = "; ".join(f"{loss.check}: {loss.found}, expected {loss.expected}" for loss in outcome.losses)
    return Alarm(
        fingerprint=data_fingerprint(dependency, collection, state),
        subject=dependency.key,
        starts_at=since,
        labels={**dependency.labels, "fault": DATA_FAULT[state], "collection": collection},
        annotations={"summary": f"{collection} on {dependency.key}: {found or outcome.detail}", "backup": backup},
        evidence=(*outcome.as_evidence(), *observed),
    )
