"""Impact × users → severity → deadline, and the warnings of its clock."""

from datetime import UTC, datetime, timedelta

import pytest

from reanimate.incidents.severity import RTO, Impact, Severity, Users, due_warnings, severity_of

OPENED = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("impact", "users", "severity"),
    [
        (Impact.UNAVAILABLE, Users.ALL, Severity.P0),
        (Impact.CORE, Users.SOME, Severity.P1),
        (Impact.PARTIAL, Users.FEW, Severity.P2),
        (Impact.SLIGHT, Users.SINGLE, Severity.P3),
    ],
)
def test_severity__the_articles_four_rows(impact: Impact, users: Users, severity: Severity) -> None:
    """The diagonal of the table is the article's."""
    assert severity_of(impact, users) is severity


def test_severity__never_worse_for_fewer_users_or_less_impact() -> None:
    """Fewer users or less impact never raise the severity."""
    for impact in Impact:
        row = [severity_of(impact, users) for users in Users]
        assert row == sorted(row)
    for users in Users:
        column = [severity_of(impact, users) for impact in Impact]
        assert column == sorted(column)


@pytest.mark.parametrize(("minutes", "shares"), [(7, []), (7.5, [0.5]), (12, [0.5, 0.8]), (20, [0.5, 0.8, 1.0])])
def test_due_warnings__at_each_threshold(minutes: float, shares: list[float]) -> None:
    """A P0 warns at 7.5, 12 and 15 minutes."""
    deadline = OPENED + RTO[Severity.P0]
    due = due_warnings(OPENED, deadline, set(), OPENED + timedelta(minutes=minutes))
    assert [warning.share for warning in due] == shares


def test_due_warnings__each_once() -> None:
    """A warning that was given is not given again."""
    deadline = OPENED + RTO[Severity.P0]
    late = OPENED + timedelta(minutes=16)
    assert [w.share for w in due_warnings(OPENED, deadline, {0.5, 0.8}, late)] == [1.0]
    assert "missed" in due_warnings(OPENED, deadline, {0.5, 0.8}, late)[0].message
