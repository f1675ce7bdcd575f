"""One incident as plain JSON values."""

import orjson
import pytest
from incident_story import escalated, story, view_of


def test_assemble__is_json() -> None:
    """A view holds nothing that JSON does not."""
    assert orjson.loads(orjson.dumps(view_of(story(hostile=True))))["chain"]["ok"] is True


@pytest.mark.parametrize(
    ("until_s", "states"),
    [
        (1.2, ["waiting", "waiting", "waiting", "waiting"]),
        (1.65, ["running", "waiting", "waiting", "waiting"]),
        (20, ["done", "done", "running", "waiting"]),
        (60, ["done", "done", "done", "done"]),
    ],
)
def test_assemble__phases(until_s: float, states: list[str]) -> None:
    """A phase is as far as its steps are."""
    assert [phase["state"] for phase in view_of(story(until_s=until_s))["phases"]] == states


def test_assemble__running_step_counts_its_time() -> None:
    """An action that runs shows how long it has been running."""
    recover = view_of(story(until_s=20))["phases"][2]["steps"][0]
    assert [action["state"] for action in recover["actions"]] == ["done", "running"]
    assert recover["actions"][1]["duration_s"] == pytest.approx(10.1)


def test_assemble__clock() -> None:
    """The clock is unset, runs, and stops at the recovery."""
    assert view_of(story(until_s=1.2))["clock"]["state"] == "unset"
    running = view_of(story(until_s=20))["clock"]
    assert (running["state"], round(running["spent_s"], 2)) == ("running", 18.87)
    assert running["left_s"] == pytest.approx(3600 - 18.87)
    met = view_of(story())["clock"]
    assert (met["state"], round(met["spent_s"], 2)) == ("met", 36.82)


def test_assemble__clock_missed_while_open() -> None:
    """An objective that is missed is missed before the incident ends."""
    clock = view_of(story(until_s=20))["clock"]
    assert clock["state"] == "running"
    late = escalated()
    late.incident.rto_s = 5.0
    assert view_of(late)["clock"]["state"] == "missed"


def test_assemble__holds_and_gateways() -> None:
    """Holds say whether they are in force, gateways whether they obey the newest change."""
    view = view_of(story(until_s=20))
    assert [(hold["switch"], hold["in_force"]) for hold in view["holds"]] == [("read_share", True), ("writes", True)]
    assert [gateway["behind"] for gateway in view["gateways"]] == [False]
    assert not any(hold["in_force"] for hold in view_of(story())["holds"])


def test_assemble__headline() -> None:
    """One line says what matters now, and who is needed."""
    assert view_of(story(until_s=20))["headline"] == {
        "tone": "busy",
        "text": "Recovering now – recover: restore collections",
    }
    assert view_of(story())["headline"]["tone"] == "good"
    needed = view_of(escalated())["headline"]
    assert needed["tone"] == "bad"
    assert needed["text"].startswith("A person is needed: kb-")


def test_assemble__links() -> None:
    """The page, its JSON, its postmortem and the run in Prefect can be reached."""
    links = view_of(story())["links"]
    assert links["json"] == links["page"] + ".json"
    assert links["prefect_run"].endswith("/runs/flow-run/0193e5a2-77f0-7c1d-9a3e-2b6c1f0d4e55")
