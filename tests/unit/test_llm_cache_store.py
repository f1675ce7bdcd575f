"""What is found, kept and given when nobody answers; equal calls at once; tenants; disk, restarts and damage."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from llm_answers_by_hand import answered, body_of, chat_answer, route_of
from llm_calls import call_of

from reanimate.gateway.llm.cache.cache import LlmCache
from reanimate.gateway.llm.cache.hit import Hit
from reanimate.gateway.llm.cache.replay import replay
from reanimate.gateway.llm.call import Call, Ending, Tenant, Usage
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.failures import Failure, Help, Rejected
from reanimate.llm_settings import LlmSettings

ALL_FAILED = Rejected(502, "all_failed", "nobody answered")
TOOLS = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]


class Rig:
    """A cache whose clock is set by hand, and calls on a route of its own."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.now = 1_000_000.0
        self.folder = folder
        self.cache = LlmCache(folder, LlmSettings(**limits), lambda: self.now)
        self.route: dict[str, Any] = {"cache_ttl_s": 60.0, "stale_s": 3600.0}

    def call(self, text: str = "Hello", *, wants: str = "", tenant: str = "t", **fields: Any) -> Call:
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}
        call = call_of(body, catalogue=route_of(**self.route), headers={"cache-control": wants} if wants else {})
        call.tenant = Tenant(tenant, tenant)
        call.deadline = asyncio.get_running_loop().time() + 5
        return call

    async def ask(self, answer: dict[str, Any] | None = None, text: str = "Hello", **asked: Any) -> Call:
        """Ask what is not stored, and have it answered."""
        call = self.call(text, **asked)
        assert await self.cache.find(call) is None
        answered(call)
        self.cache.keep(call, body_of(answer or chat_answer()))
        self.cache.done(call)
        return call

    async def find(self, mode: Any = "normal", **asked: Any) -> Hit | None:
        call = self.call(**asked)
        try:
            return await self.cache.find(call, mode)
        finally:
            call.ending = Ending.ANSWERED
            self.cache.done(call)

    async def last_resort(self, rejected: Rejected = ALL_FAILED, **asked: Any) -> tuple[Hit | None, Call]:
        call = self.call(**asked)
        await self.cache.find(call)
        found = await self.cache.last_resort(call, rejected)
        call.ending = Ending.FAILED
        self.cache.done(call)
        return found, call


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "cache")


async def test_find__what_was_kept_while_it_is_fresh(rig: Rig) -> None:
    """The second to ask gets the first one's answer, byte for byte; when the time is over, nobody does."""
    await rig.ask()
    rig.now += 59
    call = rig.call()
    hit = await rig.cache.find(call)
    assert hit is not None
    assert (hit.marked(), hit.target, hit.age_s, call.cache, call.degraded) == (
        body_of(chat_answer()), "main/large", 59.0, "hit", [],
    )  # fmt: skip
    rig.now += 2
    assert await rig.find() is None


async def test_find__nothing_where_the_route_keeps_nothing_fresh(rig: Rig) -> None:
    """Without a time to live every call is asked anew; the answer waits for bad times."""
    rig.route["cache_ttl_s"] = 0
    call = await rig.ask()
    assert call.cache == "off"
    assert await rig.find() is None
    hit, late = await rig.last_resort()
    assert hit is not None
    assert late.cache == "stale"


async def test_find__streamed_and_not_share_an_answer(rig: Rig) -> None:
    """What was heard in a stream is found by who does not stream, with its usage, and the other way round."""
    call = rig.call(stream=True)
    assert await rig.cache.find(call) is None
    assert call.heard == []
    call.heard += replay(Shape.CHAT, chat_answer("Hi"), include_usage=False)
    call.usage = Usage(5, 7)
    answered(call)
    rig.cache.keep(call, None)
    rig.cache.done(call)
    hit = await rig.find()
    assert hit is not None
    stored = orjson.loads(hit.body)
    assert stored["choices"][0]["message"]["content"] == "Hi"
    assert stored["usage"] == {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}

    await rig.ask(text="Other")
    again = await rig.find(text="Other", stream=True)
    assert again is not None
    streamed = rig.call(text="Other", stream=True)
    assert b"".join(again.events(streamed)).endswith(b"data: [DONE]\n\n")


