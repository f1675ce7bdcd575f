"""Which runs a responder takes, whose they are, and which scheduled ones have become pointless."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Pending, Running, Scheduled

from deployments.claims import is_due, owner_of, superseded

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def run(*, deployment: UUID | None = None, due: datetime | None = NOW, auto: bool = True, **more: object) -> FlowRun:
    return FlowRun.model_validate(
        {
            "id": uuid4(),
            "flow_id": uuid4(),
            "deployment_id": deployment,
            "expected_start_time": due,
            "auto_scheduled": auto,
            "state": Scheduled(),
            "state_type": StateType.SCHEDULED,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        (None, True),
        (NOW - timedelta(hours=1), True),
        (NOW + timedelta(milliseconds=500), True),
        (NOW + timedelta(days=1), False),
    ],
)
def test_is_due__only_when_its_time_has_come(due: datetime | None, expected: bool) -> None:
    """A run of tomorrow's schedule exists already and is left alone."""
    assert is_due(run(due=due), NOW) is expected


def test_owner_of__is_the_mark_then_the_claim_and_never_a_worker() -> None:
    """A kill between the claim and the mark still leaves the owner's name; a worker's run is not ours to judge."""
    me = "responder:host:1:abcd"
    assert owner_of(run(infrastructure_pid=me, state=Running())) == me
    assert owner_of(run(state=Pending(message=f"claimed by {me}"))) == me
    assert owner_of(run(infrastructure_pid="host:4711", state=Running())) is None
    assert owner_of(run(state=Pending())) is None


def test_superseded__keeps_the_newest_of_each_schedule_and_all_that_people_started() -> None:
    """After a night without a responder one backup runs, not one for each hour that was missed."""
    nightly, other = uuid4(), uuid4()
    hours = [run(deployment=nightly, due=NOW - timedelta(hours=ago)) for ago in (2, 0, 1)]
    by_hand = run(deployment=nightly, due=NOW - timedelta(hours=3), auto=False)
    alone = run(deployment=other)
    assert superseded([*hours, by_hand, alone]) == [hours[0], hours[2]]


def test_superseded__schedules_of_one_deployment_are_no_rivals() -> None:
    """The weekly backup of everything is not pointless because a nightly one is due."""
    both = uuid4()
    weekly = run(deployment=both, due=NOW - timedelta(hours=1), parameters={"schedule": "weekly"})
    nights = [run(deployment=both, due=NOW - timedelta(days=ago), parameters={"schedule": "nightly"}) for ago in (1, 0)]
    assert superseded([weekly, *nights]) == [nights[0]]
