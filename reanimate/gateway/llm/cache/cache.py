"""The cache of the LLM plane: what is found for a call, what is kept of its answer, what is given when nobody answers.

What is kept is the answer as a request that is not streamed gets it, so that streamed and not streamed ones share it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from reanimate.gateway.llm.cache.disk import Disk
from reanimate.gateway.llm.cache.entry import Entry
from reanimate.gateway.llm.cache.flights import Flights, Part
from reanimate.gateway.llm.cache.hit import Hit
from reanimate.gateway.llm.cache.keys import is_a_question, key_of
from reanimate.gateway.llm.cache.memory import Memory
from reanimate.gateway.llm.cache.static import static_answer
from reanimate.gateway.llm.cache.whole import Whole, whole_answer
from reanimate.gateway.llm.cache.wishes import Wishes, read_wishes
from reanimate.gateway.llm.call import Call, Ending
from reanimate.gateway.llm.failures import Help, Rejected
from reanimate.llm_settings import LlmSettings

__all__ = ["LlmCache", "Mode"]

Mode = Literal["normal", "first", "only"]

_MB = 1024 * 1024
_STREAM_PATIENCE_S = 2.0
"""A caller who asked for a stream waits for an equal call's whole answer at most so long: it came to read along."""
_AT_ONCE = 128 * 1024
"""Answers up to this size are judged in the event loop, greater ones in a thread."""
_FOR_BAD_TIMES = 256 * 1024
"""What is kept for bad times only is not greater: a load of embeddings would drive out all that users asked."""
_LATER, _AT_LATEST_S = 32, 0.02
"""So many answers wait to be kept, for so long, when nobody else waits for them."""
_AGAIN_S = 60.0
"""An answer kept for bad times only is not replaced more often than this."""
_ALL_OUT = frozenset({"all_failed", "no_target", "deadline", "held", "not_cached"})
"""Nobody answered, or nobody may be asked."""


@dataclass(slots=True)
class _Lookup:
    """What is known of one call."""

    wishes: Wishes
    stores: bool
    known: tuple[str, ...]
    """Why the answer will not be what it would be on a good day, as far as that was so before anybody was asked."""
    key: bytes | None = None
    leads: bool = False
    landing: bool = False
    """Its answer is being judged in a thread."""