async def test_find__tenants_never_share(rig: Rig) -> None:
    await rig.ask(tenant="a")
    assert await rig.find(tenant="b") is None
    assert (await rig.last_resort(tenant="b"))[0] is None
    assert await rig.find(tenant="a") is not None


@pytest.mark.parametrize(
    ("wants", "age", "found"),
    [
        ("max-age=20", 10, True), ("max-age=20", 30, False), ("no-cache", 1, False), ("no-store", 1, False),
        ("min-fresh=30", 40, False), ("min-fresh=10", 40, True), ("max-stale=60", 100, True),
        ("max-stale=60", 130, False), ("max-stale", 3_000, True), ("max-stale", 4_000, False),
    ],
)  # fmt: skip
async def test_find__obeys_cache_control(rig: Rig, wants: str, age: float, found: bool) -> None:
    await rig.ask()
    rig.now += age
    assert (await rig.find(wants=wants) is not None) is found


async def test_find__only_if_cached(rig: Rig) -> None:
    """No provider is asked: what is stored, or 504."""
    with pytest.raises(Rejected) as error:
        await rig.find(wants="only-if-cached")
    assert (error.value.status, error.value.kind) == (504, "not_cached")
    await rig.ask()
    assert await rig.find(wants="only-if-cached")


async def test_keep__not_what_must_not_be_stored(rig: Rig) -> None:
    """`no-store` leaves nothing, neither in memory nor on disk; `no-cache` stores for the others."""
    await rig.ask(wants="no-store")
    assert await rig.find() is None
    await rig.ask(wants="no-cache")
    assert await rig.find()


async def test_keep__only_whole_good_answers(rig: Rig) -> None:
    for answer in (chat_answer("Hel", "length"), chat_answer(""), {"error": {}}):
        await rig.ask(answer)
    stitched = rig.call()
    await rig.cache.find(stitched)
    answered(answered(stitched), "spare/small", purpose="continuation")
    rig.cache.keep(stitched, body_of(chat_answer()))
    rig.cache.done(stitched)
    assert await rig.find() is None
    assert (rig.cache.status()["stored"], rig.cache.status()["not_kept"]) == (0, 3)


async def test_keep__no_great_answer_for_bad_times_only(rig: Rig) -> None:
    """A load of embeddings must not drive out what users asked."""
    rig.route["cache_ttl_s"] = 0
    await rig.ask(chat_answer("x" * 300_000))
    await rig.ask(text="Other")
    assert (await rig.last_resort())[0] is None
    assert (await rig.last_resort(text="Other"))[0] is not None


async def test_last_resort__an_old_answer_is_marked(rig: Rig) -> None:
    """With its age, in words, and within the answer."""
    await rig.ask()
    rig.now += 1_800
    hit, call = await rig.last_resort()
    assert hit is not None
    assert (call.cache, hit.age_s) == ("stale", 1_800)
    assert call.degraded == ["nobody answers", "a stored answer, 1800 s old"]
    mark = orjson.loads(hit.marked())["reanimate"]
    assert mark == {"cache": "stale", "age_s": 1800, "degraded": "nobody answers; a stored answer, 1800 s old"}
    rig.now += 1_801
    assert (await rig.last_resort())[0] is None


@pytest.mark.parametrize(
    ("wants", "age", "found"),
    [
        ("no-cache", 100, False), ("no-store", 100, False), ("only-if-cached", 100, False), ("max-age=50", 100, False),
        ("stale-if-error=30", 80, True), ("stale-if-error=30", 100, False), ("only-if-cached, max-stale=50", 100, True),
    ],
)  # fmt: skip
async def test_last_resort__obeys_cache_control(rig: Rig, wants: str, age: float, found: bool) -> None:
    await rig.ask()
    rig.now += age
    call = rig.call(wants=wants)
    try:
        hit = await rig.cache.find(call)
    except Rejected as rejected:
        hit = await rig.cache.last_resort(call, rejected)
    else:
        hit = hit or await rig.cache.last_resort(call, ALL_FAILED)
    assert (hit is not None) is found


