"""The switch document: the most careful claim wins, and only signed, fresh, newer documents are obeyed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.errors import InputInvalid, Refused
from reanimate.switches.document import Claim, SwitchDocument, effective, read_document, sign

NOW = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)
KEY = "k" * 32


def document(
    seq: int = 1, ledger: str = "a", started: datetime = NOW, claims: tuple[Claim, ...] = ()
) -> SwitchDocument:
    return SwitchDocument(ledger, started, seq, NOW, NOW + timedelta(seconds=30), claims)


@given(st.lists(st.integers(0, 100), min_size=1))
def test_effective__the_most_careful_wins(shares: list[int]) -> None:
    """Of several claims on one share the smallest holds, so that lifting another never raises it above."""
    assert effective(Claim("read_share", "primary", share) for share in shares) == [
        Claim("read_share", "primary", min(shares))
    ]


def test_effective__scopes_stay_apart() -> None:
    """A claim on one collection does not touch another."""
    claims = [Claim("writes", "primary/kb", "hold"), Claim("writes", "primary/other", "allow")]
    assert {claim.scope: claim.value for claim in effective(claims)} == {"primary/kb": "hold", "primary/other": "allow"}


def test_effective__unknown_switch() -> None:
    """A switch that does not exist is an error, not a setting nobody obeys."""
    with pytest.raises(InputInvalid, match="no switch"):
        effective([Claim("nonsense", "primary", 1)])


def test_read_document__round_trip() -> None:
    """What was signed is read back whole."""
    body = document(claims=(Claim("read_share", "primary", 10),)).encode()
    assert read_document(body, {"x-reanimate-signature": sign(body, KEY)}, KEY, NOW).switches[0].value == 10


@pytest.mark.parametrize("headers", [{}, {"x-reanimate-signature": "v1=00"}, {"x-reanimate-signature": "ü"}])
def test_read_document__bad_signature(headers: dict[str, str]) -> None:
    """Nothing unsigned is obeyed."""
    with pytest.raises(Refused, match="signature"):
        read_document(document().encode(), headers, KEY, NOW)


def test_read_document__changed_body() -> None:
    """A signature is for one body only."""
    signature = sign(document(seq=1).encode(), KEY)
    with pytest.raises(Refused):
        read_document(document(seq=2).encode(), {"x-reanimate-signature": signature}, KEY, NOW)


def test_read_document__expired() -> None:
    """A document that was underway too long is a replay."""
    body = document().encode()
    with pytest.raises(Refused, match="expired"):
        read_document(body, {"x-reanimate-signature": sign(body, KEY)}, KEY, NOW + timedelta(seconds=31))


def test_is_newer__by_number_then_by_ledger() -> None:
    """A later number of the same ledger, or a later ledger, replaces; anything else does not."""
    assert document(2).is_newer_than(document(1))
    assert not document(1).is_newer_than(document(1))
    later = document(0, "b", NOW + timedelta(days=1))
    assert later.is_newer_than(document(99))
    assert not document(99).is_newer_than(later)
    assert document(0).is_newer_than(None)
