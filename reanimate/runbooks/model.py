"""Runbooks: one YAML file per fault, validated whole before anything acts on it."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reanimate.errors import ConfigInvalid, InputInvalid, UnknownAction
from reanimate.incidents.faults import Fault
from reanimate.incidents.lifecycle import STEPS, Phase, Step
from reanimate.runbooks.registry import ACTIONS

__all__ = ["ActionCall", "Runbook", "joined_steps", "parse_runbook", "runbook_for", "runbooks"]

_BOOKS = Path(__file__).parent / "books"

Planned = dict[Phase, dict[Step, list["ActionCall"]]]


class ActionCall(BaseModel):
    """One action of the registry, with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: str
    params: dict[str, Any] = Field(default_factory=dict, alias="with")

    @model_validator(mode="after")
    def _is_in_the_registry(self) -> "ActionCall":
        if self.action not in ACTIONS:
            known = ", ".join(sorted(ACTIONS))
            raise UnknownAction(f"no action is called {self.action!r}", hint=f"the registry has: {known}")
        ACTIONS[self.action].params.model_validate(self.params)
        return self


class Runbook(BaseModel):
    """What to do about one fault. Detection and postmortem are the same for all and are not written here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    title: str
    symptoms: tuple[str, ...]
    expected: dict[str, str]
    """What a person may expect: how long containment and recovery usually take, in words."""
    reflex: tuple[ActionCall, ...] = ()
    """Safe containment that is done at once when the incident opens, before any flow starts."""
    containment: dict[Step, tuple[ActionCall, ...]]
    recovery: dict[Step, tuple[ActionCall, ...]]

    @model_validator(mode="after")
    def _steps_belong_to_their_phase(self) -> "Runbook":
        for phase, steps in ((Phase.CONTAINMENT, self.containment), (Phase.RECOVERY, self.recovery)):
            if missing := [step for step in STEPS[phase] if step not in steps]:
                raise ValueError(f"{phase} lacks the steps {', '.join(missing)}; an empty list says: nothing to do")
            if strange := [step for step in steps if step not in STEPS[phase]]:
                raise ValueError(f"{', '.join(strange)} is no step of {phase}; its steps are {', '.join(STEPS[phase])}")
        if any(not ACTIONS[call.action].safe_as_reflex for call in self.reflex):
            raise ValueError("a reflex may only name actions that are safe without a person or a flow")
        return self


def parse_runbook(text: str, source: str) -> Runbook:
    """Read and validate one runbook.

    Raises:
        UnknownAction: it names an action that is not in the registry.
        InputInvalid: anything else that is wrong with it, every problem listed.
    """
    try:
        return Runbook.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputInvalid(f"runbook {source} is not YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise InputInvalid(f"runbook {source} is not usable: {problems}") from error


@cache
def _texts() -> Mapping[Fault, str]:
    found: dict[Fault, str] = {}
    for path in sorted(_BOOKS.glob("*.yaml")):
        text = path.read_text()
        book = parse_runbook(text, path.name)
        if book.fault != path.stem:
            raise ConfigInvalid(f"runbook {path.name} is for {book.fault}; file and fault must share a name")
        found[book.fault] = text
    return found


def runbooks() -> dict[Fault, Runbook]:
    """Return every shipped runbook, validated."""
    return {fault: parse_runbook(text, f"{fault}.yaml") for fault, text in _texts().items()}


def runbook_for(fault: Fault) -> tuple[Runbook, str]:
    """Return the runbook of a fault and its exact text; a fault without one of its own gets `unknown`."""
    text = _texts().get(fault) or _texts()[Fault.UNKNOWN]
    return parse_runbook(text, f"{fault}.yaml"), text


_STANDARD: Planned = {
    Phase.DETECTION: {step: [ActionCall(action=step)] for step in STEPS[Phase.DETECTION]},
    Phase.POSTMORTEM: {step: [ActionCall(action=step)] for step in STEPS[Phase.POSTMORTEM]},
}


def joined_steps(books: Sequence[Runbook]) -> Planned:
    """Return the actions of every step when several faults are met by several runbooks: in order, each call once."""
    planned: Planned = {phase: {step: [] for step in steps} for phase, steps in STEPS.items()}
    planned |= _STANDARD
    for book in books:
        for phase, steps in ((Phase.CONTAINMENT, book.containment), (Phase.RECOVERY, book.recovery)):
            for step, calls in steps.items():
                planned[phase][step].extend(call for call in calls if call not in planned[phase][step])
    return planned
