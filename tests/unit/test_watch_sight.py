"""Whether the watch itself can see, and what kind of failure an exception is."""

import asyncio
import errno
import socket

import aiohttp
import pytest

from reanimate.watch.sample import FailureKind, OwnTroubleError, Sample, kind_of
from reanimate.watch.sight import Sight, View, look

SINCE = 100.0


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        pytest.param([View("a", 50, 100)], Sight.BLIND, id="the only one is silent"),
        pytest.param(
            [View("a", 50, 100), View("web", 99, 100.5), View("gateway", None, 101)], Sight.BLIND, id="all silent"
        ),
        pytest.param([View("a", 50, 100), View("web", 100.1, None)], Sight.SEES, id="the intake answers"),
        pytest.param([View("a", 50, 100), View("web", 100.1, 100.2)], Sight.SEES, id="it answered once since"),
        pytest.param([View("a", 50, 100), View("web", 99.9, None)], Sight.UNSURE, id="nobody else asked since"),
        pytest.param(
            [View("a", 50, 100), View("b", 99, 99.5)], Sight.UNSURE, id="the other was silent before, not since"
        ),
        pytest.param([View("a", 50, 100), View("b")], Sight.UNSURE, id="the other was never asked"),
    ],
)
def test_look(views: list[View], expected: Sight) -> None:
    """Blind means that everybody was asked since and nobody gave any answer; one answer is sight."""
    assert look(views, SINCE) is expected


def test_view__a_refusal_is_an_answer() -> None:
    """A host that refuses is a host that answers: the watch sees."""
    sample = Sample.of(100.0, 100.1, FailureKind.REFUSED)
    assert look([View("a", None, 100.0), View("b").after(sample)], SINCE) is Sight.SEES


def test_view__silence_does_not_hide_an_older_answer() -> None:
    """Views only ever move forward, in whatever order overlapping probes end."""
    view = View("a").after(Sample.of(101.0, 101.1)).after(Sample.of(100.0, 101.0, FailureKind.TIMEOUT))
    assert view == View("a", 101.1, 100.0)
    assert view.after(Sample.of(99.0, 100.0, FailureKind.TIMEOUT)).silent_since == 100.0


def os_error(number: int) -> OSError:
    return OSError(number, "said the kernel")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (os_error(errno.ECONNREFUSED), FailureKind.REFUSED),
        (os_error(errno.ECONNRESET), FailureKind.RESET),
        (os_error(errno.ENETUNREACH), FailureKind.UNREACHABLE),
        (os_error(errno.EHOSTUNREACH), FailureKind.UNREACHABLE),
        (os_error(errno.ETIMEDOUT), FailureKind.TIMEOUT),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), FailureKind.UNREACHABLE),
        (TimeoutError(), FailureKind.TIMEOUT),
        (aiohttp.ServerTimeoutError(), FailureKind.TIMEOUT),
        (aiohttp.ServerDisconnectedError(), FailureKind.RESET),
        (asyncio.IncompleteReadError(b"", 1), FailureKind.RESET),
        (aiohttp.ClientPayloadError("cut"), FailureKind.HTTP),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] unreachable"), FailureKind.REFUSED),
        (OSError("Multiple exceptions: [Errno 99] Cannot assign, [Errno 101] unreachable"), FailureKind.UNREACHABLE),
    ],
)
def test_kind_of(error: BaseException, expected: FailureKind) -> None:
    """A failure is told by its error number; of several addresses the one that answered counts."""
    assert kind_of(error) is expected


def test_kind_of__our_own_trouble() -> None:
    """Running out of file descriptors says nothing about the other side."""
    with pytest.raises(OwnTroubleError):
        kind_of(os_error(errno.EMFILE))