class LlmCache:
    """One for all routes and tenants; the key keeps them apart."""

    def __init__(self, folder: Path, settings: LlmSettings, clock: Callable[[], float] = time.time) -> None:
        """Keep files in `folder`; take the time from `clock`, in seconds of the epoch."""
        self._clock = clock
        self._memory = Memory(int(settings.cache_memory_mb * _MB))
        self._disk = Disk(folder, int(settings.cache_disk_mb * _MB))
        self._flights = Flights()
        self._lookups: dict[Call, _Lookup] = {}
        self._later: list[tuple[Call, _Lookup, bytes]] = []
        """Answers that are kept for bad times only: looked at several at once, which costs each of them less."""
        self._timer: asyncio.TimerHandle | None = None
        self._underway: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()

    def take(self, settings: LlmSettings) -> None:
        """Take over other limits."""
        self._memory.limit = int(settings.cache_memory_mb * _MB)
        self._disk.limit = int(settings.cache_disk_mb * _MB)
        self._memory.shrink()

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the calls until it is cancelled."""
        return [self._disk.keep()]

    def status(self) -> dict[str, Any]:
        """Return what was found and kept since the start, and how full it is."""
        self._keep_all()
        return {
            **{name: self._counts[name] for name in ("hit", "stale", "static", "joined", "miss", "stored", "not_kept")},
            "corrupt": self._disk.corrupt,
            "dropped": self._disk.dropped,
            "entries": len(self._memory),
            "memory_bytes": self._memory.size,
            "disk_bytes": self._disk.size,
        }

    async def find(self, call: Call, mode: Mode = "normal") -> Hit | None:
        """Return a stored answer that may be given now; None: a provider has to be asked.

        Of equal calls at the same time one is told to ask, and the others wait for its answer here.

        Raises:
            Rejected: nothing fit is stored, and no provider may be asked: 504 if the caller wants it so, 503 if the
                mode does.
        """
        lookup = self._look(call)
        if lookup.stores and call.prompt.stream:
            call.heard = []
        wishes, route = lookup.wishes, call.route.settings
        lifetime = route.cache_ttl_s if mode == "normal" else max(route.cache_ttl_s, route.stale_s)
        if lookup.stores and not wishes.no_cache and (lifetime > 0 or wishes.max_stale_s > 0):
            lookup.key = key_of(call)
            entry = await self._get(lookup.key)
            if entry is not None and self._may_be_given(entry, call, wishes, mode, lifetime):
                return self._hit(entry, call, fresh=self._age(entry) <= route.cache_ttl_s)
            call.cache = "miss"
            self._counts["miss"] += 1
        if wishes.only_if_cached:
            raise Rejected(504, "not_cached", "only a stored answer was asked for, and there is none")
        if mode == "only":
            raise Rejected(503, "not_cached", "only stored answers are given now, and there is none to this question")
        if lookup.key is not None and lifetime > 0:
            return await self._join(call, lookup, lookup.key)
        return None

    def _look(self, call: Call) -> _Lookup:
        wishes, route = read_wishes(call.request.headers), call.route.settings
        stores = (
            (self._memory.limit > 0 or self._disk.limit > 0)
            and (route.cache_ttl_s > 0 or route.stale_s > 0)
            and not wishes.no_store
            and is_a_question(call)
        )
        lookup = self._lookups[call] = _Lookup(wishes, stores, tuple(call.degraded))
        return lookup

    async def _join(self, call: Call, lookup: _Lookup, key: bytes) -> Hit | None:
        left = call.deadline - asyncio.get_running_loop().time()
        patience = min(_STREAM_PATIENCE_S, left) if call.prompt.stream else left
        found = await self._flights.join(key, patience)
        if isinstance(found, Entry):
            self._counts["joined"] += 1
            return self._hit(found, call, fresh=True)
        lookup.leads = found is Part.LEAD
        return None

    async def _get(self, key: bytes) -> Entry | None:
        self._keep_all()
        entry = self._memory.get(key)
        if entry is None and self._disk.limit and (entry := await self._disk.get(key)) is not None:
            self._memory.put(entry)
        return entry

    def _may_be_given(self, entry: Entry, call: Call, wishes: Wishes, mode: Mode, lifetime: float) -> bool:
        age = self._age(entry)
        if age > wishes.max_age_s or age + wishes.min_fresh_s > lifetime + wishes.max_stale_s:
            return False
        if age > call.route.settings.cache_ttl_s and (entry.tools or age > call.route.settings.stale_s):
            return False
        # What was given on a bad day, or by a model that is only asked on bad ones, is not given on a good one.
        return mode != "normal" or not (entry.degraded or _is_of_the_past(entry, call))

    def _age(self, entry: Entry) -> float:
        return max(0.0, self._clock() - entry.stored_at)

    def _hit(self, entry: Entry, call: Call, *, fresh: bool, why: str = "") -> Hit:
        """Give an entry, marked when it is not what a provider would say now; `why` it is given all the same."""
        age = self._age(entry)
        reasons = [*entry.degraded, *([why] if why else []), *([] if fresh else [f"a stored answer, {age:.0f} s old"])]
        call.cache = "hit" if fresh else "stale"
        call.degraded += [reason for reason in reasons if reason not in call.degraded]
        self._counts[call.cache] += 1
        mark = {"cache": call.cache, "age_s": int(age), "degraded": "; ".join(reasons)} if reasons else None
        return Hit(entry.body, entry.target, age, mark)

    async def last_resort(self, call: Call, rejected: Rejected) -> Hit | None:
        """Return what to give when nobody answers: a stored answer of any age allowed, else the route's static one.

        None for what is not an outage: a limit or a kill is not to be got around, and an error that is the caller's own
        would be the same everywhere.
        """
        if not _is_outage(rejected):
            return None
        return await self._stale(call) or self.static(call)

    async def _stale(self, call: Call) -> Hit | None:
        lookup = self._lookups.get(call) or self._look(call)
        if not lookup.stores:
            return None
        wishes = lookup.wishes
        if wishes.no_cache or (wishes.only_if_cached and not wishes.max_stale_s):
            return None
        key = lookup.key = lookup.key or key_of(call)
        entry = await self._get(key)
        if entry is None:
            return None
        age, settings = self._age(entry), call.route.settings
        if age > min(max(settings.cache_ttl_s, settings.stale_s), settings.cache_ttl_s + wishes.stale_if_error_s):
            return None
        # A tool call of yesterday would act today on what was so yesterday: it is not given again by itself.
        if age > wishes.max_age_s or (entry.tools and age > settings.cache_ttl_s):
            return None
        return self._hit(entry, call, fresh=False, why="nobody answers")

    def static(self, call: Call) -> Hit | None:
        """Return the route's static answer, marked as such; None if it has none, or none that fits the request."""
        text = call.route.settings.static_answer
        if text is None or (self._lookups.get(call) or self._look(call)).wishes.only_if_cached:
            return None
        answer = static_answer(call, text, self._clock())
        if answer is None:
            return None
        reason = "the route's static answer"
        call.cache = "static"
        call.degraded.append(reason)
        self._counts["static"] += 1
        return Hit(orjson.dumps(answer), None, 0.0, {"cache": "static", "age_s": 0, "degraded": reason})

    def keep(self, call: Call, body: bytes | None) -> None:
        """Keep a whole answer that was sent: `body`, or what the caller of a stream heard. It is judged here."""
        lookup = self._lookups.get(call)
        if lookup is None or not lookup.stores or not _is_one_answer(call):
            return
        size, route = len(body) if body is not None else sum(map(len, call.heard or ())), call.route.settings
        if not route.cache_ttl_s and size > _FOR_BAD_TIMES:
            return
        if lookup.key is not None or body is None:
            self._keep(call, lookup, body, size)
            return
        self._later.append((call, lookup, body))
        if len(self._later) >= _LATER:
            self._keep_all()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AT_LATEST_S, self._keep_all)

    def _keep_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        later, self._later = self._later, []
        for call, lookup, body in later:
            self._keep(call, lookup, body, len(body))

    def _keep(self, call: Call, lookup: _Lookup, body: bytes | None, size: int) -> None:
        route = call.route.settings
        key = lookup.key = lookup.key or key_of(call)
        known = self._memory.get(key)
        if known and not (route.cache_ttl_s or known.degraded) and self._age(known) < _AGAIN_S:
            return
        is_small, is_worse = size <= _AT_ONCE, len(call.degraded) > len(lookup.known)
        if is_small and (not is_worse or known is not None):
            only_land = is_worse and self._stays(known, call)
            self._store(call, lookup, key, whole_answer(call, body), only_land=only_land)
            return
        lookup.landing = True
        aside = self._store_aside(call, lookup, key, body, is_small=is_small, is_worse=is_worse)
        task = asyncio.get_running_loop().create_task(aside)
        self._underway.add(task)
        task.add_done_callback(self._underway.discard)

    async def _store_aside(
        self, call: Call, lookup: _Lookup, key: bytes, body: bytes | None, *, is_small: bool, is_worse: bool
    ) -> None:
        try:
            known = await self._disk.get_with_others(key) if is_worse else None
            known = self._memory.get(key) or known
            whole = whole_answer(call, body) if is_small else await asyncio.to_thread(whole_answer, call, body)
            self._store(call, lookup, key, whole, only_land=is_worse and self._stays(known, call))
        finally:
            if lookup.leads:
                self._flights.fail(key)  # those who still wait: nothing landed

    def _stays(self, known: Entry | None, call: Call) -> bool:
        """Say whether an answer stays when a worse one comes.

        What was said on a good day is kept for when nobody answers; those who wait now take what there is.
        """
        return known is not None and not known.degraded and self._age(known) <= call.route.settings.stale_s

    def _store(self, call: Call, lookup: _Lookup, key: bytes, whole: Whole | None, *, only_land: bool = False) -> None:
        target = call.answered_by
        if whole is None or target is None:
            self._counts["not_kept"] += 1
            return
        body, tools = whole
        entry = Entry(
            key=key,
            partition=call.tenant.partition,
            shape=call.prompt.endpoint.shape,
            route=call.route.name,
            target=target.name,
            stored_at=self._clock(),
            tools=tools,
            degraded=tuple(reason for reason in call.degraded if reason not in lookup.known),
            body=body,
        )
        if not only_land:
            self._memory.put(entry)
            if self._disk.limit:
                self._disk.put(entry)
            self._counts["stored"] += 1
        self._flights.land(key, entry)

    def done(self, call: Call) -> None:
        """Tell that a call has ended, however it did. Those who waited for it go on."""
        lookup = self._lookups.pop(call, None)
        call.heard = None if lookup is None or not lookup.landing else call.heard
        if lookup is None or not lookup.leads or lookup.landing or lookup.key is None:
            return
        if call.ending in (None, Ending.ABANDONED):
            self._flights.hand_over(lookup.key)
        else:
            self._flights.fail(lookup.key)


def _is_of_the_past(entry: Entry, call: Call) -> bool:
    return not any(choice.target.name == entry.target for choice in call.route.targets)


def _is_outage(rejected: Rejected) -> bool:
    if rejected.kind not in _ALL_OUT or (rejected.kind == "no_target" and rejected.status < 500):
        return False
    return rejected.passed is None or rejected.passed.help not in (Help.NONE, Help.LARGER)


def _is_one_answer(call: Call) -> bool:
    """Say whether one model gave all of it: what two have stitched together is good enough once."""
    return not any(attempt.served and attempt.purpose == "continuation" for attempt in call.attempts)
