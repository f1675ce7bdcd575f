"""Many things done side by side in one run, and the state that tells what became of each."""

from collections.abc import Mapping
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from reanimate.errors import Busy
from reanimate.protection.slots import Held

__all__ = ["Outcomes", "results_of", "together"]

Outcomes = dict[str, State[Any]]

_SHOWN = 2000


async def results_of(outcomes: Mapping[str, State[Any]]) -> dict[str, Any]:
    """Return what those that succeeded returned."""
    return {name: await state.aresult() for name, state in outcomes.items() if state.is_completed()}


async def together(outcomes: Mapping[str, State[Any]], slot: Held, *, busy_is_fine: bool = False) -> State[Any]:
    """Return the state of the whole run, and note in its slot what failed.

    With `busy_is_fine`, what somebody else was working on was left to them, and that is no failure.
    """
    left, failed = [], {}
    for name, state in outcomes.items():
        if state.is_completed():
            continue
        error = await state.aresult(raise_on_failure=False)
        if busy_is_fine and isinstance(error, Busy):
            left.append(name)
        else:
            failed[name] = str(error) or state.message
    if failed:
        story = "; ".join(f"{name}: {why}" for name, why in failed.items())
        slot.error = f"{len(failed)} of {len(outcomes)} failed: {story}"[:_SHOWN]
        return Failed(name="Incomplete", message=slot.error)
    done = ", ".join(name for name in outcomes if name not in left) or "nothing, there was nothing to do"
    rest = f"; left to who was at it: {', '.join(left)}" if left else ""
    return Completed(message=f"done: {done}{rest}"[:_SHOWN])
