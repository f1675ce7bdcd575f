"""What quotas allow and refuse: meters, tenants, targets, nothing, the reserve, grants; and the alerts."""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from quota_rig import ControlPlane, call, gateway, llm_settings, until, used
from typer.testing import CliRunner, Result

from reanimate.commands.quota import app
from reanimate.gateway.llm.call import Attempt, Call, Usage
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.quota.quota import Quota
from reanimate.llm_settings import LlmSettings
from reanimate.quota.passes import PASS_HEADER, sign_pass

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def control(quota_control: ControlPlane) -> ControlPlane:
    return quota_control


@pytest.fixture
def name() -> str:
    return f"r-{secrets.token_hex(3)}"


async def pay(quota: Quota, one: Call, tokens: int) -> None:
    (await quota.reserve(one)).settle(used(tokens), one.route.targets[0].target)


async def refused(quota: Quota, one: Call) -> Rejected:
    with pytest.raises(Rejected) as error:
        await quota.reserve(one)
    assert (error.value.status, error.value.kind) == (429, "quota_exhausted")
    return error.value


async def test_refusal__says_which_quota_how_much_and_until_when(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """Also a call that is larger than the whole limit is told why."""
    settings = llm_settings({"name": name, "tokens": 1000, "timezone": "Europe/Berlin"})
    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings, output=900), 900)
        error = await refused(quota, call(settings, output=200))
        assert f"quota {name!r} is used up: 900 tokens of 1,000 tokens this day" in error.message
        assert "this call may need 200 tokens" in error.message
        assert "resets at" in error.message
        assert error.message.split()[-1] in ("CET", "CEST")
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 25 * 3600
        assert "more than the whole limit" in (await refused(quota, call(settings, output=1001))).message
        await pay(quota, call(settings, output=100), 100)  # the last ones


@pytest.mark.timed
async def test_refusal__costs_the_control_plane_one_request_a_second(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """A thousand calls that are refused are refused from memory."""
    settings = llm_settings({"name": name, "tokens": 100})
    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings), 100)
        before, began = quota._lender.asked, time.monotonic()
        for _ in range(1000):
            await refused(quota, call(settings))
        assert quota._lender.asked - before <= 2 + (time.monotonic() - began)


async def test_zero_means_none_and_negative_is_refused(control: ControlPlane, name: str, tmp_path: Path) -> None:
    """Nothing is divided by it, nobody is alarmed about it; settings below zero are no settings."""
    settings = llm_settings({"name": name, "requests": 0})
    async with gateway(control, settings, tmp_path) as quota:
        error = await refused(quota, call(settings))
        assert "allows none" in error.message
        assert quota.lowest(call(settings)) == 0.0
    for wrong in ({"tokens": -1}, {"requests": -5}, {"money": -0.01}, {}, {"tokens": 1, "alert_at": [0.0]}):
        with pytest.raises(ValidationError):
            llm_settings({"name": name, **wrong})


async def test_meters__requests_and_money(control: ControlPlane, name: str, tmp_path: Path) -> None:
    """Three requests are three; money is exact to a billionth, at the prices of who answered."""
    settings = llm_settings({"name": name, "requests": 3, "money": 1.0})
    async with gateway(control, settings, tmp_path) as quota:
        (await quota.reserve(call(settings))).release()  # a call that nobody answered is no request
        for _ in range(3):
            await pay(quota, call(settings), 7)
        assert "3 requests of 3 requests" in (await refused(quota, call(settings))).message
    spent = {row["meter"]: row["spent"] for row in control.rows(name)}
    assert spent == {"requests": 3, "money": 3 * 7 * 2000}  # 2.0 for a million tokens: 2000 billionths each


async def test_usage__lost_races_are_counted_and_silence_is_no_gift(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """What a hedge used is paid too; a provider that does not say what it used is charged as reserved."""
    settings = llm_settings({"name": name, "tokens": 100_000})
    async with gateway(control, settings, tmp_path) as quota:
        one = call(settings)
        target = one.route.targets[0].target
        one.attempts = [
            Attempt(target, None, 0.0, usage=Usage(10, 20), served=True),
            Attempt(target, None, 0.0, usage=Usage(10, 5), lost_race=True),
        ]
        reservation = await quota.reserve(one)
        reservation.settle(Usage(10, 20), target)
        reservation.settle(Usage(10, 20), target)  # once more is nothing
        reservation.release()
        assert quota.figures()[0]["spent"] == 45
        (await quota.reserve(call(settings, output=300))).settle(Usage(), target)
        assert quota.figures()[0]["spent"] == 345


async def test_overrun__a_paid_answer_is_counted_and_never_refused(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """An answer twice as long as its estimate goes over the limit; what comes after it is refused."""
    settings = llm_settings({"name": name, "tokens": 1000})
    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings, output=900), 1800)
        await refused(quota, call(settings, output=1))
    assert control.rows(name)[0]["spent"] == 1800


