"""The four phases with their twelve steps, the states of an incident, and which state may follow which."""

from enum import StrEnum

from reanimate.errors import Refused

__all__ = ["OPEN_STATES", "STEPS", "TRANSITIONS", "Phase", "State", "Step", "ensure_transition"]


class Phase(StrEnum):
    DETECTION = "detection"
    CONTAINMENT = "containment"
    RECOVERY = "recovery"
    POSTMORTEM = "postmortem"


class Step(StrEnum):
    IDENTIFY_FAULT = "identify_fault"
    ASSESS_IMPACT = "assess_impact"
    SET_PRIORITY = "set_priority"
    ISOLATE = "isolate"
    DEGRADE = "degrade"
    NOTIFY = "notify"
    RECOVER = "recover"
    VERIFY = "verify"
    RETURN_TRAFFIC = "return_traffic"
    ANALYSE_CAUSE = "analyse_cause"
    UPDATE_DOCUMENTS = "update_documents"
    IMPROVE_MONITORING = "improve_monitoring"


STEPS: dict[Phase, tuple[Step, Step, Step]] = {
    Phase.DETECTION: (Step.IDENTIFY_FAULT, Step.ASSESS_IMPACT, Step.SET_PRIORITY),
    Phase.CONTAINMENT: (Step.ISOLATE, Step.DEGRADE, Step.NOTIFY),
    Phase.RECOVERY: (Step.RECOVER, Step.VERIFY, Step.RETURN_TRAFFIC),
    Phase.POSTMORTEM: (Step.ANALYSE_CAUSE, Step.UPDATE_DOCUMENTS, Step.IMPROVE_MONITORING),
}


class State(StrEnum):
    DETECTING = "detecting"  # an alert arrived; what it is, is being found out
    CONTAINING = "containing"  # the damage is being kept small
    RECOVERING = "recovering"  # recovery actions and their verification run
    RECOVERED = "recovered"  # a verification passed; the postmortem follows
    ESCALATED = "escalated"  # a person is called; containment stays in place
    CLOSED = "closed"  # a person ended it, with a reason


OPEN_STATES = frozenset({State.DETECTING, State.CONTAINING, State.RECOVERING, State.ESCALATED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.DETECTING: frozenset({State.CONTAINING, State.ESCALATED, State.CLOSED}),
    State.CONTAINING: frozenset({State.RECOVERING, State.ESCALATED, State.CLOSED}),
    State.RECOVERING: frozenset({State.RECOVERED, State.ESCALATED, State.CLOSED}),
    State.RECOVERED: frozenset({State.CLOSED}),
    State.ESCALATED: frozenset({State.DETECTING, State.CONTAINING, State.RECOVERING, State.CLOSED}),
    State.CLOSED: frozenset(),
}


def ensure_transition(current: State, wanted: State) -> None:
    """Let a move of the table pass.

    Raises:
        Refused: the move is not in the table; the message names those that are.
    """
    if wanted not in TRANSITIONS[current]:
        allowed = ", ".join(sorted(TRANSITIONS[current])) or "none: it has ended"
        raise Refused(f"an incident that is {current} cannot become {wanted}", hint=f"allowed from there: {allowed}")
