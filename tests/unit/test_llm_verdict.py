"""What a caller is told when nobody could answer."""

import pytest

from reanimate.gateway.llm.failover.verdict import Tried, all_failed, passed_on
from reanimate.gateway.llm.failures import Failure, Help

ERROR = Tried("main/m", Failure("http_500", Help.RETRY, "answered 500: oops", 500))
SILENT = Tried("backup/m", Failure("timeout", Help.NEXT, "no answer within 20 s"))
REFUSED = Tried("third/m", Failure("refused", Help.NEXT, "127.0.0.1:9: Connection refused"))
BUSY = Tried("busy/m", Failure("overloaded", Help.NEXT, "answered 529: Overloaded", 529))
LIMITED = Tried("main/m", Failure("rate_limited", Help.KEY, "answered 429", 429, retry_after_s=7.0), pause_s=7.0)
LIMITED_TOO = Tried("backup/m", Failure("rate_limited", Help.KEY, "answered 429", 429, retry_after_s=3.0), pause_s=3.0)
NO_KEY = Tried("main/m", Failure("unauthorized", Help.KEY, "answered 401", 401))
OPEN = Tried("main/m", Failure("http_500", Help.RETRY, "answered 500: oops", 500), asked=False)
TOO_LARGE = Tried("main/m", Failure("too_large", Help.NEXT, "answered 413", 413, b'{"error":{}}'))
TOO_LONG = Tried("main/m", Failure("context_length", Help.LARGER, "answered 400: too long", 400, b'{"error":{}}'))


@pytest.mark.parametrize(
    ("tried", "late", "status", "kind"),
    [
        ([ERROR], False, 502, "all_failed"),
        ([REFUSED], False, 502, "all_failed"),
        ([ERROR, SILENT], False, 502, "all_failed"),
        ([SILENT, ERROR], False, 504, "all_failed"),
        ([SILENT], True, 504, "deadline"),
        ([BUSY, ERROR], False, 503, "all_failed"),
        ([LIMITED, LIMITED_TOO], False, 429, "all_failed"),
        ([LIMITED, ERROR], False, 502, "all_failed"),
        ([NO_KEY], False, 502, "all_failed"),
        ([OPEN], False, 503, "no_target"),
        ([OPEN, LIMITED_TOO], False, 502, "all_failed"),
        ([TOO_LONG], False, 400, "context_length"),
        ([TOO_LARGE], False, 413, "too_large"),
        ([TOO_LARGE, ERROR], False, 502, "all_failed"),
        ([], False, 503, "no_target"),
    ],
)
def test_all_failed__has_a_sensible_status(tried: list[Tried], late: bool, status: int, kind: str) -> None:
    """What the caller can do decides."""
    error = all_failed("chat", tried, {}, late=late)
    assert (error.status, error.kind) == (status, kind)


def test_all_failed__lists_everybody_in_their_order_the_first_reason_first() -> None:
    """Also who was not asked, and why."""
    error = all_failed("chat", [ERROR, SILENT, OPEN], {"small/m": "cannot use tools"}, late=False)
    assert error.message == (
        "no provider of route 'chat' could answer (main/m: answered 500: oops; backup/m: no answer within 20 s; "
        "main/m: not asked, since before: answered 500: oops; small/m cannot use tools)"
    )


def test_all_failed__says_when_the_first_of_all_limits_ends() -> None:
    """The smallest Retry-After."""
    assert all_failed("chat", [LIMITED, LIMITED_TOO], {}, late=False).retry_after_s == 3.0


def test_all_failed__where_all_are_out_the_first_to_be_looked_at_again_says_when() -> None:
    """Not sooner than its next probe."""
    out = [Tried("main/m", ERROR.failure, asked=False, pause_s=pause) for pause in (25.0, 12.0)]
    assert all_failed("chat", out, {}, late=False).retry_after_s == 12.0
    assert all_failed("chat", [OPEN], {}, late=False).retry_after_s == 1.0


def test_all_failed__where_no_target_can_do_it_the_call_is_at_fault() -> None:
    """Not a matter of coming back later."""
    error = all_failed("chat", [], {"main/m": "cannot see images"}, late=False)
    assert (error.status, error.retry_after_s) == (400, None)
    assert "main/m cannot see images" in error.message


def test_passed_on__is_the_providers_own_error() -> None:
    """Its status, its kind, its body."""
    own = Failure("content_policy", Help.NONE, "answered 400: no", 400, b'{"error":{"message":"no"}}')
    error = passed_on("main/m", own)
    assert (error.status, error.kind, error.passed) == (400, "content_policy", own)
    assert passed_on("main/m", Failure("content_policy", Help.NONE, "said within its answer")).status == 400