async def test_tenants__each_for_itself_or_together(control: ControlPlane, name: str, tmp_path: Path) -> None:
    """One tenant uses up its own and not its neighbour's; a shared quota is shared; others are not counted."""
    settings = llm_settings(
        {"name": f"{name}-own", "tokens": 100, "per_tenant": True, "tenant": "t*"},
        {"name": f"{name}-all", "tokens": 250},
    )
    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings, tenant="t1"), 100)
        assert "of tenant t1" in (await refused(quota, call(settings, tenant="t1", output=1))).message
        await pay(quota, call(settings, tenant="t2"), 100)
        await pay(quota, call(settings, tenant="other", output=50), 50)
        assert f"{name}-all" in (await refused(quota, call(settings, tenant="other", output=1))).message
    assert [(row["tenant"], row["spent"]) for row in control.rows(f"{name}-own")] == [("t1", 100), ("t2", 100)]


async def test_targets__a_quota_of_one_model_leaves_the_others(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """When main/large is used up the call may go to backup/large; who answered is charged, not who was meant to."""
    settings = llm_settings(
        {"name": name, "model": "main/large", "tokens": 100}, targets=("main/large", "backup/large")
    )
    async with gateway(control, settings, tmp_path) as quota:
        main, backup = (choice.target for choice in call(settings).route.targets)
        (await quota.reserve(call(settings))).settle(used(90), backup)
        assert quota.figures()[0]["spent"] == 0
        (await quota.reserve(call(settings))).settle(used(90), main)
        assert quota.bars(call(settings), main) is None
        reservation = await quota.reserve(call(settings))
        assert quota.bars(call(settings), main) == name
        assert quota.bars(call(settings), backup) is None
        reservation.settle(used(5), main)  # a failover that asked it all the same
        assert quota.figures()[0]["spent"] == 95


async def test_low__from_low_at_on(control: ControlPlane, name: str, tmp_path: Path) -> None:
    """The degradation rules see it before it is too late."""
    settings = llm_settings({"name": name, "tokens": 1000, "low_at": 0.5})
    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings, output=400), 499)
        assert not quota.low(call(settings))
        await pay(quota, call(settings, output=1), 1)
        assert quota.low(call(settings))
        assert quota.lowest(call(settings)) == 0.5
        reservation = await quota.reserve(call(settings, output=100))
        assert reservation.remaining == 400


def open_p0(control: ControlPlane, severity: str = "P0") -> str:
    incident = f"inc-{secrets.token_hex(4)}"
    control.execute(
        "INSERT INTO incidents (id, title, agent, state, phase, component, scope, severity, opened_at, "
        "timeline_length, timeline_head) VALUES "
        f"('{incident}', 't', 'agent', 'escalated', 'recovery', 'llm:x', '{{}}', '{severity}', now(), 0, '')"
    )
    return incident


def close(control: ControlPlane, incident: str) -> None:
    control.execute(f"UPDATE incidents SET state = 'closed' WHERE id = '{incident}'")


def header(incident: str, key: str, until: float) -> list[tuple[bytes, bytes]]:
    return [(PASS_HEADER.encode(), sign_pass(incident, int(until), key).encode())]


