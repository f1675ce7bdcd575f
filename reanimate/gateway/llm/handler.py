"""One call from its arrival to its end: each policy in its turn, and one account of how it went."""

import asyncio
import logging
import secrets
import time
from collections import deque

from reanimate.errors import InputInvalid
from reanimate.gateway.llm.accounts.observer import Observer
from reanimate.gateway.llm.cache.cache import LlmCache
from reanimate.gateway.llm.cache.hit import Hit
from reanimate.gateway.llm.call import Call, Ending
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.counting import estimated_count
from reanimate.gateway.llm.endpoints import ENDPOINTS, Endpoint, Shape
from reanimate.gateway.llm.failover.failover import Failover
from reanimate.gateway.llm.failover.opened import Opened
from reanimate.gateway.llm.failover.stored import StoredResponses
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.marks import marks
from reanimate.gateway.llm.models import answer_models
from reanimate.gateway.llm.policies.gate import Gate
from reanimate.gateway.llm.policies.modes import Modes
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.llm.quota.quota import Quota
from reanimate.gateway.llm.streams.delivery import Delivery
from reanimate.gateway.llm.tenants import Tenants
from reanimate.gateway.llm.underway import Underway
from reanimate.gateway.llm.wire.answers import is_compressed
from reanimate.gateway.llm.wire.errors import error_answer, error_event
from reanimate.gateway.llm.wire.outgoing import outgoing
from reanimate.gateway.request import ClientGone, Request

__all__ = ["Handler"]

log = logging.getLogger("reanimate.gateway")

_WATCH_AFTER_S = 0.03
"""Whether the caller is still there is not asked for an answer that comes at once."""
_LAST_RESORT = frozenset(("all_failed", "no_target", "deadline", "held", "not_cached"))
"""Nobody answered, or nobody may be asked. Not what the caller, or a person, brought about."""


