"""The figures of an incident."""

from datetime import timedelta

import pytest
from incident_story import escalated, story

from reanimate.incidents.figures import incident_figures


def test_figures__of_a_recovered_incident() -> None:
    """Each time is what its definition says, from the moments of the record."""
    told = story()
    figures = incident_figures(told.incident, told.entries)
    assert figures.detect_s == pytest.approx(1.13)
    assert figures.contain_s == pytest.approx(1.01)
    assert figures.recover_s == pytest.approx(36.82)
    assert figures.total_s == pytest.approx(37.95)
    assert figures.rto_share == pytest.approx(36.82 / 3600)
    assert figures.rto_met is True


def test_figures__not_known_is_none() -> None:
    """A time that the record does not hold is None, never zero, and an open incident has met nothing."""
    told = story(until_s=1.2)
    figures = incident_figures(told.incident, told.entries)
    assert (figures.contain_s, figures.recover_s, figures.total_s) == (None, None, None)
    assert figures.rto_met is None
    assert figures.steps == ()


def test_figures__objective_missed() -> None:
    """A recovery after the deadline missed its objective."""
    told = story()
    told.incident.recovered_at = told.incident.opened_at + timedelta(hours=1, seconds=1)
    assert incident_figures(told.incident, told.entries).rto_met is False


def test_figures__steps_in_their_order() -> None:
    """Every action of every step is one figure, in the order in which they began."""
    told = story()
    steps = incident_figures(told.incident, told.entries).steps
    assert [(step.step, step.action) for step in steps][6:9] == [
        ("recover", "wait_for_target"),
        ("recover", "restore_collections"),
        ("recover", "switch_aliases"),
    ]
    restore = steps[7]
    assert (restore.outcome, restore.attempts, restore.seconds) == ("done", 2, 16.5)
    assert restore.started_at
    assert restore.ended_at


def test_figures__a_running_step_has_no_end() -> None:
    """A step that has begun and not ended is running."""
    told = story(until_s=20)
    last = incident_figures(told.incident, told.entries).steps[-1]
    assert (last.action, last.outcome, last.ended_at, last.seconds) == ("restore_collections", "running", None, None)


def test_figures__an_undo_without_ordinal_finds_its_action() -> None:
    """An undo belongs to the action it names, and leaves the time of the work as it was."""
    told = escalated()
    steps = incident_figures(told.incident, told.entries).steps
    undone = [step for step in steps if step.outcome == "undone"]
    assert [(step.action, step.seconds) for step in undone] == [("restore_collections", 15.1)]
    assert next(step for step in steps if step.action == "wait_for_target").outcome == "done"
