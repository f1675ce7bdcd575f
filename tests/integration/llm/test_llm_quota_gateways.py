"""Gateways that share a quota, over HTTP, with a real web process and a real Postgres."""

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from quota_rig import ControlPlane, call, control_plane, gateway, llm_settings, until, used

from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.quota.quota import Quota
from reanimate.llm_settings import LlmSettings

LIMIT = 100_000
CALLERS = 64


@pytest.fixture
def control(quota_control: ControlPlane) -> ControlPlane:
    return quota_control


@pytest.fixture
def name() -> str:
    return f"q-{secrets.token_hex(3)}"


async def spend(quota: Quota, settings: LlmSettings, seed: int, till: float | None = None) -> tuple[int, Rejected]:
    """Call until refused (or, with `till`, go on for so long); return what was paid for, and the last refusal."""
    paid, dice, refused = 0, random.Random(seed), None
    while True:
        try:
            one = call(settings, output=dice.randint(50, 400))
            reservation = await quota.reserve(one)
        except Rejected as error:
            if till is None:
                return paid, error
            refused = error
            await asyncio.sleep(0.02)
        else:
            await asyncio.sleep(dice.random() * 0.004)
            tokens = dice.randint(1, one.prompt.needs.output_tokens)
            reservation.settle(used(tokens), one.route.targets[0].target)
            paid += tokens
        if till is not None and time.monotonic() > till and refused is not None:
            return paid, refused


async def test_two_gateways_under_64_callers__never_pass_the_limit(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """The sum of what was paid for is within the limit, almost all of it was used, and the ledger knows each token."""
    settings = llm_settings({"name": name, "tokens": LIMIT})
    async with AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(gateway(control, settings, tmp_path / each, each)) for each in ("a", "b")
        ]
        results = await asyncio.gather(*(spend(both[n % 2], settings, n) for n in range(CALLERS)))
        assert [quota.figures()[0]["underway"] for quota in both] == [0, 0]
    paid = sum(tokens for tokens, _ in results)
    assert LIMIT - 1000 < paid <= LIMIT
    assert {error.kind for _, error in results} == {"quota_exhausted"}
    (row,) = control.rows(name)
    assert (row["spent"], row["held"]) == (paid, 0)


async def test_control_plane_killed_in_the_middle__is_passed_by_a_lease_for_each_gateway_at_most(
    tmp_path: Path, postgres_url: str, free_port: Callable[[], int], name: str
) -> None:
    """Both go on for their share and then refuse, saying so; when it is back, every token is in the ledger."""
    limit, lease = 4_000_000, 200_000
    settings = llm_settings({"name": name, "tokens": limit, "lease_s": 1.0})
    with control_plane(tmp_path / "web", postgres_url, free_port()) as own:
        async with AsyncExitStack() as stack:
            both = [await stack.enter_async_context(gateway(own, settings, tmp_path / each, each)) for each in "ab"]
            callers = [
                asyncio.create_task(spend(both[n % 2], settings, n, till=time.monotonic() + 4.0))
                for n in range(CALLERS)
            ]
            at_death = 0
            async with asyncio.timeout(10):
                while at_death < lease:
                    await asyncio.sleep(0.02)
                    at_death = sum(figure["spent_here"] for quota in both for figure in quota.figures())
            assert at_death < limit - 2 * lease
            own.kill()
            results = await asyncio.gather(*callers)
            paid = sum(tokens for tokens, _ in results)
            after = paid - at_death
            assert lease < after <= 2 * lease + CALLERS * 400  # and what was underway at that moment
            assert paid <= limit + 2 * lease
            assert all("the control plane has been away" in error.message for _, error in results)
            own.start()
            await until(lambda: own.rows(name)[-1]["spent"] == paid)
            await until(lambda: both[0].figures()[0]["away_s"] is None)
            (await both[0].reserve(call(settings))).release()


