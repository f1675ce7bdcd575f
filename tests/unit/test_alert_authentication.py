"""Who may post: tokens, credentials, signatures."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from reanimate.alerts.authentication import (
    AuthenticationFailed,
    basic_matches,
    bearer_matches,
    check_signature,
    plain,
    sign_body,
)

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("Bearer new", True),
        ("bearer old", True),
        ("Bearer  new ", True),
        ("Bearer ne", False),
        ("Bearer neww", False),
        ("Bearer", False),
        ("Basic new", False),
        ("new", False),
        ("", False),
        ("Bearer нов", False),
    ],
)
def test_bearer__any_of_several_tokens(header: str, accepted: bool) -> None:
    """While a token is rotated both are good; anything else is not, whatever it looks like."""
    assert bearer_matches(header, ["old", "new"]) is accepted


def test_bearer__nothing_configured_opens_nothing() -> None:
    """No token, and an empty one, keep the door shut for the empty token too."""
    assert not bearer_matches("Bearer ", [])
    assert not bearer_matches("Bearer ", plain([SecretStr("")]))


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (_basic("am:secret"), True),
        (_basic("am:geheim:1"), True),
        (_basic("am:wrong"), False),
        (_basic("ä:ö"), False),
        ("Basic !!!", False),
        ("Basic " + base64.b64encode(b"\xff\xfe").decode(), False),
        ("Bearer am:secret", False),
    ],
)
def test_basic__user_and_password(header: str, accepted: bool) -> None:
    """User and password together must be one of those configured; what is not base64 of text is not."""
    assert basic_matches(header, ["am:secret", "am:geheim:1"]) is accepted


def test_signature__any_of_several_keys() -> None:
    """A body signed with the old or the new key passes, and so does a header that carries both signatures."""
    for key in ("old", "new"):
        check_signature(sign_body(b"{}", key, NOW), b"{}", ["old", "new"], tolerance_s=300, now=NOW)
    both = sign_body(b"{}", "unknown", NOW) + "," + sign_body(b"{}", "new", NOW).split(",")[1]
    check_signature(both, b"{}", ["new"], tolerance_s=300, now=NOW)


@pytest.mark.parametrize("body", [b"{} ", b"", b'{"a":1}'])
def test_signature__another_body(body: bytes) -> None:
    """A signature is good for the very bytes it was made over."""
    with pytest.raises(AuthenticationFailed, match="no configured secret") as caught:
        check_signature(sign_body(b"{}", "key", NOW), body, ["key"], tolerance_s=300, now=NOW)
    assert caught.value.status == 401


@pytest.mark.parametrize("off", [301, -301, 86_400])
def test_signature__replayed(off: int) -> None:
    """A right signature that is too old, or from the future, is a replay: 403."""
    header = sign_body(b"{}", "key", NOW)
    with pytest.raises(AuthenticationFailed, match="at most 300 s") as caught:
        check_signature(header, b"{}", ["key"], tolerance_s=300, now=NOW + timedelta(seconds=off))
    assert caught.value.status == 403


def test_signature__moment_is_signed_too() -> None:
    """Nobody can freshen an old signature by writing another time into it."""
    old = sign_body(b"{}", "key", NOW - timedelta(days=1))
    fresh = f"t={int(NOW.timestamp())},{old.split(',')[1]}"
    with pytest.raises(AuthenticationFailed, match="no configured secret"):
        check_signature(fresh, b"{}", ["key"], tolerance_s=300, now=NOW)


@pytest.mark.parametrize(
    "header", ["", "t=1", "v1=aa", "t=,v1=aa", "t=x,v1=aa", "t=1,t=2,v1=aa", "t=-1,v1=aa", "t=" + "9" * 40 + ",v1=a"]
)
def test_signature__malformed(header: str) -> None:
    """What has not the form t=…,v1=… is refused, never an error."""
    with pytest.raises(AuthenticationFailed, match="malformed"):
        check_signature(header, b"{}", ["key"], tolerance_s=300, now=NOW)


def test_signature__no_key_configured() -> None:
    """Without a key no signature is right, not even one made with the empty key."""
    with pytest.raises(AuthenticationFailed):
        check_signature(sign_body(b"{}", "", NOW), b"{}", plain([SecretStr("")]), tolerance_s=300, now=NOW)