_PASSED = Failure("bad_request", Help.NONE, "no", 400)


@pytest.mark.parametrize(
    ("rejected", "found"),
    [
        (Rejected(429, "all_failed", "all of them are overloaded"), True),
        (Rejected(504, "deadline", "late"), True),
        (Rejected(400, "all_failed", "no", passed=_PASSED), False),
        (Rejected(400, "no_target", "no model has so much room"), False),
        (Rejected(429, "quota_exhausted", "no"), False),
        (Rejected(503, "killed", "no"), False),
        (Rejected(503, "queue_full", "no"), False),
    ],
)
async def test_last_resort__only_when_nobody_answers(rig: Rig, rejected: Rejected, found: bool) -> None:
    """A limit or a kill is not got around, and an error of the caller's own is told as such."""
    rig.route["static_answer"] = "Soon."
    await rig.ask()
    rig.now += 100
    assert ((await rig.last_resort(rejected))[0] is not None) is found
    assert ((await rig.last_resort(rejected, text="Never asked"))[0] is not None) is found


async def test_last_resort__no_tool_call_of_the_past(rig: Rig) -> None:
    """A tool call is given again while the route calls it fresh, and not after: it would act on what was."""
    await rig.ask(chat_answer(None, "tool_calls", tool_calls=TOOLS))
    rig.now += 30
    assert await rig.find()
    rig.now += 60
    assert (await rig.last_resort())[0] is None
    assert await rig.find("first") is None


async def test_last_resort__then_the_static_answer(rig: Rig) -> None:
    rig.route["static_answer"] = "Soon."
    hit, call = await rig.last_resort()
    assert hit is not None
    assert hit.target is None
    said = orjson.loads(hit.marked())
    assert said["choices"][0]["message"]["content"] == "Soon."
    assert said["reanimate"]["cache"] == "static"
    assert call.degraded == ["the route's static answer"]
    assert (await rig.last_resort(tool_choice="required"))[0] is None


async def test_modes__first_and_only(rig: Rig) -> None:
    """Cache first gives what is old too, marked; only asks nobody."""
    await rig.ask()
    rig.now += 600
    assert await rig.find() is None
    hit = await rig.find("first")
    assert hit is not None
    assert b'"reanimate"' in hit.marked()
    assert await rig.find("only")
    with pytest.raises(Rejected) as error:
        await rig.find("only", text="Other")
    assert (error.value.status, error.value.kind) == (503, "not_cached")


