"""The agenda: one timer for all, nothing before its moment, nothing lost."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from reanimate.gateway.llm.failover.agenda import Agenda


class Handle:
    def __init__(self, at: float, what: Callable[[], None]) -> None:
        self.at = at
        self.what = what
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandWound:
    """A loop whose time is set by hand; it comes to a timer up to a millisecond early or late, as loops do."""

    def __init__(self, early_s: float = 0.0) -> None:
        self.now = 100.0
        self.early_s = early_s
        self.set: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, what: Callable[[], None]) -> Handle:
        assert delay > 0
        self.set.append(Handle(self.now + delay - self.early_s, what))
        return self.set[-1]

    def run_until(self, moment: float) -> None:
        while due := [handle for handle in self.set if not handle.cancelled and handle.at <= moment]:
            first = min(due, key=lambda handle: handle.at)
            first.cancelled = True
            self.now = max(self.now, first.at)
            first.what()
        self.now = moment


def agenda_of(loop: Any) -> Agenda:
    return Agenda(loop, loop.time)


@pytest.mark.parametrize("early_s", [0.0, 0.0009])
def test_everything_is_called_once_at_its_moment(early_s: float) -> None:
    loop = HandWound(early_s)
    agenda = agenda_of(loop)
    called: dict[float, float] = {}
    moments = [100.0 + random.random() for _ in range(200)]
    for moment in moments:
        agenda.put(moment, loop.now, lambda moment=moment: called.update({moment: loop.now}))  # type: ignore[misc]
    loop.run_until(102.0)
    assert sorted(called) == sorted(moments)
    assert all(moment <= at <= moment + 0.0021 for moment, at in called.items())


def test_what_is_crossed_out_is_not_called_and_costs_no_timer() -> None:
    loop = HandWound()
    agenda = agenda_of(loop)
    called: list[int] = []
    for number in range(1000):
        item = agenda.put(loop.now + 0.5, loop.now, lambda number=number: called.append(number))  # type: ignore[misc]
        if number != 777:
            item[2] = None
        loop.now += 0.0001
    assert len(loop.set) == 1
    loop.run_until(102.0)
    assert called == [777]
    assert len(loop.set) == 2


def test_what_is_due_before_all_others_is_not_late() -> None:
    loop = HandWound()
    agenda = agenda_of(loop)
    called: list[str] = []
    agenda.put(105.0, loop.now, lambda: called.append("later"))
    agenda.put(100.5, loop.now, lambda: called.append("sooner"))
    loop.run_until(101.0)
    assert called == ["sooner"]
    loop.run_until(106.0)
    assert called == ["sooner", "later"]


def test_what_is_put_down_from_within_has_its_turn() -> None:
    loop = HandWound()
    agenda = agenda_of(loop)
    called: list[float] = []

    def again() -> None:
        called.append(loop.now)
        if len(called) < 4:
            agenda.put(loop.now + 0.25, loop.now, again)

    agenda.put(100.25, loop.now, again)
    loop.run_until(103.0)
    assert called == [100.25, 100.5, 100.75, 101.0]


async def test_one_that_fails_takes_no_other_with_it() -> None:
    loop = asyncio.get_running_loop()
    agenda = Agenda(loop, time.monotonic)
    told: list[Any] = []
    over = asyncio.Event()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    try:
        now = time.monotonic()
        agenda.put(now + 0.01, now, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        agenda.put(now + 0.01, now, over.set)
        await asyncio.wait_for(over.wait(), 5)
    finally:
        loop.set_exception_handler(before)
    assert [type(error) for error in told] == [ZeroDivisionError]