async def test_reserve__only_the_recovery_of_an_open_p0_may_use_it(
    control: ControlPlane, name: str, tmp_path: Path
) -> None:
    """Forged, late, of a P1, of a closed one: refused; with the right pass the reserve is used, and then it is out."""
    settings = llm_settings({"name": name, "tokens": 1000, "reserve": 0.3, "lease": 0.1})
    incident, lesser = open_p0(control), open_p0(control, "P1")
    now = time.time()
    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings, output=700), 700)
        for headers in (
            [],
            header(incident, "another key", now + 60),
            header(incident, control.key, now - 1),
            header(lesser, control.key, now + 60),
            header("inc-none", control.key, now + 60),
            [(PASS_HEADER.encode(), b"v1.x")],
        ):
            await refused(quota, call(settings, headers=headers))
        await asyncio.sleep(1.1)  # a refusal is remembered for a second
        good = header(incident, control.key, now + 60)
        await pay(quota, call(settings, headers=good), 100)
        await refused(quota, call(settings))
        await pay(quota, call(settings, headers=good, output=200), 200)
        assert "the reserve of quota" in (await refused(quota, call(settings, headers=good, output=1))).message
    assert control.rows(name)[0]["spent"] == 700
    assert control.rows(name, "reserve")[0]["spent"] == 300
    close(control, incident)
    close(control, lesser)


@pytest.fixture
def reanimate(control: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Callable[[LlmSettings], Run]:
    """Run `reanimate quota` with these settings, as a person would."""

    def with_settings(settings: LlmSettings) -> Run:
        quotas = json.loads(settings.model_dump_json(exclude_unset=True))["quotas"]
        monkeypatch.setenv("REANIMATE_HOME", str(control.home))
        monkeypatch.setenv("DATABASE_URL", control.database)
        monkeypatch.setenv("REANIMATE_LLM__QUOTAS", json.dumps(quotas))

        async def run(*arguments: str) -> Result:
            return await asyncio.to_thread(CliRunner().invoke, app, arguments)

        return run

    return with_settings


async def test_break_glass__opens_the_reserve_for_a_time_and_is_written_down(
    control: ControlPlane, name: str, tmp_path: Path, reanimate: Callable[[LlmSettings], Run]
) -> None:
    """Ordinary calls use the reserve from a second later on, until it is closed again; a P0's timeline tells."""
    settings = llm_settings({"name": name, "tokens": 1000, "reserve": 0.5, "lease": 0.1, "lease_s": 1.0})
    command, incident = reanimate(settings), open_p0(control)

    async def tried(quota: Quota) -> bool:
        try:
            await pay(quota, call(settings, output=10), 10)
        except Rejected:
            return False
        return True

    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings, output=500), 500)
        assert not await tried(quota)
        said = await command("break-glass", name, "--reason", "x", "--dry-run")
        assert (said.exit_code, "would open" in said.stdout) == (0, True), said.output
        made = json.loads((await command("break-glass", name, "--reason", "all is on fire", "--json")).stdout)
        assert made["told"] == [incident]
        deadline = time.monotonic() + 10
        while not await tried(quota):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        shown = (await command("show", name)).stdout
        assert "glass broken" in shown
        assert "all is on fire" in shown
        assert (await command("revoke", made["id"], "--reason", "it is out")).exit_code == 0
        deadline = time.monotonic() + 10
        while await tried(quota):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    kinds = [event["kind"] for event in json.loads((await command("history", name, "--json")).stdout)["events"]]
    assert kinds[0] == "glass_mended"
    assert kinds[-1] == "glass_broken"
    assert set(kinds[1:-1]) == {"reserve_lent"}
    assert timeline(control, incident) == ["quota.glass_broken", "quota.glass_mended"]
    assert (await command("revoke", made["id"], "--reason", "again")).exit_code == 1
    close(control, incident)


def timeline(control: ControlPlane, incident: str) -> list[str]:
    return [
        row["kind"]
        for row in control.query(
            f"SELECT kind FROM timeline WHERE incident_id = '{incident}' AND kind LIKE 'quota.%' ORDER BY seq"
        )
    ]


