"""How the demo went: the last table, and the same as figures."""

from typing import Any

from rich.table import Table

from reanimate.commands.output import err
from reanimate.demo.agent import Count
from reanimate.demo.chat_agent import ChatCount
from reanimate.demo.story import Story
from reanimate.demo.system import demo_home
from reanimate.incidents.wording import duration

__all__ = ["print_end", "summary"]


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def print_end(stories: list[Story], count: Count, chat: ChatCount) -> None:
    """Print what became of each disaster, and what the agents and their users noticed of all of them."""
    table = Table("disaster", "ended", "detected", "contained", "recovered", "objective", "questions lost")
    for story in stories:
        table.add_row(
            story.fault,
            story.state,
            _seconds(story.detect_s),
            _seconds(story.contain_s),
            _seconds(story.recover_s),
            duration(story.rto_s),
            f"{story.noticed.failures()} of {story.noticed.asked}",
        )
    err.print(table)
    err.print("detected: fault to incident; contained, recovered: incident to then", style="dim")
    err.print(f"the agent that asks the knowledge base: {count.told()}", highlight=False)
    _print_noticed(stories, chat)
    for story in stories:
        for what, where in (
            ("incident page", story.page),
            ("Prefect run", story.prefect_run),
            ("postmortem", demo_home() / "blobs" / story.postmortem),
        ):
            err.print(f"{what}: {where}", highlight=False, soft_wrap=True)


def _print_noticed(stories: list[Story], chat: ChatCount) -> None:
    """Print what the users of the agent that streams answers noticed."""
    table = Table(
        "what users noticed", "answers", "whole and right", "cut", "wrong", "lost", "one began, another ended",
        "slowest first token", "longest pause",
    )  # fmt: skip
    rows = [(story.fault, story.noticed) for story in stories if isinstance(story.noticed, ChatCount)]
    for name, seen in (*rows, ("in all", chat)):
        table.add_row(
            name,
            f"{seen.whole + seen.failures()}",  # those that have ended
            f"{seen.whole}",
            f"{seen.cut}",
            f"{seen.wrong}",
            f"{seen.lost}",
            f"{seen.continued}",
            _seconds(seen.slowest_first_s),
            _seconds(seen.slowest_gap_s),
        )
    err.print(table)
    if chat.first_failure:
        err.print(f"the first that was not whole: {chat.first_failure}", highlight=False)


def summary(stories: list[Story], count: Count, chat: ChatCount) -> dict[str, Any]:
    """Return the figures of the demo."""
    return {
        "incidents": [{name: getattr(story, name) for name in _INCIDENT} for story in stories],
        "agent": {name: getattr(count, name) for name in _AGENT},
        "streams": {name: getattr(chat, name) for name in _STREAMS},
    }


_INCIDENT = ("fault", "state", "detect_s", "contain_s", "recover_s", "rto_s")
_AGENT = ("asked", "answered", "degraded", "failed", "slowest_s")
_STREAMS = ("asked", "whole", "cut", "wrong", "lost", "continued", "degraded", "slowest_first_s", "slowest_gap_s")
