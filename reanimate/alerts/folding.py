"""What an alert means for the incidents there are: joins one, opens one, repeats, or ends. Decisions only; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from reanimate.alerts.components import UNKNOWN
from reanimate.alerts.model import AlertStatus, IncomingAlert
from reanimate.alerts.troubles import Trouble, trouble_of
from reanimate.incidents.lifecycle import State

__all__ = [
    "GROUP_LABEL",
    "Candidate",
    "Decision",
    "Ignored",
    "Joined",
    "KnownAlert",
    "OpenIncident",
    "Opened",
    "Repeat",
    "ResolvedRecorded",
    "Seen",
    "fold",
    "identity",
    "relation",
]

GROUP_LABEL = "incident_group"
"""A label by which a person says which alerts belong together."""

_WORKED_ON = frozenset({State.DETECTING, State.CONTAINING, State.RECOVERING})


@dataclass(frozen=True)
class Candidate:
    """An alert with what we know about where it belongs."""

    alert: IncomingAlert
    component: str
    agent: str
    delivery_id: int
    received_at: datetime

    @property
    def group(self) -> str | None:
        return self.alert.labels.get(GROUP_LABEL) or None

    @cached_property
    def trouble(self) -> Trouble | None:
        return trouble_of(self.component, self.alert.labels, self.alert.annotations)


@dataclass(frozen=True)
class OpenIncident:
    """An incident that has not ended, as far as folding asks."""

    id: str
    agent: str
    state: State
    components: frozenset[str]
    """Its own and those of its alerts."""
    last_alert_at: datetime
    groups: frozenset[str] = frozenset()
    sender_groups: frozenset[str] = frozenset()
    troubles: frozenset[Trouble] = frozenset()
    """Those that its alerts and its faults say."""


@dataclass(frozen=True)
class KnownAlert:
    """An alert that has come before."""

    id: int | None
    """None while it is decided about but not written yet."""
    incident_id: str | None


@dataclass(frozen=True)
class Seen:
    """What was stored before this alert came.

    `alerts` is keyed by (source, fingerprint, starts_at, status), `last_incident` by (source, fingerprint): the
    incident that a fingerprint last belonged to, ended or not.
    """

    alerts: Mapping[tuple[str, str, datetime, str], KnownAlert] = field(default_factory=dict)
    last_incident: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Joined:
    """It is a further alert of an open incident."""

    incident_id: str
    why: str


@dataclass(frozen=True)
class Opened:
    """It is a new incident."""


@dataclass(frozen=True)
class Repeat:
    """It is known; it is counted and starts nothing, even when its incident has ended."""

    alert_id: int | None
    incident_id: str | None


@dataclass(frozen=True)
class ResolvedRecorded:
    """The sender says that it is over; it is written down, and the incident stays as it is."""

    incident_id: str


@dataclass(frozen=True)
class Ignored:
    """It is kept, and belongs to no incident."""

    why: str


Decision = Joined | Opened | Repeat | ResolvedRecorded | Ignored


def identity(alert: IncomingAlert) -> tuple[str, str, datetime, str]:
    """Return what makes two alerts the same."""
    return alert.source, alert.fingerprint, alert.starts_at, alert.status


def fold(candidate: Candidate, incidents: Sequence[OpenIncident], seen: Seen, window: timedelta) -> Decision:
    """Decide about one alert, given the open `incidents` and what was `seen` before.

    `window` is how long after an incident's last alert a related one still joins it.
    """
    alert = candidate.alert
    if (known := seen.alerts.get(identity(alert))) is not None:
        return Repeat(known.id, known.incident_id)
    last = seen.last_incident.get((alert.source, alert.fingerprint))
    if alert.status is AlertStatus.RESOLVED:
        fired = seen.alerts.get((alert.source, alert.fingerprint, alert.starts_at, AlertStatus.FIRING))
        ended = (fired and fired.incident_id) or last
        return ResolvedRecorded(ended) if ended else Ignored("it resolves an alert that never fired here")
    if last is not None and any(incident.id == last for incident in incidents):
        return Joined(last, "the same fingerprint")
    related = [(incident, why) for incident in incidents if (why := relation(candidate, incident, window)) is not None]
    if not related:
        return Opened()
    nearest, why = max(related, key=lambda pair: (pair[0].last_alert_at, pair[0].id))
    return Joined(nearest.id, why)


def relation(candidate: Candidate, incident: OpenIncident, window: timedelta) -> str | None:
    """Say why an alert belongs to an incident of its agent, or None.

    A component that is being worked on takes its further alerts whatever the window: two recoveries of one thing at
    the same time would work against each other. A trouble that is mended by itself joins its like only. What waits
    for a person takes no other component's alerts: nobody would contain them.
    """
    if candidate.agent != incident.agent:
        return None
    if candidate.trouble is not None and not candidate.trouble.fits(incident.troubles):
        return None
    same = candidate.component != UNKNOWN and candidate.component in incident.components
    if same and incident.state in _WORKED_ON:
        return f"the same component, {candidate.component}, is being recovered"
    if candidate.received_at - incident.last_alert_at > window:
        return None
    if same:
        return f"the same component, {candidate.component}, within the window"
    if candidate.group is not None and candidate.group in incident.groups:
        return f"the same {GROUP_LABEL}, {candidate.group}, within the window"
    kind = _kind(candidate.component)
    kinds = {_kind(component) for component in incident.components} - {None}
    if kind is not None and kind in kinds and incident.state in _WORKED_ON:
        return f"the same kind of component, {kind}, within the window"
    by_sender = candidate.alert.sender_group is not None and candidate.alert.sender_group in incident.sender_groups
    # A sender may group by severity alone: two components of different kinds are two troubles nevertheless.
    if by_sender and (kind is None or not kinds):
        return "grouped together by its sender, within the window"
    return None


def _kind(component: str) -> str | None:
    return None if component == UNKNOWN else component.partition(":")[0]
