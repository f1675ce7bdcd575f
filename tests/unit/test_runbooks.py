"""Runbooks: a closed vocabulary, validated whole; every shipped one is usable and every act has its undo said."""

import pytest

from reanimate.errors import InputInvalid, UnknownAction
from reanimate.incidents.faults import Fault
from reanimate.incidents.lifecycle import STEPS, Phase, Step
from reanimate.incidents.triage import Finding
from reanimate.runbooks.choice import books_of, choose
from reanimate.runbooks.model import joined_steps, parse_runbook, runbook_for, runbooks
from reanimate.runbooks.registry import ACTIONS

MINIMAL = """
fault: vector_database_down
title: t
symptoms: [s]
expected: {containment: soon}
containment: {isolate: [], degrade: [], notify: []}
recovery: {recover: [], verify: [], return_traffic: []}
"""


def test_shipped__all_load() -> None:
    """Every shipped runbook is valid, and `unknown` is among them."""
    assert {Fault.VECTOR_DATABASE_DOWN, Fault.KNOWLEDGE_BASE_DELETED, Fault.UNKNOWN} <= set(runbooks())


def test_shipped__every_recovery_verifies_or_calls_a_person() -> None:
    """No runbook can reach the end of its recovery without a verification or a person."""
    for book in runbooks().values():
        calls = [call.action for step in Step for call in book.recovery.get(step, ())]
        assert {"verify_collections", "verify_answers", "call_person"} & set(calls)


def test_registry__every_action_says_its_undo() -> None:
    """Each action says what its undo does, and has a sentence for a dry run."""
    for name, action in ACTIONS.items():
        assert action.undoes, name
        assert type(action).__doc__, name
        assert action.name == name


def test_registry__destructive_actions_can_be_undone() -> None:
    """What changes data brings an undo of its own."""
    for action in ACTIONS.values():
        if action.destructive:
            assert type(action).undo is not type(action).__mro__[1].undo


def test_runbook_for__fault_without_one_calls_a_person() -> None:
    """A fault without a runbook gets `unknown`, which contains nothing blindly."""
    book, _ = runbook_for(Fault.OUT_OF_MEMORY)
    assert book.fault is Fault.UNKNOWN
    assert book.containment[Step.DEGRADE] == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("isolate: []", "isolate: [{action: reboot_everything}]"), "no action is called 'reboot_everything'"),
        (("isolate: []", "isolate: [{action: return_reads, with: {stepz: [1]}}]"), "stepz"),
        (("isolate: []", "isolate: [{action: return_reads, with: {steps: [500]}}]"), "100"),
        (("isolate: [],", ""), "lacks the steps isolate"),
        (("isolate: []", "isolate: [], verify: []"), "no step of containment"),
        (("title: t", "title: t\nshell: rm -rf /"), "shell"),
        (("vector_database_down", "gremlins"), "fault"),
        (("title: t", "title: ["), "not YAML"),
    ],
)
def test_parse__refuses_what_is_not_in_the_vocabulary(change: tuple[str, str], said: str) -> None:
    """A runbook that names an unknown action, step, parameter, key or fault is an error that says which."""
    with pytest.raises((InputInvalid, UnknownAction), match=said):
        parse_runbook(MINIMAL.replace(*change), "test.yaml")


def test_reflex__only_safe_actions() -> None:
    """A reflex may not restore, switch or delete anything."""
    text = MINIMAL + "reflex: [{action: move_reads_away}, {action: restore_collections}]\n"
    with pytest.raises(InputInvalid, match="reflex"):
        parse_runbook(text, "test.yaml")


def test_joined_steps__each_call_once() -> None:
    """Two runbooks that ask for the same thing ask once; detection and postmortem are always there."""
    books = [runbook_for(Fault.VECTOR_DATABASE_DOWN)[0], runbook_for(Fault.KNOWLEDGE_BASE_DELETED)[0]]
    planned = joined_steps(books)
    recover = [call.action for call in planned[Phase.RECOVERY][Step.RECOVER]]
    assert recover.count("restore_collections") == 1
    assert [call.action for call in planned[Phase.DETECTION][Step.IDENTIFY_FAULT]] == ["identify_fault"]
    assert set(planned[Phase.POSTMORTEM]) == set(STEPS[Phase.POSTMORTEM])
    assert joined_steps([])[Phase.RECOVERY][Step.RECOVER] == []


def test_choose__surest_first_person_last() -> None:
    """Runbooks come surest first, each once; a fault without one calls a person after the rest."""
    found = [
        Finding(Fault.OUT_OF_MEMORY, "unknown", 0.9),
        Finding(Fault.KNOWLEDGE_BASE_DELETED, "vector:primary", 0.7),
        Finding(Fault.VECTOR_DATABASE_DOWN, "vector:primary", 0.95),
        Finding(Fault.CPU_OVERLOAD, "unknown", 0.3),
    ]
    books, text = choose(found)
    assert [book.fault for book in books] == ["vector_database_down", "knowledge_base_deleted", "unknown"]
    assert books_of(text) == books
