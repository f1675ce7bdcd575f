"""Verification through a real gateway: it waits for what passes by itself, and asks as somebody who may ask."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from runbook_rig import Scene, scene_at, until
from sqlalchemy import select

from reanimate.clock import utcnow
from reanimate.db.tables import TimelineEntry
from reanimate.demo.provider import Fault as Outage
from reanimate.demo.provider import Provider
from reanimate.errors import VerificationFailed
from reanimate.incidents.faults import Fault
from reanimate.runbooks.action import ActionContext
from reanimate.runbooks.actions.llm_checks import VerifyAnswers
from reanimate.switches import holds
from reanimate.switches.document import Claim
from reanimate.switches.publish import wait_until_obeyed

QUICK = '[[llm.rules]]\nname = "errors"\nmin_samples = 5\nwindow_s = 10\nhold_s = 2\nstep_s = 1\n'
PATIENT = QUICK.replace("hold_s = 2", "hold_s = 600")
CALM = '[[llm.rules]]\nname = "failures_in_a_row"\nenabled = false\n'
TENANTS = "".join(f'[[llm.tenants]]\nname = "{name}"\nkeys = ["key-{name}"]\n' for name in ("one", "two"))
QUOTA = '[[llm.quotas]]\nname = "two-daily"\ntenant = "two"\nrequests = 100\n'


@pytest.fixture
async def scene(
    tmp_path: Path,
    postgres_url: str,
    vector_urls: list[str],
    providers: tuple[Provider, Provider],
    request: pytest.FixtureRequest,
) -> AsyncIterator[Scene]:
    async with scene_at(tmp_path, postgres_url, vector_urls, providers, *request.param) as opened:
        yield opened
        async with opened.services.sessions.begin() as session:
            for hold in await holds.open_holds(session):
                await holds.lift_all(session, cause=hold.cause, reason="the test is over", actor="test", now=utcnow())


async def _verify(scene: Scene, incident_id: str | None = None, **params: Any) -> dict[str, Any]:
    incident_id = incident_id or await scene.open(Fault.LLM_API_UNAVAILABLE, provider="main")
    action = VerifyAnswers()
    return await action.act(
        ActionContext(
            services=scene.services,
            incident=await scene.incident(incident_id),
            params=action.params.model_validate({"answers": 1, **params}),
            actor="test",
            record_id=None,
            progress={},
        )
    )


async def _notes(scene: Scene, incident_id: str) -> list[str]:
    async with scene.services.sessions() as session:
        written = select(TimelineEntry.message).where(
            TimelineEntry.incident_id == incident_id, TimelineEntry.kind == "note"
        )
        return list(await session.scalars(written))


async def _all_out(scene: Scene) -> None:
    """Let both providers fail until the gateway's own rule answers with the static answer."""
    for provider in (scene.main, scene.backup):
        provider.fail(Outage("status", error="server_error"))

    async def holding() -> bool:
        await scene.gateway.chat("anybody?")
        policies = (await scene.gateway.figures())["llm"]["policies"]
        return "rule errors chat" in policies["by_rules"]

    await until(holding)


async def _healed(scene: Scene) -> None:
    """Let both be well again, and the gateway know it."""
    for provider in (scene.main, scene.backup):
        provider.heal()

    async def known() -> bool:
        health = (await scene.gateway.figures())["llm"]["health"]
        return all(health[name]["standing"] == "closed" for name in ("main/large", "backup/model"))

    await until(known)


@pytest.mark.parametrize("scene", [(QUICK, CALM)], indirect=True)
async def test_verify__waits_until_the_gateways_own_rules_have_let_go(scene: Scene) -> None:
    """Static answers go on for a while after providers are well: they prove nothing, and are no failure either."""
    await _all_out(scene)
    await _healed(scene)
    assert (await scene.gateway.chat("too soon"))[2]["x-reanimate-cache"] == "static"
    incident_id = await scene.open(Fault.LLM_API_UNAVAILABLE, provider="main")
    evidence = await _verify(scene, incident_id)
    assert evidence["passed"] is True
    assert [asked["answered_by"] for asked in evidence["through_gateway"]] == ["main/large"]
    assert (await scene.gateway.figures())["llm"]["policies"]["by_rules"] == {}, "not while some calls are still kept"
    assert any("rule errors chat still holds llm_static" in note for note in await _notes(scene, incident_id))


@pytest.mark.parametrize("scene", [(PATIENT, CALM)], indirect=True)
async def test_verify__a_provider_that_fails_anew_is_not_waited_for(scene: Scene) -> None:
    """While the rules hold, what the gateway's probes see of the provider counts; and patience has an end."""
    await _all_out(scene)
    with pytest.raises(VerificationFailed, match="main/large"):
        await _verify(scene)
    await _healed(scene)
    with pytest.raises(VerificationFailed, match=r"could not be verified within .* rule errors chat still holds"):
        await _verify(scene, patience_s=0)


@pytest.mark.parametrize("scene", [()], indirect=True)
async def test_verify__waits_for_a_gateway_that_was_killed(scene: Scene) -> None:
    """A killed gateway is back in a moment: nobody is called for that."""
    incident_id = await scene.open(Fault.LLM_API_UNAVAILABLE, provider="main")
    await scene.gateway.stop(signal.SIGKILL)
    verifying = asyncio.create_task(_verify(scene, incident_id))
    try:

        async def waits() -> bool:
            return "verification waits: no gateway answers" in await _notes(scene, incident_id)

        await until(waits)
        assert not verifying.done()
        await scene.gateway.start()
        assert (await verifying)["passed"] is True
    finally:
        verifying.cancel()


@pytest.mark.parametrize("scene", [(TENANTS,)], indirect=True)
async def test_verify__asks_as_a_tenant_who_may(scene: Scene) -> None:
    """That a tenant is stopped for another reason says nothing about the provider."""
    async with scene.services.sessions.begin() as session:
        claim = Claim("llm_kill", "tenant:one", "kill")
        await holds.place(session, claim, cause="test", reason="test", actor="test", now=utcnow())
    await wait_until_obeyed(scene.services)
    assert (await _verify(scene))["passed"] is True
    async with scene.services.sessions.begin() as session:
        claim = Claim("llm_kill", "tenant:two", "kill")
        await holds.place(session, claim, cause="test", reason="test", actor="test", now=utcnow())
    await wait_until_obeyed(scene.services)
    with pytest.raises(VerificationFailed, match="route chat: HTTP 403"):
        await _verify(scene)


@pytest.mark.parametrize("scene", [(TENANTS, QUOTA)], indirect=True)
async def test_reflex__a_tenants_quota_holds_nobody_else(scene: Scene) -> None:
    """What one tenant has used up makes no other tenant's answers cheaper or older."""
    await scene.alert(Fault.TOKEN_QUOTA_EXHAUSTED, "llm:*", quota="two-daily", tenant="*", threshold="0.8")
    assert await scene.holds() == {("llm_tier", "tenant:two"): "cheaper"}
