"""Versions of configuration files and server settings, every few minutes."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.config_history import keep_config

__all__ = ["keep_configuration"]


@flow(name="keep-config", flow_run_name="keep-config")
async def keep_configuration() -> State[Any]:
    """Keep a version of every named file and setting that has changed since the last time."""
    kept = await keep_config()
    changes = ", ".join(kept["changes"]) or "nothing changed"
    problems = f"; not kept: {'; '.join(kept['problems'])}" if kept["problems"] else ""
    return Completed(message=f"{kept['watched']} watched; {changes}{problems}"[:2000])
