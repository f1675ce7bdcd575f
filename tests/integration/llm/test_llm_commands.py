"""`reanimate llm …` on a real record, with a real gateway that obeys."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from typer.testing import CliRunner

from reanimate.commands.llm import app
from reanimate.errors import ReanimateError

NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Awaitable[Said]]


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LlmGateway]:
    home = tmp_path_factory.mktemp("home")
    write_settings(
        home,
        provider_toml("main", NOBODY, models=("large", "small")),
        provider_toml("backup", NOBODY),
        route_toml("chat", ["main/large", "backup/model"], cheaper=["main/small"], static_answer="Later, please."),
    )
    async with llm_gateway_for(home) as running:
        yield running


@pytest.fixture
def llm(gateway: LlmGateway, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `reanimate llm` with arguments, as a person would."""
    monkeypatch.setenv("REANIMATE_HOME", str(gateway.home))
    monkeypatch.setenv("DATABASE_URL", postgres_url)

    async def run(*arguments: str) -> Said:
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        if isinstance(result.exception, ReanimateError):  # `reanimate` itself makes one line of it
            return Said(1, result.stdout, str(result.exception))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


async def obeyed(gateway: LlmGateway) -> dict[tuple[str, str], Any]:
    """Return what the gateway obeys now."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    async with gateway.http.get(f"{gateway.control}/switches", headers=headers) as answer:
        return {(item["switch"], item["scope"]): item["value"] for item in (await answer.json())["switches"]}


@pytest.mark.parametrize(
    ("there", "held", "back"),
    [
        (["provider", "backup"], {("llm_prefer", "*"): "backup"}, ["provider", "none"]),
        (["cache", "on", "--route", "chat"], {("llm_cache", "chat"): "first"}, ["cache", "off", "--route", "chat"]),
        (
            ["tier", "cheaper", "--tenant", "a"],
            {("llm_tier", "tenant:a"): "cheaper"},
            ["tier", "normal", "--tenant", "a"],
        ),
        (["offline"], {("llm_cache", "*"): "only"}, ["offline", "--off"]),
        (
            ["degrade", "degraded"],
            {("llm_cache", "*"): "first", ("llm_tier", "*"): "cheaper"},
            ["degrade", "normal"],
        ),
        (["kill", "tool:transfer"], {("llm_kill", "tool:transfer"): "kill"}, ["allow", "tool:transfer"]),
        (["rate", "tenant:bad", "6"], {("llm_rate", "tenant:bad"): 6}, ["allow", "tenant:bad"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_there_and_back(
    gateway: LlmGateway, llm: Run, there: list[str], held: dict[tuple[str, str], Any], back: list[str]
) -> None:
    """A dry run changes nothing and shows what would; the command shows before, after and the way back, which works."""
    dry = json.loads((await llm(*there, "--dry-run", "--json")).stdout)
    assert dry["seq"] is None
    assert {(e["switch"], e["scope"]): (e["before"], e["after"]) for e in dry["effects"]} == {
        key: (None, value) for key, value in held.items()
    }
    assert await obeyed(gateway) == {}

    done = json.loads((await llm(*there, "--reason", "a test", "--json")).stdout)
    assert {(e["switch"], e["scope"]): (e["before"], e["after"]) for e in done["effects"]} == {
        key: (None, value) for key, value in held.items()
    }
    assert all(effect["gateway"] == "gateway" and "obeys after" in effect["obeyed"] for effect in done["effects"])
    assert await obeyed(gateway) == held

    shown = await llm(*back)
    assert shown.returncode == 0, shown.stderr
    assert "to go back: reanimate llm" in shown.stdout
    assert await obeyed(gateway) == {}


async def test_recover__step_by_step_and_only_ones_own(gateway: LlmGateway, llm: Run) -> None:
    """`recover` goes back over steps; a kill stays, since it wants a review; what another cause holds stays too."""
    await llm("degrade", "minimal")
    await llm("kill", "tenant:bad")
    planned = json.loads((await llm("recover", "--dry-run", "--json")).stdout)
    assert len(planned["rounds"]) == 2
    assert ("llm_cache", "*") in await obeyed(gateway)
    done = await llm("recover", "--step-s", "0", "--json")
    assert done.returncode == 0, done.stderr
    rounds = json.loads(done.stdout)["rounds"]
    assert [[(c["switch"], c["value"]) for c in item["placed"]] for item in rounds] == [[("llm_cache", "first")], []]
    assert await obeyed(gateway) == {("llm_kill", "tenant:bad"): "kill"}
    again = await llm("recover")
    assert again.returncode == 1
    assert "holds nothing of the LLM plane that comes back step by step" in again.stderr
    await llm("allow", "tenant:bad")
    assert await obeyed(gateway) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["provider", "nobody"], "no provider is called 'nobody'"),
        (["cache", "maybe"], "neither on nor off"),
        (["cache", "on", "--route", "nowhere"], "no route is called 'nowhere'"),
        (["degrade", "awful"], "is no level"),
        (["kill", "everybody"], "llm_kill cannot be set for 'everybody'"),
        (["kill", "route:nowhere"], "no route is called 'nowhere'"),
        (["allow", "tenant:nobody"], "neither kills nor cuts"),
        (["offline", "--route", "chat", "--tenant", "a"], "not both"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_mistakes_are_one_clear_line(llm: Run, arguments: list[str], said: str) -> None:
    """What there is not is said in one line with exit code 1, and nothing is changed."""
    wrong = await llm(*arguments)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert said in " ".join(wrong.stderr.split())
    assert "Traceback" not in wrong.stderr


async def test_mistakes__a_tenant_that_there_is_not(llm: Run, gateway: LlmGateway) -> None:
    """A misspelt tenant is not stopped in vain, where tenants are set; lifting asks for nothing of the kind."""
    settings = gateway.home / "reanimate.toml"
    before = settings.read_text()
    settings.write_text(before + '[[llm.tenants]]\nname = "good"\nkeys = ["key"]\n')
    try:
        for arguments in (["kill", "tenant:god"], ["rate", "tenant:god", "5"], ["cache", "on", "--tenant", "god"]):
            wrong = await llm(*arguments)
            assert wrong.returncode == 1
            assert "no tenant is called 'god'" in wrong.stderr
        assert (await llm("kill", "tenant:good", "--dry-run")).returncode == 0
    finally:
        settings.write_text(before)


async def test_status__who_holds_what(llm: Run) -> None:
    """`status` names each hold with its cause and reason, for people and machines."""
    await llm("offline", "--reason", "the vendor asked us to")
    found = json.loads((await llm("status", "--json")).stdout)
    assert [(hold["switch"], hold["value"]) for hold in found["holds"]] == [("llm_cache", "only")]
    assert "gateway" in found["gateways"]
    shown = (await llm("status")).stdout
    assert "the vendor asked us to" in shown
    assert "closed" not in shown, "to people a provider is up or out, as in `reanimate top`"
    await llm("offline", "--off")


async def test_change__gateway_is_away(llm: Run, gateway: LlmGateway) -> None:
    """A gateway that is not reached is named; the change is in the record and it asks for it when it is back."""
    await gateway.stop()
    try:
        done = await llm("cache", "on", "--json")
        assert list(json.loads(done.stdout)["not_reached"]) == ["gateway"]
        planned = await llm("tier", "cheaper", "--dry-run")
        assert "would be held: llm_tier of * = cheaper" in planned.stdout
        assert "gateway gateway was not reached" in planned.stderr
        blind = await llm("recover", "--step-s", "0")
        assert blind.returncode == 1
        assert "no gateway says how calls went after a step, which was taken back" in blind.stderr
        assert [hold["value"] for hold in json.loads((await llm("status", "--json")).stdout)["holds"]] == ["first"]
    finally:
        await gateway.start()
    assert json.loads((await llm("cache", "off", "--json")).stdout)["not_reached"] == {}