async def test_degraded__is_not_given_on_a_good_day(rig: Rig) -> None:
    """What a fall-back said is given in bad times only, and never takes the place of a better answer."""
    call = rig.call()
    await rig.cache.find(call)
    call.degraded.append("answered by spare/small")
    answered(call, "spare/small")
    rig.cache.keep(call, body_of(chat_answer("worse")))
    rig.cache.done(call)
    await asyncio.sleep(0.05)
    assert await rig.find() is None
    hit = await rig.find("first")
    assert hit is not None
    assert b"answered by spare/small" in hit.marked()

    await rig.ask(chat_answer("better"))
    rig.now += 61
    call = rig.call()
    await rig.cache.find(call)
    call.degraded.append("answered by spare/small")
    rig.cache.keep(answered(call, "spare/small"), body_of(chat_answer("worse")))
    rig.cache.done(call)
    await asyncio.sleep(0.05)
    hit, _ = await rig.last_resort()
    assert hit is not None
    assert b"better" in hit.body


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_degraded__an_outage_takes_a_turn_of_a_thread_for_many_calls(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads are in the way of calls. Each answer is looked for on the disk all the same: the better one stays."""
    rig.route["cache_ttl_s"] = 0
    await rig.ask(chat_answer("better"), "question 7")
    kept = asyncio.create_task(rig.cache.background()[0])
    await _until(lambda: rig.cache.status()["disk_bytes"] > 0)
    kept.cancel()
    await asyncio.gather(kept, return_exceptions=True)
    again = Rig(rig.folder)
    again.route = rig.route
    turns = 0
    to_thread = asyncio.to_thread

    async def counted(*given: Any) -> Any:
        nonlocal turns
        turns += 1
        return await to_thread(*given)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    for number in range(64):
        call = again.call(f"question {number}")
        await again.cache.find(call)
        call.degraded.append("answered by spare/small")
        again.cache.keep(answered(call, "spare/small"), body_of(chat_answer("worse")))
        again.cache.done(call)
    await _until(lambda: again.cache.status()["stored"] == 63)
    assert turns <= 4
    hits = [(await again.last_resort(text=f"question {number}"))[0] for number in (7, 8)]
    assert [hit is not None and b"better" in hit.body for hit in hits] == [True, False]


async def test_degraded__by_what_held_before_it_was_asked_is_no_worse(rig: Rig) -> None:
    """That the cache comes first now says nothing against what the route's own model then answers."""
    call = rig.call()
    call.degraded.append("cache first")
    await rig.cache.find(call, "first")
    rig.cache.keep(answered(call), body_of(chat_answer()))
    rig.cache.done(call)
    assert await rig.find() is not None


async def test_last_resort__where_nobody_may_be_asked(rig: Rig) -> None:
    """A route held on its static answer gives what is stored first."""
    rig.route["static_answer"] = "Soon."
    await rig.ask()
    held = Rejected(503, "held", "nobody is asked now")
    stored, static = rig.call(), rig.call(text="Other")
    hits = [await rig.cache.last_resort(call, held) for call in (stored, static)]
    assert [hit and hit.target for hit in hits] == ["main/large", None]
    assert (stored.cache, static.cache) == ("stale", "static")


async def test_reload__what_a_former_model_said_is_no_answer_of_today(rig: Rig) -> None:
    """With the routes targets changed its answers are for bad times only."""
    await rig.ask()
    rig.route["targets"] = ["spare/small"]
    assert await rig.find() is None
    assert (await rig.last_resort())[0] is not None


# Equal calls at once


async def _followers(rig: Rig, count: int, **asked: Any) -> tuple[Call, list[Call], list[asyncio.Task[Hit | None]]]:
    leader = rig.call()
    assert await rig.cache.find(leader) is None
    calls = [rig.call(**asked) for _ in range(count)]
    tasks = [asyncio.ensure_future(rig.cache.find(call)) for call in calls]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in tasks)
    return leader, calls, tasks


async def test_flights__one_asks_and_all_have_the_answer(rig: Rig) -> None:
    leader, calls, tasks = await _followers(rig, 20)
    rig.cache.keep(answered(leader), body_of(chat_answer()))
    rig.cache.done(leader)
    hits = await asyncio.gather(*tasks)
    assert {hit.body for hit in hits if hit} == {body_of(chat_answer())}
    assert {call.cache for call in calls} == {"hit"}
    assert rig.cache.status()["joined"] == 20


async def test_flights__a_leader_that_fails_fails_alone(rig: Rig) -> None:
    """The others ask for themselves, all at once."""
    leader, _, tasks = await _followers(rig, 3)
    leader.ending = Ending.FAILED
    rig.cache.done(leader)
    assert await asyncio.gather(*tasks) == [None] * 3


async def test_flights__an_answer_that_is_not_kept_is_not_shared(rig: Rig) -> None:
    leader, _, tasks = await _followers(rig, 3)
    rig.cache.keep(answered(leader), body_of(chat_answer("Hel", "length")))
    rig.cache.done(leader)
    assert await asyncio.gather(*tasks) == [None] * 3


async def test_flights__a_leader_that_leaves_hands_over(rig: Rig) -> None:
    """One of the others asks, and the rest wait on."""
    leader, calls, tasks = await _followers(rig, 3)
    leader.ending = Ending.ABANDONED
    rig.cache.done(leader)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    # Which of them is next is a matter of the threads in which they looked at the disk.
    (asks,) = (number for number, task in enumerate(tasks) if task.done())
    leaves, waits = (number for number in range(3) if number != asks)
    tasks[leaves].cancel()
    await asyncio.sleep(0)
    rig.cache.keep(answered(calls[asks]), body_of(chat_answer("from the second")))
    rig.cache.done(calls[asks])
    hit = await tasks[waits]
    assert hit is not None
    assert b"from the second" in hit.body


