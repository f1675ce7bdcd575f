"""The table of states, and what must never be a path through it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.errors import Refused
from reanimate.incidents.lifecycle import OPEN_STATES, STEPS, TRANSITIONS, Phase, State, Step, ensure_transition


def test_steps__twelve_in_four_phases() -> None:
    """The article's twelve steps are all there, three a phase, none twice."""
    steps = [step for phase in Phase for step in STEPS[phase]]
    assert len(steps) == 12
    assert set(steps) == set(Step)


def _paths(start: State, seen: tuple[State, ...]) -> list[tuple[State, ...]]:
    seen = (*seen, start)
    return [seen] + [path for after in TRANSITIONS[start] if after not in seen for path in _paths(after, seen)]


def test_recovered__only_after_recovering() -> None:
    """No path reaches `recovered` without the phase in which the verification runs."""
    paths = [path for path in _paths(State.DETECTING, ()) if path[-1] is State.RECOVERED]
    assert paths
    assert all(path[-2] is State.RECOVERING for path in paths)


def test_open_states__each_can_call_a_person() -> None:
    """Whatever an open incident is doing, a person can be called and can close it."""
    for state in OPEN_STATES - {State.ESCALATED}:
        assert State.ESCALATED in TRANSITIONS[state]
    assert all(State.CLOSED in TRANSITIONS[state] for state in OPEN_STATES)


def test_closed__is_the_end() -> None:
    """Nothing follows `closed`."""
    assert TRANSITIONS[State.CLOSED] == frozenset()


@given(st.sampled_from(State), st.sampled_from(State))
def test_ensure_transition__names_what_is_allowed(current: State, wanted: State) -> None:
    """A refused move says which ones are allowed; an allowed one passes."""
    if wanted in TRANSITIONS[current]:
        ensure_transition(current, wanted)
        return
    with pytest.raises(Refused) as refused:
        ensure_transition(current, wanted)
    assert all(allowed in str(refused.value) for allowed in TRANSITIONS[current])
