"""What real senders' bodies say, read into our words."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from reanimate.alerts.authentication import AuthenticationFailed, sign_body
from reanimate.alerts.model import Reading, RequestHead
from reanimate.alerts.reading import WrongContentType
from reanimate.alerts.senders import senders
from reanimate.config import AlertSettings
from reanimate.errors import InputInvalid
from reanimate.secrets import Secrets

NOW = datetime(2026, 11, 22, 6, 5, tzinfo=UTC)
JSON = RequestHead({"content-type": "application/json; charset=utf-8"})
STRUCTURED = RequestHead({"content-type": "application/cloudevents+json"})
SECRETS = Secrets("p", "c", "own-token")
PAYLOADS = Path(__file__).parent.parent / "payloads"


def captured(name: str) -> Any:
    return json.loads((PAYLOADS / f"alertmanager_{name}.json").read_bytes())["body"]


def alertmanager(body: Any, head: RequestHead = JSON) -> Reading:
    return senders()["alertmanager"].read(head, json.dumps(body).encode(), NOW)


def event(**changes: Any) -> dict[str, Any]:
    whole = {
        "specversion": "1.0",
        "id": "1",
        "source": "reanimate/watch",
        "type": "reanimate.alert.firing",
        "subject": "vector:primary",
        "time": "2026-11-22T06:04:00Z",
        "data": {
            "fingerprint": "watch:vector:primary:down",
            "starts_at": "2026-11-22T07:03:00+01:00",
            "labels": {"fault": "vector_database_down", "component": "vector:primary"},
            "annotations": {"summary": "primary refuses connections"},
            "evidence": [{"check": "liveness", "found": "refused"}],
        },
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def cloudevents(body: Any, head: RequestHead = STRUCTURED) -> Reading:
    return senders()["cloudevents"].read(head, json.dumps(body).encode(), NOW)


def test_senders__found_by_their_files() -> None:
    """Every module of the package is a sender under its own name."""
    assert set(senders()) >= {"alertmanager", "cloudevents"}


def test_alertmanager__captured_firing() -> None:
    """A real notification of two alerts is two alerts, with nanoseconds cut and the year 1 read as no end."""
    first, second = alertmanager(captured("firing")).alerts
    assert (first.fingerprint, first.status) == ("4a044f0f6050aed9", "firing")
    assert first.starts_at == datetime(2026, 11, 22, 6, 2, 58, 228295, tzinfo=UTC)
    assert first.ends_at is None
    assert first.title == "Qdrant kb-search is unreachable"
    assert second.labels["instance"] == "127.0.0.1:6343"
    assert first.sender_group is not None
    assert first.sender_group == second.sender_group


def test_alertmanager__captured_mixed() -> None:
    """A group that fires may hold resolved alerts: each is judged by its own status."""
    first, second = alertmanager(captured("mixed")).alerts
    assert (first.status, second.status) == ("resolved", "firing")
    assert first.ends_at == datetime(2026, 11, 22, 6, 3, 12, tzinfo=UTC)


def test_alertmanager__captured_resolved() -> None:
    """The last one resolved comes without annotations and is still readable."""
    (only,) = alertmanager(captured("resolved")).alerts
    assert only.status == "resolved"
    assert only.title == "QdrantDown"


def test_alertmanager__repeat_has_the_same_key() -> None:
    """A repetition, also from the other of a pair, has the same key: order, end guess and receiver do not matter."""
    body = captured("firing")
    repeated = captured("firing")
    repeated["alerts"].reverse()
    repeated["alerts"][0]["endsAt"] = "2026-11-22T06:10:00Z"
    repeated |= {"externalURL": "http://other", "notification_reason": "repeat interval elapsed", "receiver": "b"}
    assert alertmanager(body).delivery_key == alertmanager(repeated).delivery_key


def test_alertmanager__news_has_another_key() -> None:
    """Each of the captured bodies says something new."""
    keys = {alertmanager(captured(name)).delivery_key for name in ("firing", "mixed", "resolved")}
    assert len(keys) == 3


def test_alertmanager__grouped_by_nothing() -> None:
    """A group without labels holds every alert there is, which says nothing about what belongs together."""
    (alert, _) = alertmanager(captured("firing") | {"groupLabels": {}, "groupKey": "{}:{}"}).alerts
    assert alert.sender_group is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "1"}, "version"),
        ({"version": None}, "version"),
        ({"alerts": []}, "at least one"),
        ({"alerts": None}, "alerts must be a list"),
        ({"alerts": ["x"]}, r"alerts\[0\] must be an object"),
        ({"alerts": [{"status": "alerting"}]}, r"alerts\[0\].status"),
        ({"alerts": [{"status": "firing", "startsAt": "yesterday"}]}, r"alerts\[0\].startsAt"),
        ({"alerts": [{"status": "firing", "startsAt": "2026-11-22T06:00:00"}]}, "time zone"),
        ({"alerts": [{"status": "firing", "labels": []}]}, r"alerts\[0\].labels"),
        ({"groupKey": None}, "groupKey"),
    ],
)
def test_alertmanager__unreadable(change: dict[str, Any], message: str) -> None:
    """What cannot be read is said by field."""
    with pytest.raises(InputInvalid, match=message):
        alertmanager(captured("firing") | change)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'"text"', b"\xff\xfe", b'{"version":"4"'])
@pytest.mark.parametrize("source", ["alertmanager", "cloudevents"])
def test_read__not_an_object(source: str, body: bytes) -> None:
    """What is not a JSON object is refused in words."""
    with pytest.raises(InputInvalid):
        senders()[source].read(JSON, body, NOW)


@pytest.mark.parametrize("source", ["alertmanager", "cloudevents"])
def test_read__content_type(source: str) -> None:
    """A type that the sender does not send is told apart from a bad body."""
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        with pytest.raises(WrongContentType):
            senders()[source].read(RequestHead({"content-type": content_type}), b"{}", NOW)


def test_read__unicode_and_nul() -> None:
    """Any script is kept; NUL, which Postgres cannot hold, becomes the replacement character."""
    body = captured("firing")
    body["alerts"][0]["labels"] = {"dienst": "Wissensdatenbank ☃ 知識", "bad\x00": "a\x00b", "n": 1, "deep": {"a": []}}
    (alert, _) = alertmanager(body).alerts
    assert alert.labels == {
        "dienst": "Wissensdatenbank ☃ 知識",
        "bad�": "a�b",
        "n": "1",
        "deep": '{"a":[]}',
    }


def test_cloudevents__our_own_watch() -> None:
    """An event of the watch keeps its fingerprint, its start in UTC, and its evidence."""
    (alert,) = cloudevents(event()).alerts
    assert (alert.fingerprint, alert.status) == ("watch:vector:primary:down", "firing")
    assert alert.starts_at == datetime(2026, 11, 22, 6, 3, tzinfo=UTC)
    assert alert.evidence == ({"check": "liveness", "found": "refused"},)
    assert alert.title == "primary refuses connections"


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("reanimate.alert.firing", None, "firing"),
        ("reanimate.alert.resolved", None, "resolved"),
        ("com.example.disk.full", None, "firing"),
        ("com.example.disk.recovered", None, "resolved"),
        ("com.example.disk.full", "resolved", "resolved"),
        ("com.example.disk.resolved", "firing", "firing"),
        ("com.example.disk.full", "whatever", "firing"),
    ],
)
def test_cloudevents__status(kind: str, status: str | None, expected: str) -> None:
    """`data.status` decides, then the end of the type; an event that says nothing fires."""
    (alert,) = cloudevents(event(type=kind, data={"status": status})).alerts
    assert alert.status == expected


def test_cloudevents__of_a_stranger() -> None:
    """Without our fields, firing and resolved of one thing share a fingerprint, and plain data become labels."""
    firing = event(source="/disk", type="disk.firing", data={"service": "kb", "size": 5, "tags": ["a"]})
    (fired,) = cloudevents(firing).alerts
    (over,) = cloudevents(firing | {"id": "2", "type": "disk.resolved"}).alerts
    assert fired.fingerprint == over.fingerprint
    assert fired.labels == {"service": "kb", "size": "5", "alertname": "disk", "component": "vector:primary"}
    assert fired.starts_at == datetime(2026, 11, 22, 6, 4, tzinfo=UTC)


def test_cloudevents__without_any_time() -> None:
    """An event that names no time began when it arrived."""
    (alert,) = cloudevents(event(time=None, data=None)).alerts
    assert alert.starts_at == NOW


def test_cloudevents__binary_mode() -> None:
    """Attributes in ce-* headers, percent-encoded, and the data alone in the body say the same as structured mode."""
    whole = event(subject="vector:prim är")
    data = whole.pop("data")
    headers = {f"ce-{name}": value for name, value in whole.items()} | {
        "ce-subject": "vector:prim%20%C3%A4r",
        "content-type": "application/json",
    }
    binary = senders()["cloudevents"].read(RequestHead(headers), json.dumps(data).encode(), NOW)
    assert binary == cloudevents(event(subject="vector:prim är"))


def test_cloudevents__binary_mode_without_data() -> None:
    """An empty body is no data, not an error."""
    headers = {f"ce-{name}": value for name, value in event(data=None).items()}
    (alert,) = senders()["cloudevents"].read(RequestHead(headers), b"", NOW).alerts
    assert alert.labels["component"] == "vector:primary"


def test_cloudevents__batch() -> None:
    """A batch is several alerts; its key depends on the events, not on their order."""
    batch = RequestHead({"content-type": "application/cloudevents-batch+json"})
    one, two = event(id="1"), event(id="2", data={"fingerprint": "other"})
    reading = cloudevents([one, two], batch)
    assert [alert.fingerprint for alert in reading.alerts] == ["watch:vector:primary:down", "other"]
    assert reading.delivery_key == cloudevents([two, one], batch).delivery_key
    with pytest.raises(InputInvalid, match="at least one"):
        cloudevents([], batch)
    with pytest.raises(InputInvalid, match="event 1 of the batch"):
        cloudevents([one, event(id="")], batch)


def test_cloudevents__key_is_source_and_id() -> None:
    """The same id of another source is another event; the content does not matter."""
    key = cloudevents(event()).delivery_key
    assert key == cloudevents(event(data=None)).delivery_key
    assert key != cloudevents(event(source="elsewhere")).delivery_key
    assert key != cloudevents(event(id="2")).delivery_key


def test_cloudevents__base64_data() -> None:
    """Data may come as base64; what is not base64 is said so."""
    packed = base64.b64encode(json.dumps(event()["data"]).encode()).decode()
    assert cloudevents(event(data=None, data_base64=packed)) == cloudevents(event())
    for bad in ("***", 5):
        with pytest.raises(InputInvalid, match="base64"):
            cloudevents(event(data_base64=bad))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": None}, "id"),
        ({"source": ""}, "source"),
        ({"type": 5}, "type"),
        ({"data": [1]}, "data must be an object"),
        ({"data": {"starts_at": "noon"}}, "data.starts_at"),
        ({"data": {"fingerprint": 5}}, "data.fingerprint"),
        ({"data": {"labels": "x"}}, "data.labels"),
        ({"time": "2026-11-22"}, "time"),
    ],
)
def test_cloudevents__unreadable(change: dict[str, Any], message: str) -> None:
    """What cannot be read is said by field."""
    body = event() | change
    if change.get("time"):
        body["data"].pop("starts_at")
    with pytest.raises(InputInvalid, match=message):
        cloudevents({name: value for name, value in body.items() if value is not None})


def test_cloudevents__endless_fingerprint() -> None:
    """A fingerprint longer than an index takes is replaced by its digest, and stays itself each time."""
    (one,) = cloudevents(event(data={"fingerprint": "x" * 100_000})).alerts
    (two,) = cloudevents(event(data={"fingerprint": "x" * 100_000})).alerts
    assert one.fingerprint == two.fingerprint
    assert len(one.fingerprint) == 64


def _accepts(source: str, headers: dict[str, str], settings: AlertSettings) -> bool:
    try:
        senders()[source].authenticate(RequestHead(headers), b"{}", settings, SECRETS, NOW)
    except AuthenticationFailed:
        return False
    return True


@pytest.mark.parametrize("source", ["alertmanager", "cloudevents"])
def test_authenticate__own_token_always(source: str) -> None:
    """The token that this installation made for itself is good everywhere; nothing else is, until it is configured."""
    assert _accepts(source, {"authorization": "Bearer own-token"}, AlertSettings())
    assert not _accepts(source, {"authorization": "Bearer "}, AlertSettings())
    assert not _accepts(source, {}, AlertSettings())


def test_authenticate__one_source_does_not_open_another() -> None:
    """A secret of one sender is worth nothing at the next."""
    settings = AlertSettings(
        alertmanager_bearer=(SecretStr("am"),),
        alertmanager_basic=(SecretStr("u:p"),),
        cloudevents_bearer=(SecretStr("ce"),),
        cloudevents_hmac=(SecretStr("key"),),
    )
    basic = {"authorization": "Basic " + base64.b64encode(b"u:p").decode()}
    signed = {"x-reanimate-signature": sign_body(b"{}", "key", NOW), "content-type": "application/json"}
    for source, headers, accepted in [
        ("alertmanager", {"authorization": "Bearer am"}, True),
        ("alertmanager", basic, True),
        ("alertmanager", {"authorization": "Bearer ce"}, False),
        ("alertmanager", signed, False),
        ("cloudevents", {"authorization": "Bearer ce"}, True),
        ("cloudevents", signed, True),
        ("cloudevents", {"authorization": "Bearer am"}, False),
        ("cloudevents", basic, False),
    ]:
        assert _accepts(source, headers, settings) is accepted, (source, headers)


def test_authenticate__signed_binary_mode() -> None:
    """A signature covers the body only, so an event whose attributes are in headers cannot be proved by one."""
    settings = AlertSettings(cloudevents_hmac=(SecretStr("key"),))
    headers = {"x-reanimate-signature": sign_body(b"{}", "key", NOW), "ce-specversion": "1.0"}
    assert not _accepts("cloudevents", headers, settings)
