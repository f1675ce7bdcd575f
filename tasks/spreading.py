"""Tasks side by side: so many at once as the settings say, in this process or on a Dask cluster."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prefect import Task, get_run_logger
from prefect.client.schemas.objects import State

from reanimate.config import BackupSettings
from tasks.wiring import get_services

__all__ = ["Call", "spread"]

Call = tuple[Task[..., Any], dict[str, Any]]
_Run = Callable[[Task[..., Any], dict[str, Any]], Awaitable[State[Any]]]

_CONNECT = "8s"


async def spread(calls: Mapping[str, Call]) -> dict[str, State[Any]]:
    """Run tasks, `backups.parallel` at once, and return their states in the order given. One that fails stops no other.

    Prefect's own pool of threads cannot be cancelled and, while it ends, would stop every other run of a responder.
    Our tasks do their heavy work in threads and processes of their own: the loop of the flow is enough for them.
    """
    settings = (await get_services()).settings.backups
    limit = asyncio.Semaphore(settings.parallel)
    async with _place(settings) as run:

        async def one(task: Task[..., Any], parameters: dict[str, Any]) -> State[Any]:
            async with limit:
                return await run(task, parameters)

        states = await asyncio.gather(*(one(*call) for call in calls.values()))
    return dict(zip(calls, states, strict=True))


async def _here(task: Task[..., Any], parameters: dict[str, Any]) -> State[Any]:
    state: State[Any] = await task(**parameters, return_state=True)
    return state


@asynccontextmanager
async def _place(settings: BackupSettings) -> AsyncIterator[_Run]:
    """Yield what runs a task. A cluster that is not there is no reason to take no backup: they run here then."""
    runner = None
    if settings.runner == "dask":
        try:
            runner = await asyncio.to_thread(_connected, str(settings.dask_address))
        except (ImportError, OSError, TimeoutError) as error:
            get_run_logger().warning("the Dask cluster cannot be used, this process does the work: %s", error)
    if runner is None:
        yield _here
        return

    async def there(task: Task[..., Any], parameters: dict[str, Any]) -> State[Any]:
        """Run it on the cluster; when that is lost, here. What its worker had of it, a lock keeps apart from ours."""
        try:
            future = runner.submit(task, parameters=parameters)
            try:
                await asyncio.to_thread(future.wait)
            except asyncio.CancelledError:
                future.wrapped_future.cancel()
                raise
            if future.state.is_final():
                state: State[Any] = future.state
                return state
            why: object = await asyncio.to_thread(future.wrapped_future.exception)
        except Exception as error:  # noqa: BLE001 - whatever the cluster died of, the work is to be done
            why = error
        get_run_logger().warning("%s is done here, the Dask cluster was lost: %s", task.name, why)
        return await _here(task, parameters)

    try:
        yield there
    finally:
        await asyncio.to_thread(runner.__exit__, None, None, None)


def _connected(address: str) -> Any:
    """Return Prefect's runner for the cluster, connected.

    Raises:
        ImportError: prefect-dask is not installed.
        OSError, TimeoutError: no scheduler answers there.
    """
    dask = importlib.import_module("prefect_dask")
    runner = dask.DaskTaskRunner(address=address, client_kwargs={"timeout": _CONNECT}).__enter__()
    try:
        _ = runner.client  # connects now, in this thread; else the first task would, and hold up the loop
    except BaseException:
        runner.__exit__(None, None, None)
        raise
    return runner
