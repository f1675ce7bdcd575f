"""Named retry policies. What may be tried again is decided by the library's errors, not here."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from sqlalchemy.exc import InterfaceError, OperationalError

from reanimate.errors import is_transient

__all__ = ["ARTIFACT", "BACKUP", "ONCE", "PATIENT", "if_transient"]

_RECORD_AWAY = (OperationalError, InterfaceError)


async def if_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Say whether a failed task may be tried again."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, BaseException) and (is_transient(error) or isinstance(error, _RECORD_AWAY))


# A step of an incident waits a quarter of an hour for the record or another driver: it is not given up for that.
PATIENT: dict[str, Any] = {
    "retries": 50,
    "retry_delay_seconds": [0.2, 0.5, 1, 2, *[5] * 26, *[40] * 20],
    "retry_condition_fn": if_transient,
}

BACKUP: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 60],
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": if_transient,
}

# What would happen twice if it were tried twice.
ONCE: dict[str, Any] = {"retries": 0}

# Documents for people: worth one try, and no delay.
ARTIFACT: dict[str, Any] = {"retries": 0}
