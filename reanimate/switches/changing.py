"""Changing switches for a person: what holds on each gateway before, what would after, and what does after."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Hold
from reanimate.switches import holds
from reanimate.switches.document import Claim, effective
from reanimate.switches.gateways import control_urls
from reanimate.switches.publish import Obeyed, wait_until_obeyed

__all__ = ["Change", "Effect", "change", "softer"]

Values = Mapping[tuple[str, str], Any]
Place = tuple[str, str]


@dataclass(frozen=True)
class Effect:
    """One switch on one gateway. None is its default; `obeyed` is what the gateway says of the change."""

    gateway: str
    switch: str
    scope: str
    before: Any
    after: Any
    obeyed: str


@dataclass(frozen=True)
class Change:
    """What a change came to, or would come to."""

    effects: tuple[Effect, ...]
    seq: int | None
    """The number of the document; None for a dry run."""
    placed: tuple[Claim, ...]
    lifted: tuple[Claim, ...]
    silent: Mapping[str, str]
    """Gateways that were not reached, and why."""

    def to_json(self) -> dict[str, Any]:
        return {
            "dry_run": self.seq is None,
            "seq": self.seq,
            "placed": [vars(claim) for claim in self.placed],
            "lifted": [vars(claim) for claim in self.lifted],
            "effects": [vars(effect) for effect in self.effects],
            "not_reached": dict(self.silent),
        }


async def change(
    services: Services,
    *,
    place: Sequence[Claim] = (),
    lift: Iterable[Place] = (),
    cause: str,
    reason: str,
    actor: str,
    dry_run: bool = False,
) -> Change:
    """Place and lift claims of one cause in one step, wait until the gateways obey, and tell what each did before.

    Raises:
        InputInvalid: a claim names a switch, scope or value that there is not.
    """
    place = [Claim(claim.switch, claim.scope, effective([claim])[0].value) for claim in place]
    wanted = set(lift)
    async with services.sessions() as session:
        now_held = await holds.open_holds(session)
    lifted = [_claim(hold) for hold in now_held if hold.cause == cause and (hold.switch, hold.scope) in wanted]
    before = await _values_at(services)
    touched = sorted({(claim.switch, claim.scope) for claim in (*place, *lifted)})
    if dry_run:
        expected = _expected(now_held, cause, place, wanted)
        effects = [
            Effect(name, *key, values.get(key), expected.get(key), "dry run") for name, values in before.items()
            for key in touched
        ]  # fmt: skip
        silent = {name: "it does not answer now" for name in await control_urls(services) if name not in before}
        return Change(tuple(effects), None, tuple(place), tuple(lifted), silent)
    obeyed = await _carry_out(services, place, lifted, cause, reason, actor)
    after = await _values_at(services)
    effects = [
        Effect(name, *key, before.get(name, {}).get(key), after.get(name, {}).get(key), _said(obeyed, name))
        for name in dict.fromkeys([*before, *after])
        for key in touched
    ]
    return Change(tuple(effects), obeyed.seq, tuple(place), tuple(lifted), obeyed.silent)


async def _carry_out(
    services: Services, place: Iterable[Claim], lifted: Iterable[Claim], cause: str, reason: str, actor: str
) -> Obeyed:
    async with services.sessions.begin() as session:
        now = utcnow()
        for claim in lifted:
            await holds.lift(session, claim, cause=cause, reason=reason, actor=actor, now=now)
        for claim in place:
            await holds.place(session, claim, cause=cause, reason=reason, actor=actor, now=now)
    return await wait_until_obeyed(services)


def _claim(hold: Hold) -> Claim:
    return Claim(hold.switch, hold.scope, hold.value)


def _said(obeyed: Obeyed, gateway: str) -> str:
    if (after_ms := obeyed.acked_ms.get(gateway)) is not None:
        return f"obeys after {after_ms:.0f} ms"
    return f"not reached: {obeyed.silent.get(gateway, 'unknown')}"


def _expected(now_held: Sequence[Hold], cause: str, place: Sequence[Claim], lift: set[Place]) -> Values:
    """Return what would hold if the change were made."""
    new = {(claim.switch, claim.scope) for claim in place}
    kept = [hold for hold in now_held if hold.cause != cause or (hold.switch, hold.scope) not in lift | new]
    claims = effective([*(_claim(hold) for hold in kept), *place])
    return {(claim.switch, claim.scope): claim.value for claim in claims}


async def _values_at(services: Services) -> dict[str, Values]:
    """Return what each gateway obeys now; one that does not answer is not there."""

    async def ask(url: str) -> Values | None:
        try:
            answer = await services.http.get(
                f"{url}/switches", headers={"authorization": f"Bearer {services.secrets.control_key}"}, timeout=1.0
            )
            answer.raise_for_status()
            return {(item["switch"], item["scope"]): item["value"] for item in answer.json()["switches"]}
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    urls = await control_urls(services)
    found = zip(urls, await asyncio.gather(*(ask(url) for url in urls.values())), strict=True)
    return {name: values for name, values in found if values is not None}


def softer(claim: Claim) -> Claim | None:
    """Return the next step on the way back to normal; None when it is to be lifted. Pure."""
    match claim.switch:
        case "llm_cache" if claim.value == "only":
            return Claim(claim.switch, claim.scope, "first")
        case "llm_static" if claim.value > 20:
            return Claim(claim.switch, claim.scope, claim.value // 2)
        case "llm_concurrency" if claim.value < 40:
            return Claim(claim.switch, claim.scope, claim.value * 2)
        case "llm_avoid":
            return Claim("llm_share", claim.scope, 10)
        case "llm_share" if claim.value < 50:
            return Claim(claim.switch, claim.scope, 50)
    return None