async def test_flights__one_that_leaves_as_it_is_to_lead_passes_it_on(rig: Rig) -> None:
    leader, _, tasks = await _followers(rig, 2)
    leader.ending = Ending.ABANDONED
    rig.cache.done(leader)
    tasks[0].cancel()  # before it ran
    assert await asyncio.wait_for(tasks[1], 1) is None
    assert rig.cache.status()["joined"] == 0


async def test_flights__a_great_answer_is_judged_aside_and_shared(rig: Rig) -> None:
    """The one who asked has gone by the time it is kept; those who wait have it all the same."""
    leader, _, tasks = await _followers(rig, 2)
    great = body_of(chat_answer("x" * 300_000))
    rig.cache.keep(answered(leader), great)
    rig.cache.done(leader)
    assert [hit and hit.body for hit in await asyncio.gather(*tasks)] == [great, great]


async def test_flights__who_reads_along_waits_only_a_while(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reanimate.gateway.llm.cache.cache._STREAM_PATIENCE_S", 0.1)
    _, _, tasks = await _followers(rig, 1, stream=True)
    assert await asyncio.wait_for(tasks[0], 1) is None


# Disk


async def _with_disk(rig: Rig, seconds: float = 0.3) -> None:
    """Let the cache write what it has, and end it, as at the end of a process."""
    (work,) = rig.cache.background()
    task = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("seconds", [0, 0.3])
async def test_disk__outlives_the_process(rig: Rig, seconds: float) -> None:
    """Also what was kept just before the end."""
    await rig.ask()
    await _with_disk(rig, seconds)
    again = Rig(rig.folder)
    hit = await again.find()
    assert hit is not None
    assert hit.body == body_of(chat_answer())
    assert [oct(path.stat().st_mode & 0o777) for path in _files(rig.folder)] == ["0o600"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap"])
async def test_disk__a_damaged_file_is_a_miss(rig: Rig, damage: str) -> None:
    """It is removed, counted, and the next answer is kept in its place."""
    await rig.ask()
    await rig.ask(chat_answer("B"), text="B")
    await _with_disk(rig)
    one, two = _files(rig.folder)
    content = bytearray(one.read_bytes())
    content[-5] ^= 4
    wrong = {"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b"", "swap": two.read_bytes()}
    one.write_bytes(wrong[damage])
    again = Rig(rig.folder)
    found = [await again.find(), await again.find(text="B")]
    assert sorted(hit is None for hit in found) == [False, True]
    assert again.cache.status()["corrupt"] == 1
    assert not one.exists()


async def test_disk__stays_within_its_limit(tmp_path: Path) -> None:
    """The oldest are removed."""
    rig = Rig(tmp_path, cache_disk_mb=0.25, cache_memory_mb=0)
    for number in range(100):
        await rig.ask(chat_answer(f"{number} " + "x" * 1_000), text=str(number))
    task = asyncio.ensure_future(rig.cache.background()[0])
    deadline = asyncio.get_running_loop().time() + 20
    again = Rig(tmp_path, cache_memory_mb=0)
    while await again.find(text="99") is None or len(_files(tmp_path)) > 0.25 * 1024 * 1024 / 4096:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)  # each file takes a block of the disk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(_files(tmp_path)) > 20
    assert await again.find(text="0") is None


async def test_disk__that_refuses_does_not_matter(tmp_path: Path) -> None:
    """Answers are kept in memory, and it is counted."""
    (tmp_path / "cache").write_text("a file where the folder should be")
    rig = Rig(tmp_path / "cache")
    await rig.ask()
    await _with_disk(rig)
    assert await rig.find()
    assert rig.cache.status()["dropped"] == 1


async def test_limits__of_nothing_keep_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, cache_disk_mb=0, cache_memory_mb=0)
    call = await rig.ask()
    assert call.cache == "off"
    assert await rig.find() is None
    assert _files(tmp_path) == []
