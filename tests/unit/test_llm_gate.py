"""The gate: kills reach what is underway, rates are kept, and a queue that is fair to every tenant."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from policy_calls import a_call

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.policies.gate import Gate, Rate
from reanimate.gateway.llm.underway import Underway
from reanimate.switches.document import Claim, effective

CHAT_TOOL = {"type": "function", "function": {"name": "transfer"}}
MESSAGES_TOOL = {"name": "transfer", "input_schema": {}}


def gate(*claims: tuple[str, str, Any], underway: Underway | None = None, **how: Any) -> Gate:
    made = Gate(Underway() if underway is None else underway, **{"wait_s": 5.0, "waiting": 100, **how})
    obey(made, *claims)
    return made


def obey(made: Gate, *claims: tuple[str, str, Any]) -> None:
    made.obey(effective(Claim(*claim) for claim in claims))


@pytest.mark.parametrize("scope", ["*", "tenant:bad", "route:chat", "tool:transfer"])
@pytest.mark.parametrize("tool", [CHAT_TOOL, MESSAGES_TOOL])
def test_admit__killed(scope: str, tool: dict[str, Any]) -> None:
    """A kill refuses what it is about with 403, which no client tries again, and nothing else."""
    made = gate(("llm_kill", scope, "kill"))
    with pytest.raises(Rejected) as caught:
        made.admit(a_call("chat", "bad", tools=[tool]))
    assert (caught.value.status, caught.value.kind) == (403, "killed")
    if scope != "*":
        made.admit(a_call("other", "good", tools=[{"name": "search"}]))


def test_admit__rate() -> None:
    """So many a minute come in, the others are told when to come again; after the lift all do."""
    now = 1000.0
    made = gate(("llm_rate", "tenant:t", 60), clock=lambda: now)
    refused: list[Rejected] = []
    for _ in range(600):  # ten a second for a minute
        try:
            made.admit(a_call())
        except Rejected as error:
            refused.append(error)
        now += 0.1
    assert 60 <= 600 - len(refused) <= 63
    assert {(error.status, error.kind) for error in refused} == {(429, "rate_cut")}
    assert all(0 < (error.retry_after_s or 0) <= 1 for error in refused)
    made.admit(a_call(tenant="other"))
    obey(made)
    for _ in range(10):
        made.admit(a_call())


def test_admit__rate_keeps_its_count_over_other_changes() -> None:
    """A change of another switch does not hand out the rate anew."""
    made = gate(("llm_rate", "*", 6), clock=lambda: 0.0)
    made.admit(a_call())
    obey(made, ("llm_rate", "*", 6), ("llm_kill", "tenant:bad", "kill"))
    with pytest.raises(Rejected, match="6 a minute"):
        made.admit(a_call())


def test_rate__none_at_all() -> None:
    """A rate of 0 lets nobody in."""
    assert Rate(0).wait_s(0.0) == float("inf")


@pytest.mark.timed
def test_admit__costs_next_to_nothing() -> None:
    """Without switches, and with a few of them, the gate costs less than 2 us a call."""
    call = a_call()
    for claims in ((), [("llm_kill", f"tenant:{n}", "kill") for n in range(50)]):
        made = gate(*claims)
        took = []
        for _ in range(7):
            began = time.perf_counter()
            for _ in range(10_000):
                made.admit(call)
            took.append((time.perf_counter() - began) / 10_000)
        assert min(took) < 2e-6


@pytest.mark.timed
async def test_obey__kill_ends_what_is_underway() -> None:
    """The flip ends every running call it is about, within 10 ms of 1,000 underway; the others go on."""
    underway = Underway()
    made = gate(underway=underway)
    ended: Counter[str] = Counter()

    async def run(tenant: str) -> None:
        call = a_call("chat", tenant)
        underway.add(call)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            assert call.stop is None or call.stop.kind == "killed"
            ended[tenant] += call.stop is not None
        finally:
            underway.discard(call)

    tenants = ("good", "bad0", "bad1", "bad2")
    tasks = [asyncio.create_task(run(tenants[number % 4])) for number in range(1000)]
    await asyncio.sleep(0)
    assert len(underway) == 1000
    took = []
    for number in range(3):
        began = time.thread_time()
        obey(made, *(("llm_kill", f"tenant:bad{bad}", "kill") for bad in range(number + 1)))
        took.append(time.thread_time() - began)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert ended == {"bad0": 250, "bad1": 250, "bad2": 250}
    assert len(underway) == 250
    assert min(took) < 0.01
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def serve(made: Gate, call: Call, for_s: float, done: list[str]) -> None:
    await made.enter(call)
    try:
        await asyncio.sleep(for_s)
        done.append(call.tenant.name)
    finally:
        made.leave(call)


async def test_enter__without_a_bound_nothing_is_suspended() -> None:
    """A call that need not wait does not give up its turn to run."""
    made = gate()
    coroutine = made.enter(a_call())
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def test_enter__never_more_than_the_bound() -> None:
    """Five at a time, whoever comes; in the end all were in."""
    made = gate(("llm_concurrency", "*", 5))
    inside = most = 0

    async def one(route: str) -> None:
        nonlocal inside, most
        call = a_call(route)
        await made.enter(call)
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.001)
        inside -= 1
        made.leave(call)

    await asyncio.gather(*(one(("chat", "other")[number % 2]) for number in range(60)))
    assert most == 5
    assert set(made.queues().values()) == {0}


async def test_enter__tenants_take_turns_by_weight() -> None:
    """A tenant with 60 calls in the queue does not keep another waiting; weight 2 is served twice as often."""
    made = gate(("llm_concurrency", "chat", 1))
    done: list[str] = []
    calls = [a_call(tenant="flood") for _ in range(60)]
    calls += [a_call(tenant="heavy", weight=2) for _ in range(20)] + [a_call(tenant="light") for _ in range(10)]
    await asyncio.gather(*(serve(made, call, 0, done) for call in calls))
    assert len(done) == 90
    counted = Counter(done[1:41])  # the first was in before anybody waited
    assert 18 <= counted["heavy"] <= 20
    assert 9 <= counted["light"] <= 11
    assert 9 <= counted["flood"] <= 11


@pytest.mark.timed
async def test_enter__waits_no_longer_than_allowed() -> None:
    """Who waits too long is told so with 429 and Retry-After, and takes no place."""
    made = gate(("llm_concurrency", "chat", 1), wait_s=0.05)
    done: list[str] = []
    first = asyncio.create_task(serve(made, a_call(), 0.15, done))
    await asyncio.sleep(0)
    began = time.monotonic()
    with pytest.raises(Rejected) as caught:
        await made.enter(a_call())
    assert 0.04 < time.monotonic() - began < 0.12
    assert (caught.value.status, caught.value.kind) == (429, "queue_timeout")
    await first
    await made.enter(a_call())


async def test_enter__full_queue_refuses_who_has_most_in_it() -> None:
    """A flood fills its own part: another tenant still gets in, for the newest of the flood."""
    made = gate(("llm_concurrency", "*", 1), waiting=10)
    done: list[str] = []
    holder = asyncio.create_task(serve(made, a_call(tenant="holder"), 0.05, done))
    await asyncio.sleep(0)
    flood = [asyncio.create_task(serve(made, a_call(tenant="flood"), 0, done)) for _ in range(15)]
    await asyncio.sleep(0)
    polite = [asyncio.create_task(serve(made, a_call(tenant="polite"), 0, done)) for _ in range(3)]
    results = await asyncio.gather(holder, *flood, *polite, return_exceptions=True)
    refused = [error for error in results if isinstance(error, Rejected)]
    assert [error.kind for error in refused] == ["queue_full"] * 8
    assert Counter(done) == {"holder": 1, "flood": 7, "polite": 3}


async def test_enter__cancelled_while_waiting_leaves_no_trace() -> None:
    """A caller who leaves the queue, or in the very moment of its turn, does not take a place with it."""
    made = gate(("llm_concurrency", "chat", 1))
    call = a_call()
    await made.enter(call)
    waiting = [asyncio.create_task(made.enter(a_call())) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    made.leave(call)  # the turn of the second
    waiting[1].cancel()  # before it could take it
    await asyncio.gather(*waiting, return_exceptions=True)
    assert waiting[2].exception() is None
    made.leave(call)
    await made.enter(call)
    made.leave(call)


async def test_bound__change_while_waiting() -> None:
    """A raised bound lets more in at once, a lifted one all; who is in when it is lowered stays in."""
    made = gate(("llm_concurrency", "chat", 1))
    inside: list[str] = []
    release = asyncio.Event()

    async def one(name: str) -> None:
        call = a_call(tenant=name)
        await made.enter(call)
        inside.append(name)
        await release.wait()
        made.leave(call)

    tasks = [asyncio.create_task(one(str(number))) for number in range(6)]
    await asyncio.sleep(0.01)
    assert len(inside) == 1
    obey(made, ("llm_concurrency", "chat", 3))
    await asyncio.sleep(0.01)
    assert len(inside) == 3
    obey(made)
    await asyncio.sleep(0.01)
    assert len(inside) == 6
    obey(made, ("llm_concurrency", "chat", 1))
    release.set()
    await asyncio.gather(*tasks)
    call = a_call()
    await made.enter(call)
    late = asyncio.create_task(made.enter(call))
    await asyncio.sleep(0.01)
    assert not late.done()
    late.cancel()