async def test_grant__raises_the_limit_of_this_window(
    control: ControlPlane, name: str, tmp_path: Path, reanimate: Callable[[LlmSettings], Run]
) -> None:
    """Calls that were refused go through a second later; taken back, they are refused again."""
    settings = llm_settings({"name": name, "tokens": 100, "lease": 1.0})
    command = reanimate(settings)
    async with gateway(control, settings, tmp_path) as quota:
        await pay(quota, call(settings), 100)
        await refused(quota, call(settings))
        would = await command("grant", name, "--tokens", "500", "--reason", "more users", "--dry-run", "--json")
        assert json.loads(would.stdout)["grants"][0]["limit"] == 600
        made = json.loads((await command("grant", name, "--tokens", "500", "--reason", "more users", "--json")).stdout)
        await asyncio.sleep(1.1)
        await pay(quota, call(settings), 100)
        row = json.loads((await command("show", name, "--json")).stdout)["quotas"][0]
        assert (row["limit"], row["granted_on_top"]) == (600, 500)
        assert (await command("revoke", made["grants"][0]["id"], "--reason", "too dear")).exit_code == 0
    async with gateway(control, settings, tmp_path) as quota:
        await refused(quota, call(settings))
    for wrong in (
        ("grant", name, "--reason", "x"),
        ("grant", name, "--tokens", "-5", "--reason", "x"),
        ("grant", name, "--requests", "5", "--reason", "x"),
        ("grant", name, "--tokens", "5", "--reason", " "),
        ("grant", name, "--tokens", "5", "--tenant", "t", "--reason", "x"),
        ("grant", "nobody", "--tokens", "5", "--reason", "x"),
        ("break-glass", name, "--reason", "x"),
        ("revoke", "grant-none", "--reason", "x"),
        ("pass", "inc-none"),
    ):
        done = await command(*wrong)
        assert (done.exit_code, done.stderr.startswith("error:")) == (1, True), wrong


async def test_grant__counts_once_however_often_a_gateway_asks(
    control: ControlPlane, name: str, tmp_path: Path, reanimate: Callable[[LlmSettings], Run]
) -> None:
    """Exactly what was granted is used, over many leases and a restart, and not one call more."""
    settings = llm_settings({"name": name, "requests": 20, "lease": 0.1})
    command = reanimate(settings)
    assert (await command("grant", name, "--requests", "30", "--reason", "more users")).exit_code == 0
    answered = 0
    for _ in range(2):
        async with gateway(control, settings, tmp_path) as quota:
            for _ in range(25):
                await pay(quota, call(settings), 1)
                answered += 1
    async with gateway(control, settings, tmp_path) as quota:
        error = await refused(quota, call(settings))
        assert "50 requests of 50 requests" in error.message
    assert answered == 50


async def test_alerts__one_for_each_threshold_and_window(control: ControlPlane, name: str, tmp_path: Path) -> None:
    """Crossed by many calls, told once each, while calls go on; resolved when the window is over."""
    settings = llm_settings({"name": name, "tokens": 10_000, "alert_at": [0.5, 0.8, 1.0], "window": "hour"})

    def told() -> list[dict[str, Any]]:
        rows = control.query(
            "SELECT labels, status, seen FROM alerts "
            f"WHERE labels->>'quota' = '{name}' ORDER BY status, labels->>'threshold'"
        )
        return [{**row["labels"], "status": row["status"], "seen": row["seen"]} for row in rows]

    async with gateway(control, settings, tmp_path) as quota:
        for _ in range(60):
            await pay(quota, call(settings), 100)
        await until(lambda: [alert["threshold"] for alert in told()] == ["0.5"])
        for _ in range(40):
            await pay(quota, call(settings), 100)
        for _ in range(20):
            await refused(quota, call(settings))
    await until(lambda: [alert["threshold"] for alert in told()] == ["0.5", "0.8", "1"])
    await asyncio.sleep(0.5)
    assert [(alert["threshold"], alert["seen"]) for alert in told()] == [("0.5", 1), ("0.8", 1), ("1", 1)]
    last = told()[-1]
    assert (last["alertname"], last["fault"], last["meter"]) == ("QuotaExhausted", "token_quota_exhausted", "tokens")
    control.execute(f"UPDATE quota_accounts SET ends_at = now() WHERE quota = '{name}'")
    control.execute(f"UPDATE quota_alerts SET ends_at = now() WHERE quota = '{name}'")
    await until(lambda: [alert["status"] for alert in told()] == ["firing"] * 3 + ["resolved"] * 3)


async def test_leases__are_lent_to_the_holder_of_the_control_key_only(control: ControlPlane) -> None:
    """A stranger gets 401, nonsense 400, and neither changes anything."""
    import httpx

    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"{control.url}/quota/leases"
        assert (await http.post(url, content=b"{}")).status_code == 401
        right = {"Authorization": f"Bearer {control.key}"}
        for nonsense in (b"", b"[]", b'{"gateway":"a","book":"b","seq":-1,"demands":[]}'):
            assert (await http.post(url, content=nonsense, headers=right)).status_code == 400
