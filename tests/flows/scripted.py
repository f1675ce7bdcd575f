"""Actions that do as a script says, in place of the real ones: how long each takes, and which fail.

Everything around them is real: the step runner, the record, the locks, Prefect. Each run of an action is a line in
the trace, so that a test can say what was done, how often and by which process. Run as a program, it is the responder
with these actions.
"""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reanimate.errors import CheckFailed
from reanimate.runbooks.action import Action, ActionContext, Params
from reanimate.runbooks.registry import ACTIONS

FOLDER = "REANIMATE_TEST_SCRIPT"  # read from the environment by processes started by tests


@dataclass(frozen=True)
class Traced:
    """One line of the trace."""

    incident: str
    action: str
    event: str
    """begin, end or undo."""
    pid: int


class Script:
    """What actions do, and what they did, in files that several processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._knobs, self._trace = folder / "script.json", folder / "trace.txt"

    def set(self, **knobs: dict[str, Any]) -> None:
        """Set what actions do from now on, by name: `{"pause_s": 2}`, `{"fail": True}`."""
        self._knobs.write_text(json.dumps(knobs))

    def knobs(self, action: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._knobs.read_text()) if self._knobs.exists() else {}
        return found.get(action, {})

    def trace(self, incident: str, action: str, event: str) -> None:
        with self._trace.open("a") as file:
            file.write(f"{incident} {action} {event} {os.getpid()}\n")

    def traced(self, incident: str) -> list[Traced]:
        lines = self._trace.read_text().splitlines() if self._trace.exists() else []
        split = (line.split() for line in lines)
        return [Traced(item[0], item[1], item[2], int(item[3])) for item in split if item[0] == incident]


class Scripted(Action[Params]):
    """An action of the registry, by another's name."""

    def __init__(self, original: Action[Any], script: Script) -> None:
        self.name = original.name  # type: ignore[misc]
        self.params = original.params  # type: ignore[misc]
        self.safe_as_reflex = original.safe_as_reflex  # type: ignore[misc]
        self._script = script

    async def act(self, context: ActionContext[Params]) -> dict[str, Any]:
        knobs = self._script.knobs(self.name)
        self._script.trace(context.incident.id, self.name, "begin")
        await asyncio.sleep(knobs.get("pause_s", 0))
        if knobs.get("fail"):
            raise CheckFailed(f"{self.name} was made to fail")
        self._script.trace(context.incident.id, self.name, "end")
        return {"passed": True}

    async def undo(self, context: ActionContext[Params]) -> dict[str, Any] | None:
        self._script.trace(context.incident.id, self.name, "undo")
        return {}


def install(script: Script) -> dict[str, Action[Any]]:
    """Put scripted actions into the registry, and return the real ones."""
    real = dict(ACTIONS)
    ACTIONS.update({name: Scripted(action, script) for name, action in real.items()})
    return real


if __name__ == "__main__":
    from deployments.responder import main

    install(Script(Path(os.environ[FOLDER])))
    sys.exit(main())