class Handler:
    """Everything under `/v1/`."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        modes: Modes,
        gate: Gate,
        cache: LlmCache,
        quota: Quota,
        failover: Failover,
        delivery: Delivery,
        observer: Observer,
        underway: Underway,
    ) -> None:
        self._modes = modes
        self._gate = gate
        self._cache = cache
        self._quota = quota
        self._failover = failover
        self._delivery = delivery
        self._observer = observer
        self._underway = underway
        self._stored = StoredResponses()
        self._loop = asyncio.get_running_loop()
        self._unwatched: deque[tuple[float, Call]] = deque()
        """Calls that have just come, and when to begin to watch for their callers' leaving: in order."""
        self._watching: asyncio.TimerHandle | None = None
        self._prefix = secrets.token_hex(4)
        self._count = 0
        self.use(catalogue)

    def use(self, catalogue: Catalogue) -> None:
        """Take over new settings for the calls that come from now on."""
        self._catalogue = catalogue
        self._tenants = Tenants(catalogue.settings)
        self._body_limit = int(catalogue.settings.max_body_mb * 1024 * 1024)

    async def handle(self, request: Request) -> None:
        """Answer one request."""
        endpoint = ENDPOINTS.get(request.path)
        if endpoint is None:
            await answer_models(request, self._catalogue, self._tenants)
            return
        try:
            call = await self._read(request, endpoint)
        except ClientGone:
            return
        except Rejected as rejected:
            await request.answer(*error_answer(endpoint, rejected, None))
            return
        await self._run(call)

    async def _read(self, request: Request, endpoint: Endpoint) -> Call:
        began = time.monotonic()  # the loop's own is of whole milliseconds, and as old as its turn
        if request.method != "POST":
            raise Rejected(405, "bad_request", f"{request.path} takes POST, not {request.method}")
        tenant = self._tenants.identify(request.headers)
        body = await request.body(self._body_limit)
        if body is None:
            raise Rejected(413, "too_large", f"the request has more than {self._body_limit:,} bytes (llm.max_body_mb)")
        try:
            prompt = read_prompt(endpoint, body)
        except InputInvalid as error:
            if is_compressed(request.headers):
                raise Rejected(415, "bad_request", "the request body is compressed, which is not taken here") from None
            raise Rejected(400, "bad_request", str(error)) from None
        route = self._catalogue.route(prompt.model)
        if route is None:
            known = ", ".join(self._catalogue.routes) or "none is configured"
            raise Rejected(404, "no_route", f"no route is called {prompt.model!r}; routes are: {known}")
        self._count += 1
        call_id = f"llm-{self._prefix}-{self._count:08x}"
        deadline = began + route.settings.deadline_s
        return Call(call_id, request, prompt, tenant, route, self._catalogue, began, deadline)

    async def _run(self, call: Call) -> None:
        task = call.task = call.request.task
        assert task is not None
        self._underway.add(call)
        self._watch_soon(call)
        try:
            await self._answer(call)
        except Rejected as rejected:
            await self._refuse(call, rejected)
        except ClientGone:
            call.ending = Ending.ABANDONED
        except asyncio.CancelledError:
            if call.stop is not None:
                task.uncancel()
                await self._refuse(call, call.stop)
            else:
                call.ending = Ending.ABANDONED
                if not call.left:
                    raise  # the process ends; the application tells the caller
                task.uncancel()
        except Exception:  # a defect of ours must not look like a broken connection
            log.exception("call %s met a defect of the gateway", call.id)
            await self._refuse(call, Rejected(500, "defect", f"the gateway failed; its log tells of {call.id}"))
        finally:
            self._cache.done(call)
            self._underway.discard(call)
            self._observer.ended(call)

    def _watch_soon(self, call: Call) -> None:
        """See to it that the call is watched, if it is not over by then. One timer serves all: it costs no call one."""
        unwatched, now = self._unwatched, self._loop.time()
        while unwatched and unwatched[0][1].ending is not None:
            unwatched.popleft()
        unwatched.append((now + _WATCH_AFTER_S, call))
        if self._watching is None:
            self._watching = self._loop.call_later(_WATCH_AFTER_S, self._watch_due)

    def _watch_due(self) -> None:
        self._watching = None
        unwatched, now = self._unwatched, self._loop.time()
        while unwatched and (unwatched[0][0] <= now or unwatched[0][1].ending is not None):
            self._watch(unwatched.popleft()[1])
        if unwatched:
            self._watching = self._loop.call_at(unwatched[0][0], self._watch_due)

    def _watch(self, call: Call) -> None:
        """Listen for the caller's leaving; nobody is asked any further for one who has left."""

        def left(gone: "asyncio.Task[None]") -> None:
            if not gone.cancelled() and call.ending is None and call.task is not None:
                call.left = True
                call.task.cancel()

        if call.ending is None:
            call.request.gone().add_done_callback(left)

    async def _answer(self, call: Call) -> None:
        """Answer by the policies in their order.

        Raises:
            Rejected: the caller is to be told so instead.
        """
        self._gate.admit(call)
        mode = self._modes.of(call)
        if mode.reasons:
            call.degraded.extend(mode.reasons)
        if mode.static:
            raise Rejected(503, "held", "nobody is asked for this call now: " + ", ".join(mode.reasons))
        await self._gate.enter(call)
        try:
            hit = await self._cache.find(call, mode.cache)
            if hit is not None:
                await self._serve(call, hit)
            else:
                await self._ask(call)
        finally:
            self._gate.leave(call)

    async def _ask(self, call: Call) -> None:
        """Ask the providers; what they did is paid for, however it ends."""
        reservation = await self._quota.reserve(call)
        call.tokens_left = reservation.remaining
        try:
            self._stored.bind(call)
            opened = await self._failover.open(call, outgoing)
            if opened.reader is not None:
                opened = await self._delivery.deliver(call, opened)
                self._cache.keep(call, None)
            else:
                await self._send(call, opened)
            self._stored.note(call, opened)
        finally:
            target = call.answered_by
            if target is not None:
                reservation.settle(call.usage, target)
            else:
                reservation.release()

    async def _send(self, call: Call, opened: Opened) -> None:
        """Pass on an answer that is not a stream."""
        assert opened.body is not None
        opened.attempt.served = True
        if opened.answer is not None and opened.answer.usage is not None:
            call.usage += opened.answer.usage
        call.was_answered()
        await call.request.answer(opened.status, marks(call, provider=opened.headers), opened.body)
        self._cache.keep(call, opened.body)

    async def _serve(self, call: Call, hit: Hit) -> None:
        """Answer without asking anybody."""
        call.was_answered()
        await hit.send(call, marks(call, hit.target))

    async def _estimate(self, call: Call) -> None:
        """Answer how many tokens there are without who could count them."""
        body = estimated_count(call)
        call.ending = Ending.DEGRADED
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await call.request.answer(200, [*head, *marks(call)], body)

    async def _refuse(self, call: Call, rejected: Rejected) -> None:
        """Tell the caller of an error, unless something is kept for when nobody answers."""
        call.error = rejected
        started = call.request.started
        if not started and rejected.kind in _LAST_RESORT:
            hit = await self._cache.last_resort(call, rejected)
            if hit is not None:
                await self._serve(call, hit)
                return
        if call.prompt.endpoint.shape is Shape.COUNT_TOKENS and rejected.kind in (*_LAST_RESORT, "not_offered"):
            await self._estimate(call)
            return
        call.ending = Ending.REJECTED if rejected.status < 500 else Ending.FAILED
        endpoint = call.prompt.endpoint
        if started:
            await call.request.send(error_event(endpoint, rejected, call), more=False)
            return
        status, head, body = error_answer(endpoint, rejected, call)
        await call.request.answer(status, [*head, *marks(call)], body)
