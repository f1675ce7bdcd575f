"""Proving who posts: bearer tokens, basic credentials, and HMAC signatures with a timestamp. Pure.

Everything is compared in constant time, as bytes, and against every configured secret, so that one can be rotated.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

from pydantic import SecretStr

from reanimate.errors import Refused

__all__ = [
    "AuthenticationFailed",
    "basic_matches",
    "bearer_matches",
    "check_signature",
    "plain",
    "sign_body",
]


class AuthenticationFailed(Refused):
    """The sender is not who it should be. `status` is 401 for credentials, 403 for a signature that came too late."""

    def __init__(self, message: str, *, hint: str = "", status: int = 401) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def plain(secrets: Iterable[SecretStr]) -> list[str]:
    """Return the values of `secrets`, without empty ones: an empty secret must never open a door."""
    return [value for secret in secrets if (value := secret.get_secret_value())]


def _matches_any(given: str, secrets: Iterable[str]) -> bool:
    """Compare with all, always, so that the time taken says nothing about which was nearly right."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(given.encode(), secret.encode())
    return found


def _credentials(authorization: str, scheme: str) -> str | None:
    given, _, value = authorization.strip().partition(" ")
    return value.strip() if given.lower() == scheme else None


def bearer_matches(authorization: str, tokens: Iterable[str]) -> bool:
    """Say whether the Authorization header carries one of `tokens` as a bearer token."""
    token = _credentials(authorization, "bearer")
    return token is not None and _matches_any(token, tokens)


def basic_matches(authorization: str, pairs: Iterable[str]) -> bool:
    """Say whether the Authorization header carries one of `pairs` (user:password) as basic credentials."""
    encoded = _credentials(authorization, "basic")
    if encoded is None:
        return False
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    return _matches_any(decoded, pairs)


def sign_body(body: bytes, key: str, at: datetime) -> str:
    """Return the signature header for `body`: `t=<unix seconds>,v1=<HMAC-SHA256 over "t.body" in lower hex>`."""
    moment = str(int(at.timestamp()))
    return f"t={moment},v1={_mac(moment, body, key)}"


def _mac(moment: str, body: bytes, key: str) -> str:
    return hmac.new(key.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()


def check_signature(header: str, body: bytes, keys: Iterable[str], *, tolerance_s: float, now: datetime) -> None:
    """Accept `header` if one of its `v1` values was made with one of `keys`, at most `tolerance_s` seconds from `now`.

    Raises:
        AuthenticationFailed: 401 when it is malformed or matches no key; 403 when it is right but too old or too new.
    """
    parts = [part.strip().partition("=") for part in header.split(",")]
    moments = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(moments) != 1 or not moments[0].isascii() or not moments[0].isdigit() or len(moments[0]) > 12 or not given:
        raise AuthenticationFailed("the signature is malformed", hint="expected t=<unix seconds>,v1=<hex>")
    known = [_mac(moments[0], body, key) for key in keys]
    if not sum(_matches_any(value, known) for value in given):
        raise AuthenticationFailed("the signature matches no configured secret")
    age = now.timestamp() - int(moments[0])
    if abs(age) > tolerance_s:
        raise AuthenticationFailed(
            f"the signature is right, but {abs(age):.0f} s {'old' if age > 0 else 'ahead'}; "
            f"at most {tolerance_s:.0f} s are allowed",
            hint="sign each attempt anew, and check the clocks of both machines",
            status=403,
        )
