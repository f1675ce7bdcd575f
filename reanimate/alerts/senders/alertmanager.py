"""Prometheus Alertmanager's webhook, version 4. It signs nothing: a bearer token or basic credentials prove it."""

from datetime import datetime
from typing import Any

from reanimate.alerts.authentication import AuthenticationFailed, basic_matches, bearer_matches, plain
from reanimate.alerts.model import AlertStatus, IncomingAlert, Reading, RequestHead, bounded, digest
from reanimate.alerts.reading import WrongContentType, as_moment, as_object, as_text, as_texts, read_json
from reanimate.config import AlertSettings
from reanimate.errors import InputInvalid
from reanimate.secrets import Secrets

__all__ = ["SOURCE", "authenticate", "read"]

SOURCE = "alertmanager"
_VERSION = "4"


def authenticate(head: RequestHead, body: bytes, settings: AlertSettings, secrets: Secrets, now: datetime) -> None:
    """Accept one of the configured tokens or user:password pairs, or this installation's own intake token.

    Raises:
        AuthenticationFailed: none of them came.
    """
    given = head.headers.get("authorization", "")
    tokens = [*plain(settings.alertmanager_bearer), secrets.intake_token]
    if not (bearer_matches(given, tokens) or basic_matches(given, plain(settings.alertmanager_basic))):
        raise AuthenticationFailed(
            "no valid credentials came with the alert",
            hint="give Alertmanager's http_config the intake_token of secrets.json in the home directory, or set "
            "alerts.alertmanager_bearer or alerts.alertmanager_basic here",
        )


def read(head: RequestHead, body: bytes, now: datetime) -> Reading:
    """Return the alerts of a notification. Each is judged by its own status: a firing group may hold resolved ones.

    Raises:
        WrongContentType: it is not application/json.
        InputInvalid: it is not a notification of version 4.
    """
    if head.content_type != "application/json":
        raise WrongContentType(f"Alertmanager posts application/json, this is {head.content_type or 'of no type'}")
    message = as_object(read_json(body), "the body")
    if message.get("version") != _VERSION:
        raise InputInvalid(
            f"only version {_VERSION!r} of Alertmanager's webhook is understood, found {message.get('version')!r:.40}",
            hint="remove the custom `payload` from the receiver's webhook_config",
        )
    listed = message.get("alerts")
    if not isinstance(listed, list) or not listed:
        raise InputInvalid("alerts must be a list with at least one alert")
    group_key = as_text(message.get("groupKey"), "groupKey")
    # Grouping by nothing puts every alert there is into one group, which says nothing about what belongs together.
    group = f"{SOURCE} {group_key}" if message.get("groupLabels") else None
    alerts = tuple(_alert(item, f"alerts[{index}]", group, now) for index, item in enumerate(listed))
    return Reading(_key(group_key, alerts), alerts)


def _alert(item: Any, name: str, group: str | None, now: datetime) -> IncomingAlert:
    item = as_object(item, name)
    status = item.get("status")
    if status not in set(AlertStatus):
        raise InputInvalid(f"{name}.status must be firing or resolved, found {status!r:.40}")
    labels = as_texts(item.get("labels"), f"{name}.labels")
    fingerprint = item.get("fingerprint") or digest(*(f"{key}={labels[key]}" for key in sorted(labels)))[:16]
    return IncomingAlert(
        source=SOURCE,
        fingerprint=bounded(as_text(fingerprint, f"{name}.fingerprint")),
        status=AlertStatus(status),
        starts_at=as_moment(item.get("startsAt"), f"{name}.startsAt") or now,
        # While it fires, endsAt is only a guess that moves with every evaluation.
        ends_at=as_moment(item.get("endsAt"), f"{name}.endsAt") if status == AlertStatus.RESOLVED else None,
        labels=labels,
        annotations=as_texts(item.get("annotations"), f"{name}.annotations"),
        sender_group=group,
    )


def _key(group_key: str, alerts: tuple[IncomingAlert, ...]) -> str:
    """Alertmanager numbers nothing: the same group with the same news is a repetition, whoever of a pair sends it."""
    news = sorted(f"{a.fingerprint} {a.starts_at} {a.status} {a.ends_at}" for a in alerts)
    return digest(group_key, *news)
