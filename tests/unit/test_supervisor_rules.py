"""The supervisor's rules: back-off, order, and what its journal says."""

import pytest

from reanimate.errors import ConfigInvalid
from reanimate.supervisor.journal import summarize
from reanimate.supervisor.part import Backoff, Job, ProcessSpec, check_needs, stop_waves

AT = "2026-11-23T01:00:{:02d}+00:00"


async def _nothing() -> None:
    return None


def _spec(name: str, *needs: str) -> ProcessSpec:
    return ProcessSpec(name, ("true",), needs=needs)


@pytest.mark.parametrize(("deaths", "delay"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, 6.4), (7, 10.0), (60, 10.0)])
def test_backoff__doubles_up_to_a_limit(deaths: int, delay: float) -> None:
    """The pause before a restart doubles with each death in a row and never passes ten seconds."""
    assert Backoff().delay_s(deaths) == pytest.approx(delay)


def test_stop_waves__what_others_need_goes_last() -> None:
    """A part is stopped only after every part that needs it, also through a job between them."""
    parts = [
        _spec("postgres"),
        Job("record", _nothing, needs=("postgres",)),
        _spec("gateway"),
        _spec("prefect", "record"),
        _spec("web", "record"),
        _spec("responder", "prefect"),
    ]
    assert [[spec.name for spec in wave] for wave in stop_waves(parts)] == [
        ["gateway", "web", "responder"],
        ["prefect"],
        ["postgres"],
    ]


def test_check_needs__unknown_or_later() -> None:
    """A need must be a part that comes before: a spelling mistake or a cycle is found before anything starts."""
    with pytest.raises(ConfigInvalid, match="'web' needs"):
        check_needs([_spec("web", "postgras"), _spec("postgres")])
    with pytest.raises(ConfigInvalid, match="two parts are called 'web'"):
        check_needs([_spec("web"), _spec("web")])


def test_summarize__counts_restarts_of_the_last_run() -> None:
    """Only the last `up` counts; a restart is counted, and the last exit is kept after it."""
    entries = [
        {"at": AT.format(0), "event": "system.starting", "pid": 1},
        {"at": AT.format(1), "event": "part.started", "part": "web", "pid": 2, "restart": True},
        {"at": AT.format(2), "event": "system.starting", "pid": 10},
        {"at": AT.format(3), "event": "part.started", "part": "web", "pid": 11, "restart": False},
        {"at": AT.format(4), "event": "part.ready", "part": "web", "pid": 11},
        {"at": AT.format(5), "event": "system.ready"},
        {"at": AT.format(6), "event": "part.died", "part": "web", "exit": "SIGKILL"},
    ]
    system = summarize(entries)
    assert system is not None
    assert (system.pid, system.ready) == (10, True)
    assert (system.parts[0].state, system.parts[0].restarts, system.parts[0].pid) == ("down", 0, None)
    entries.append({"at": AT.format(7), "event": "part.started", "part": "web", "pid": 12, "restart": True})
    again = summarize(entries)
    assert again is not None
    assert (again.parts[0].restarts, again.parts[0].pid, again.parts[0].last_exit) == (1, 12, "SIGKILL")


def test_summarize__nothing_yet() -> None:
    """Without a run there is nothing to say."""
    assert summarize([]) is None
