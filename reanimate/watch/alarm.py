"""What the watch says: an alarm about one dependency and one problem, and the CloudEvent it becomes. Pure."""

import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

__all__ = ["Alarm", "Event", "event_of"]

SOURCE = "reanimate/watch"
KEPT_EVIDENCE = 30

Json = dict[str, Any]


@dataclass(frozen=True)
class Alarm:
    """One problem of one dependency, firing since `starts_at`. The fingerprint is the same each time it happens."""

    fingerprint: str
    subject: str
    starts_at: datetime
    labels: dict[str, str]
    annotations: dict[str, str]
    evidence: tuple[Json, ...] = ()

    def with_evidence(self, more: tuple[Json, ...], **annotations: str) -> "Alarm":
        """Return the alarm with more evidence (the newest are kept) and changed annotations."""
        return replace(
            self,
            annotations={**self.annotations, **annotations},
            evidence=(*self.evidence, *more)[-KEPT_EVIDENCE:],
        )

    def as_json(self) -> Json:
        return {**asdict(self), "starts_at": self.starts_at.isoformat(), "evidence": list(self.evidence)}

    @classmethod
    def from_json(cls, stored: Json) -> "Alarm":
        return cls(
            fingerprint=stored["fingerprint"],
            subject=stored["subject"],
            starts_at=datetime.fromisoformat(stored["starts_at"]),
            labels=dict(stored["labels"]),
            annotations=dict(stored["annotations"]),
            evidence=tuple(stored["evidence"]),
        )


@dataclass(frozen=True)
class Event:
    """A CloudEvent 1.0 about an alarm, as it is stored and posted."""

    body: Json = field(repr=False)

    @property
    def id(self) -> str:
        return str(self.body["id"])

    @property
    def firing(self) -> bool:
        return bool(self.body["type"] == "reanimate.alert.firing")

    @property
    def fingerprint(self) -> str:
        return str(self.body["data"]["fingerprint"])

    @property
    def alarm(self) -> Alarm:
        return Alarm.from_json({**self.body["data"], "subject": self.body["subject"]})

    def encoded(self) -> bytes:
        return orjson.dumps(self.body)


def event_of(alarm: Alarm, now: datetime, *, ends_at: datetime | None = None) -> Event:
    """Make the event that tells the intake that `alarm` fires, or, with `ends_at`, that it ended."""
    data = alarm.as_json()
    subject = data.pop("subject")
    if ends_at is not None:
        data["ends_at"] = ends_at.isoformat()
    return Event(
        {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": SOURCE,
            "type": "reanimate.alert.firing" if ends_at is None else "reanimate.alert.resolved",
            "subject": subject,
            "time": now.isoformat(),
            "datacontenttype": "application/json",
            "data": data,
        }
    )