async def test_partition__what_a_lost_gateway_holds_is_given_to_the_other_and_the_bound_holds(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """One of two gateways is cut off while it holds a lease: the other gets it after lease_s, both use it."""
    settings = llm_settings({"name": name, "tokens": 10_000, "lease_s": 0.5, "lease": 0.05, "away": 0.05})
    async with (
        gateway(control, settings, tmp_path / "a", "a") as here,
        gateway(control, settings, tmp_path / "b", "b") as lost,
    ):
        first = await lost.reserve(call(settings))
        first.settle(used(100), None)
        lost._lender._url = "http://127.0.0.1:9/quota/leases"
        await asyncio.sleep(0.7)
        results = await asyncio.gather(*(spend(quota, settings, n) for n, quota in enumerate((here, lost))))
        paid = 100 + sum(tokens for tokens, _ in results)
        assert 10_000 - 400 < paid <= 10_000 + 500
        lost._lender._url = f"{control.url}/quota/leases"
        await until(lambda: control.rows(name)[-1]["spent"] == paid)


_CHILD = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from quota_rig import ControlPlane, call, gateway, llm_settings, used

async def main():
    control = ControlPlane(Path({home!r}), "", {port})
    settings = llm_settings({{"name": {name!r}, "tokens": {limit}, "lease_s": 1.0}})
    async with gateway(control, settings, Path({book!r}), "killed") as quota:
        while True:
            one = call(settings, output=10)
            reservation = await quota.reserve(one)
            sys.stdout.write("r\\n")
            sys.stdout.flush()
            reservation.settle(used(7), one.route.targets[0].target)
            sys.stdout.write("s\\n")
            sys.stdout.flush()

asyncio.run(main())
"""


async def test_gateway_killed_and_restarted__forgets_nothing_and_spends_nothing_twice(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """Killed with SIGKILL at full speed, three times: what the ledger says is what was used, to the token.

    A call that was underway counts as it was reserved, since nobody can tell what it used.
    """
    reserved = settled = 0
    here = Path(__file__).parent
    script = _CHILD.format(
        paths=[str(here), str(here.parent), str(here.parents[2])], home=str(control.home), port=control.port,
        name=name, limit=LIMIT, book=str(tmp_path / "book"),
    )  # fmt: skip
    for n in range(3):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:  # noqa: ASYNC220
            assert child.stdout is not None
            assert await asyncio.to_thread(child.stdout.readline) == b"r\n"
            await asyncio.sleep(0.05 * (n + 1))
            os.kill(child.pid, signal.SIGKILL)
            told = b"r\n" + await asyncio.to_thread(child.stdout.read)
        reserved += told.count(b"r\n")
        settled += told.count(b"s\n")
    settings = llm_settings({"name": name, "tokens": LIMIT})
    async with gateway(control, settings, tmp_path / "book", "killed") as quota:
        figures = quota.figures()[0]
        one = call(settings, output=1)
        (await quota.reserve(one)).settle(used(1), one.route.targets[0].target)
    spent = control.rows(name)[-1]["spent"]
    # A kill may fall between the line and what it tells of: one call of each life.
    assert abs(spent - (7 * settled + 10 * (reserved - settled) + 1)) <= 3 * 10
    assert figures["spent_here"] + 1 == spent
    assert control.rows(name)[-1]["held"] == 0


async def test_lost_answers__charge_nothing_twice(control: ControlPlane, name: str, tmp_path: Path) -> None:
    """A proxy that lets every request through and cuts two answers of three: the sum stays right."""
    settings = llm_settings({"name": name, "tokens": 2000, "lease": 0.25, "away": 0.0})
    cut = _CuttingProxy(control.port)
    async with cut.running() as url, gateway(control, settings, tmp_path, url=url) as quota:
        deadline = time.monotonic() + 20
        paid = 0
        while paid < 1900 and time.monotonic() < deadline:
            one = call(settings, output=100)
            try:
                reservation = await quota.reserve(one)
            except Rejected:
                await asyncio.sleep(0.02)
                continue
            reservation.settle(used(100), one.route.targets[0].target)
            paid += 100
        assert 1900 <= paid <= 2000
        assert cut.cut >= 4
        cut.every = 0
        await until(lambda: control.rows(name)[-1]["spent"] == paid)
    assert control.rows(name)[-1]["held"] == 0


class _CuttingProxy:
    """Passes requests on, and hangs up instead of two answers of three."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut = 0
        self.every = 3
        self._count = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            body = await reader.readexactly(length)
            up, down = await asyncio.open_connection("127.0.0.1", self._port)
            down.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
            answer = await up.read()
            down.close()
            self._count += 1
            if self.every and self._count % self.every:
                self.cut += 1
            else:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def running(self) -> "_Running":
        return _Running(self)


class _Running:
    def __init__(self, proxy: _CuttingProxy) -> None:
        self._proxy = proxy

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._proxy._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


async def test_two_web_processes__lend_one_ledger(
    control: ControlPlane, name: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Each remembers what it has read, and neither overwrites what the other has changed."""
    settings = llm_settings({"name": name, "tokens": 30_000, "lease": 0.02})
    with control_plane(tmp_path / "second", control.database, free_port()) as second:
        async with (
            gateway(control, settings, tmp_path / "a", "a") as a,
            gateway(second, settings, tmp_path / "b", "b") as b,
        ):
            results = await asyncio.gather(*(spend((a, b)[n % 2], settings, n) for n in range(16)))
    paid = sum(tokens for tokens, _ in results)
    assert 30_000 - 2 * 400 < paid <= 30_000, "each may keep less than its last call needed"
    assert control.rows(name)[-1]["spent"] == paid


async def test_window_ends__what_was_reserved_before_counts_before(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """In the next minute the limit is whole again; a call that is underway then is the old minute's."""
    settings = llm_settings({"name": name, "tokens": 1000, "window": "minute"})
    moved = 0.0

    async with gateway(control, settings, tmp_path, clock=lambda: time.time() + moved) as quota:
        old = await quota.reserve(call(settings, output=900))
        with pytest.raises(Rejected) as refused:
            await quota.reserve(call(settings, output=200))
        ends = quota.figures()[0]["ends"]
        assert refused.value.retry_after_s == pytest.approx(ends - time.time(), abs=1.0)
        moved = ends - time.time() + 0.001
        new = await quota.reserve(call(settings, output=900))
        old.settle(used(950), call(settings).route.targets[0].target)
        new.settle(used(300), call(settings).route.targets[0].target)
        async with asyncio.timeout(10):  # what is over is told and forgotten, without being asked
            while len(quota._purses.by_key) > 1:
                moved += 10.0
                await asyncio.sleep(0.1)
    first, second = control.rows(name)[:2]
    assert (first["spent"], second["spent"]) == (950, 300)
    assert second["starts_at"] == first["ends_at"]
    assert first["held"] == 0


def test_audit__cannot_be_rewritten(control: ControlPlane) -> None:
    """The database refuses, whoever asks."""
    control.execute(
        "INSERT INTO quota_events (at, kind, quota, tenant, actor, why, data) "
        "VALUES (now(), 'granted', 'x', '', 'me', 'because', '{}')"
    )
    with pytest.raises(psycopg.errors.RestrictViolation):
        control.execute("UPDATE quota_events SET why = 'another'")
    with pytest.raises(psycopg.errors.RestrictViolation):
        control.execute("DELETE FROM quota_events")
