"""Passes of P0 recoveries: a signed header with which a call may use the reserve of a quota. Pure."""

import hashlib
import hmac

__all__ = ["PASS_HEADER", "read_pass", "sign_pass"]

PASS_HEADER = "x-reanimate-recovery"


def sign_pass(incident: str, until: int, key: str) -> str:
    """Return the header's value: incident, when it ends (seconds since 1970), and an HMAC over both."""
    return f"v1.{incident}.{until}.{_mac(incident, until, key)}"


def read_pass(value: str, key: str, now: float) -> str | None:
    """Return the incident of a pass; None if it is no pass of ours, or has ended."""
    version, _, rest = value.partition(".")
    rest, _, mac = rest.rpartition(".")
    incident, _, until = rest.rpartition(".")
    if version != "v1" or not incident or not until.isascii() or not until.isdigit() or len(until) > 12:
        return None
    if not hmac.compare_digest(mac.encode(), _mac(incident, int(until), key).encode()) or int(until) <= now:
        return None
    return incident


def _mac(incident: str, until: int, key: str) -> str:
    return hmac.new(key.encode(), f"quota pass\n{incident}\n{until}".encode(), hashlib.sha256).hexdigest()
