"""CloudEvents 1.0 over HTTP, structured, binary and batched: our own watch, and whoever else can post one.

Any event counts as an alert. It is resolved if `data.status` says so or its type ends in `.resolved`, else it fires.
`data` may carry fingerprint, starts_at, ends_at, labels, annotations and evidence; without labels, its own plain
fields are taken for labels. HMAC is `X-Reanimate-Signature: t=<unix>,v1=<hex>` over `t.body`.
"""

import base64
import binascii
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from reanimate.alerts.authentication import AuthenticationFailed, bearer_matches, check_signature, plain
from reanimate.alerts.components import is_component
from reanimate.alerts.model import AlertStatus, IncomingAlert, Reading, RequestHead, bounded, digest
from reanimate.alerts.reading import WrongContentType, as_moment, as_object, as_text, as_texts, read_json
from reanimate.config import AlertSettings
from reanimate.errors import InputInvalid
from reanimate.secrets import Secrets

__all__ = ["SIGNATURE_HEADER", "SOURCE", "authenticate", "read"]

SOURCE = "cloudevents"
SIGNATURE_HEADER = "x-reanimate-signature"
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_RESOLVED = ("resolved", "recovered", "closed", "ok")
_FIRING = ("firing", "opened", "triggered", "alerting")
_OURS = {"fingerprint", "status", "starts_at", "ends_at", "labels", "annotations", "evidence"}

Json = dict[str, Any]


def authenticate(head: RequestHead, body: bytes, settings: AlertSettings, secrets: Secrets, now: datetime) -> None:
    """Accept a bearer token (this installation's own always is), or a fresh signature of the body.

    Raises:
        AuthenticationFailed: neither came, or the signature is too old.
    """
    tokens = [*plain(settings.cloudevents_bearer), secrets.intake_token]
    if bearer_matches(head.headers.get("authorization", ""), tokens):
        return
    signature = head.headers.get(SIGNATURE_HEADER)
    if signature is None:
        raise AuthenticationFailed(
            "no valid credentials came with the event",
            hint="send the intake_token of secrets.json as a bearer token, or set alerts.cloudevents_bearer or "
            "alerts.cloudevents_hmac here",
        )
    keys = plain(settings.cloudevents_hmac)
    check_signature(signature, body, keys, tolerance_s=settings.hmac_tolerance_s, now=now)
    if _is_binary(head):
        raise AuthenticationFailed(
            "the signature covers the body only, and this event has its attributes in headers",
            hint="send signed events in structured mode",
        )


def read(head: RequestHead, body: bytes, now: datetime) -> Reading:
    """Return the alerts of one event, or of a batch.

    Raises:
        WrongContentType: it is none of the three modes.
        InputInvalid: an attribute or a field of ours is missing or not what it should be.
    """
    events = _events(head, body)
    alerts = tuple(_alert(event, now) for event in events)
    keys = sorted(digest(as_text(event["source"], "source"), as_text(event["id"], "id")) for event in events)
    return Reading(keys[0] if len(keys) == 1 else digest(*keys), alerts)


def _is_binary(head: RequestHead) -> bool:
    return "ce-specversion" in head.headers and not head.content_type.startswith("application/cloudevents")


def _events(head: RequestHead, body: bytes) -> list[Json]:
    if _is_binary(head):
        return [_binary_event(head, body)]
    if head.content_type == _BATCH:
        listed = read_json(body)
        if not isinstance(listed, list) or not listed:
            raise InputInvalid("a batch must be a list with at least one event")
        return [_checked(item, f"event {index} of the batch") for index, item in enumerate(listed)]
    if head.content_type in (_STRUCTURED, "application/json"):
        return [_checked(read_json(body), "the event")]
    raise WrongContentType(
        f"a CloudEvent is {_STRUCTURED}, {_BATCH}, or has ce-* headers; this is {head.content_type or 'of no type'}"
    )


def _binary_event(head: RequestHead, body: bytes) -> Json:
    """Attributes come in ce-* headers, percent-encoded; the body is the data alone."""
    if body and head.content_type != "application/json" and not head.content_type.endswith("+json"):
        raise WrongContentType(f"the data of an event must be JSON, this is {head.content_type or 'of no type'}")
    event: Json = {name[3:]: unquote(value) for name, value in head.headers.items() if name.startswith("ce-")}
    if body:
        event["data"] = read_json(body)
    return _checked(event, "the event")


def _checked(item: Any, name: str) -> Json:
    event = as_object(item, name)
    if event.get("specversion") != "1.0":
        raise InputInvalid(f"{name}: specversion must be '1.0', found {event.get('specversion')!r:.40}")
    for attribute in ("id", "source", "type"):
        as_text(event.get(attribute), f"{name}: {attribute}")
    return event


def _data(event: Json) -> Json:
    if (encoded := event.get("data_base64")) is not None:
        try:
            return as_object(read_json(base64.b64decode(encoded, validate=True)), "data_base64")
        except (binascii.Error, TypeError, ValueError) as error:
            raise InputInvalid(f"data_base64 is not base64: {error}") from error
    data = event.get("data")
    return as_object(data, "data") if data is not None else {}


def _alert(event: Json, now: datetime) -> IncomingAlert:
    data = _data(event)
    kind = as_text(event["type"], "type")
    family, _, ending = kind.rpartition(".")
    if ending not in (*_FIRING, *_RESOLVED):
        family = kind
    status = data.get("status") if data.get("status") in set(AlertStatus) else None
    subject = as_text(event["subject"], "subject") if event.get("subject") else ""
    fingerprint = data.get("fingerprint") or digest(as_text(event["source"], "source"), family, subject)[:16]
    evidence = data.get("evidence")
    return IncomingAlert(
        source=SOURCE,
        fingerprint=bounded(as_text(fingerprint, "data.fingerprint")),
        status=AlertStatus(status or ("resolved" if ending in _RESOLVED else "firing")),
        starts_at=as_moment(data.get("starts_at"), "data.starts_at") or as_moment(event.get("time"), "time") or now,
        ends_at=as_moment(data.get("ends_at"), "data.ends_at"),
        labels=_labels(data, family, subject),
        annotations=as_texts(data.get("annotations"), "data.annotations"),
        evidence=tuple(evidence) if isinstance(evidence, list) else (),
    )


def _labels(data: Json, family: str, subject: str) -> dict[str, str]:
    if data.get("labels") is None:
        plain_fields = {k: v for k, v in data.items() if k not in _OURS and not isinstance(v, dict | list)}
        labels = as_texts(plain_fields, "data")
    else:
        labels = as_texts(data["labels"], "data.labels")
    labels.setdefault("alertname", family)
    if is_component(subject):
        labels.setdefault("component", subject)
    return labels
