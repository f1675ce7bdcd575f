"""Since when something is wrong, and what is protected: what an incident's choice of a backup goes by."""

from datetime import UTC, datetime, timedelta

import pytest

from reanimate.backups.names import is_protected
from reanimate.db.tables import Incident
from reanimate.runbooks.restoring import fault_began

OPENED = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fault_at", "began"),
    [
        (None, OPENED),
        (OPENED - timedelta(seconds=5), OPENED - timedelta(seconds=5)),
        (OPENED - timedelta(days=3), OPENED - timedelta(hours=1)),
    ],
)
def test_fault__began_not_long_before_its_incident(fault_at: datetime | None, began: datetime) -> None:
    """An alert that claims to fire for days must not lead to a backup that is days old."""
    assert fault_began(Incident(opened_at=OPENED, fault_at=fault_at)) == began


@pytest.mark.parametrize(
    ("wanted", "names", "found"),
    [
        ([], ["kb"], True),
        (["kb"], ["kb"], True),
        (["kb"], ["kb2"], False),
        (["library"], ["library", "kb"], True),
        (["k*"], ["library", "kb"], True),
        (["k?"], ["kb-old"], False),
    ],
)
def test_protected__by_name_or_glob(wanted: list[str], names: list[str], found: bool) -> None:
    """An exact name never matches another's; a glob does; no names mean everything."""
    assert is_protected(wanted, names) is found
