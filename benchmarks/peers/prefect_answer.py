"""The peer of alert-to-flow: a flow as Prefect's tutorial has it, whose first line is a task."""

from prefect import flow, task

__all__ = ["answer"]


@task(name="first line", log_prints=False)
async def first_line(alert: str) -> str:
    return alert


@flow(name="answer-plainly")
async def answer(alert: str) -> None:
    """Take note of an alert."""
    await first_line(alert)
