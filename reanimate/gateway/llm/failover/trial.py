"""One request to one provider for one call, and its good beginning."""

from collections.abc import Callable

from reanimate.gateway.llm.call import Attempt, Call, Usage
from reanimate.gateway.llm.counting import estimated_usage
from reanimate.gateway.llm.endpoints import Shape, endpoint_at
from reanimate.gateway.llm.failover.asking import AttemptFailed, read_first, read_whole, send
from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.classify import as_to_endpoint
from reanimate.gateway.llm.failover.health import Line
from reanimate.gateway.llm.failover.lateness import Lateness
from reanimate.gateway.llm.failover.opened import Opened
from reanimate.gateway.llm.failover.shared import Shared
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.answers import Garbage
from reanimate.gateway.llm.wire.carrying import CannotCarry, check_numbers
from reanimate.gateway.llm.wire.outgoing import Outgoing
from reanimate.gateway.llm.wire.scanners import scanner_for

__all__ = ["Trial", "ask"]


class Trial:
    """One request that is underway."""

    __slots__ = ("_health", "attempt", "ended", "lateness", "line", "on_end", "response", "stream", "tokens")

    def __init__(
        self, shared: Shared, line: Line, purpose: str, lateness: Lateness, *, stream: bool, tokens: int
    ) -> None:
        """`tokens`: what it is taken to need, of the provider's tokens per minute."""
        self._health = shared.health
        self.line = line
        self.attempt = Attempt(line.target, line.key, lateness.began, purpose)
        self.lateness = lateness
        self.response = Response(shared.loop)
        self.stream = stream
        self.tokens = tokens
        self.ended = False
        self.on_end: Callable[[Trial], None] | None = None
        if line.state.limits is not None:
            line.state.limits.begin(tokens, lateness.began)

    def end(self, usage: Usage | None) -> None:
        """It is over; `usage` is what is known to have been used."""
        if self.ended:
            return
        self.ended = True
        now = self.attempt.ended = self._health.time()
        if self.on_end is not None:
            self.on_end(self)
        if (limits := self.line.state.limits) is not None:
            used = usage.input_tokens + usage.output_tokens if usage is not None else None
            limits.end(self.tokens, used, self.attempt.began, now)

    def lose(self, input_tokens: int) -> None:
        """Another one was faster: what this one cost is counted as far as it is known."""
        if self.ended:
            return
        self.attempt.lost_race = True
        self.attempt.usage = Usage(input_tokens, estimated=True)
        now = self._health.time()
        if self.line.breaker.standing is Standing.CLOSED and self.lateness.is_overdue(now):
            # It would have taken even longer: without this, who is always late would never be known to be slow.
            self.line.state.latency(self.stream).add(now - self.attempt.began)
        self.end(None)

    def finish(self, opened: Opened, failure: Failure | None) -> None:
        """A stream has ended, or was left by its caller."""
        facts = opened.reader.facts if opened.reader is not None else None
        if facts is not None:
            self.attempt.usage = facts.usage
            self.attempt.ended_by(facts.finish, bool(facts.text_parts or facts.tools), facts.refused)
        self.end(self.attempt.usage)
        if failure is not None:
            self.attempt.failure = failure
            self._health.failed(self.line, failure, self.attempt.began, self._health.time())
        elif facts is not None and facts.finish is not None:
            self._health.succeeded(self.line, self._health.time())


async def ask(shared: Shared, call: Call, one: Trial, out: Outgoing) -> Opened:
    """Send, and return a whole good answer, or a stream up to its first token.

    Raises:
        AttemptFailed: there is none.
        BaseException: what the response was aborted with.
    """
    target, response, attempt = one.line.target, one.response, one.attempt
    endpoint = endpoint_at(call.prompt.endpoint, target.provider)
    assert endpoint is not None, "nothing is made to be sent where a call cannot be carried"
    try:
        await send(shared.pools.of(target.provider), out, response)
    except AttemptFailed as failed:
        raise AttemptFailed(as_to_endpoint(endpoint, failed.failure)) from None
    attempt.head_at = shared.health.time()
    attempt.status = response.status
    opened = Opened(attempt, target, one.line.key, response, response.status, response.headers, left_out=out.left_out)
    if call.prompt.stream:
        opened.reader, opened.first = await read_first(
            response,
            scanner_for(endpoint.shape, call.prompt.fields),
            idle_s=call.route.settings.idle_s,
            awaits_usage=endpoint.shape is Shape.CHAT and b'"include_usage"' in out.body,
        )
    else:
        whole = await read_whole(endpoint, response)
        opened.body, opened.answer = whole.body, whole.answer
        told = whole.answer.usage
        if (told is None or not told.says_something) and endpoint.shape is not Shape.COUNT_TOKENS:
            said = (whole.answer.text, *(tool.arguments for tool in whole.answer.tool_calls))
            whole.answer.usage = estimated_usage(call.prompt.needs, None, said)
        if endpoint is not call.prompt.endpoint and shared.translate is not None:
            try:
                check_numbers(whole.body, whole.answer.fields)
                opened.body = shared.translate(call, target, whole.answer)
            except Garbage as found:
                raise AttemptFailed(_uncarriable(found.detail)) from None
            except CannotCarry as found:
                raise AttemptFailed(_uncarriable(f"an answer with what cannot be carried over: {found.what}")) from None
    return opened


def _uncarriable(detail: str) -> Failure:
    """Return what it means that an answer is good, and has no words on the caller's wire: its provider is well."""
    return Failure("uncarriable", Help.NEXT, detail, counts=False)
