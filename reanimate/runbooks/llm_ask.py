"""Real questions to LLM providers and through the gateways, to see whether answers come, and whether they are right."""

import json
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema

from reanimate.bootstrap import Services
from reanimate.llm_policies import CheckSettings
from reanimate.llm_settings import LlmSettings, ModelSettings, ProviderSettings

__all__ = ["Asked", "ask_route", "ask_target", "checks_for", "judge_answer", "run_checks"]

_TIMEOUT_S = 20.0
_QUESTION = "Answer with the single word OK. (check {nonce})"
_TOKENS = 64
_DIRECT_CACHE = frozenset({"", "off", "miss"})
_TURNED_AWAY = (403, 429)
_CALLERS = 5


@dataclass(frozen=True)
class Asked:
    """One question and what came back."""

    who: str
    ok: bool
    """A complete answer of a model came."""
    detail: str
    text: str = ""
    ms: float = 0.0
    answered_by: str = ""
    status: int | None = None
    """None: there was no answer at all."""
    attempts: int = 0
    """Of the gateway, at providers."""

    def to_json(self) -> dict[str, Any]:
        return {
            "who": self.who,
            "ok": self.ok,
            "detail": self.detail,
            "ms": self.ms,
            "answered_by": self.answered_by,
            "status": self.status,
        }


async def ask_target(
    services: Services,
    target: str,
    prompt: str | None = None,
    system: str | None = None,
    max_tokens: int = _TOKENS,
) -> Asked | None:
    """Ask one model of a provider itself, with the gateways' own key; None where only callers have keys."""
    name, _, model_name = target.partition("/")
    provider = next(item for item in services.settings.llm.providers if item.name == name)
    model = next(item for item in provider.models if item.name == model_name)
    if provider.pass_key and not provider.keys:
        return None
    headers = {key: value.get_secret_value() for key, value in provider.headers.items()}
    url, body = _question(provider, model, prompt or _QUESTION.format(nonce=uuid.uuid4().hex[:8]), system, max_tokens)
    last = Asked(target, False, "it has no key")
    keys: list[str | None] = [item.get_secret_value() for item in provider.keys]
    for key in keys or [None]:
        own = _key_headers(provider, key) | headers
        last = await _post(services, target, url, body, own)
        if last.status not in (401, 402, 403, 429):
            return last
    return last


async def ask_route(
    services: Services, route: str, headers: dict[str, str] | None = None, tenant: str | None = None
) -> Asked:
    """Ask through the gateway, as the agent does, a question that no cache can have an answer to.

    As `tenant`, or else as one whom the gateway lets ask: that somebody was stopped, or has used up a quota, says
    nothing about providers.
    """
    asked = Asked(f"route {route}", False, "nobody may ask")
    for caller in _callers(services.settings.llm, tenant):
        asked = await _ask_route_as(services, route, caller | (headers or {}))
        if asked.status not in _TURNED_AWAY or asked.attempts:
            break
    return asked


def _callers(settings: LlmSettings, tenant: str | None) -> list[dict[str, str]]:
    """Return the headers by which callers say who they are, of those as whom may be asked."""
    if not settings.tenants:
        return [{"x-reanimate-tenant": tenant} if tenant else {}]
    named = [item for item in settings.tenants if item.name == tenant] or list(settings.tenants[:_CALLERS])
    return [{"authorization": f"Bearer {item.keys[0].get_secret_value()}"} for item in named]


async def _ask_route_as(services: Services, route: str, headers: dict[str, str]) -> Asked:
    settings = services.settings.llm
    found = next(item for item in settings.routes if item.name == route)
    name, _, model_name = found.targets[0].target.partition("/")
    provider = next(item for item in settings.providers if item.name == name)
    model = next(item for item in provider.models if item.name == model_name)
    base = f"{services.addresses.gateway}/v1"
    prompt = _QUESTION.format(nonce=uuid.uuid4().hex[:8])
    own = {"cache-control": "no-cache", **headers}
    if provider.wire == "anthropic" and model.kind == "chat":
        own["anthropic-version"] = "2023-06-01"
        body = {"model": route, "max_tokens": _TOKENS, "messages": [{"role": "user", "content": prompt}]}
        return await _post(services, f"route {route}", f"{base}/messages", body, own)
    url, body = _openai_question(base, route, model, prompt, None, _TOKENS)
    return await _post(services, f"route {route}", url, body, own)


def _question(
    provider: ProviderSettings, model: ModelSettings, prompt: str, system: str | None, max_tokens: int
) -> tuple[str, dict[str, Any]]:
    if provider.wire == "anthropic" and model.kind == "chat":
        body: dict[str, Any] = {
            "model": model.name, "max_tokens": max_tokens, "messages": [{"role": "user", "content": prompt}],
        }  # fmt: skip
        return f"{provider.url}/v1/messages", body | ({"system": system} if system else {})
    return _openai_question(provider.url, model.name, model, prompt, system, max_tokens)


def _openai_question(
    base: str, name: str, model: ModelSettings, prompt: str, system: str | None, max_tokens: int
) -> tuple[str, dict[str, Any]]:
    if model.kind == "embedding":
        return f"{base}/embeddings", {"model": name, "input": prompt}
    messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": prompt}]
    return f"{base}/chat/completions", {"model": name, "max_tokens": max_tokens, "messages": messages}


def _key_headers(provider: ProviderSettings, key: str | None) -> dict[str, str]:
    if provider.wire == "anthropic":
        return {"anthropic-version": "2023-06-01", **({"x-api-key": key} if key else {})}
    return {"authorization": f"Bearer {key}"} if key else {}


async def _post(services: Services, who: str, url: str, body: dict[str, Any], headers: dict[str, str]) -> Asked:
    """Ask, and look at the answer; whatever goes wrong is an answer that is not ok."""
    began = time.monotonic()
    try:
        answer = await services.http.post(url, json=body, headers=headers, timeout=_TIMEOUT_S)
        if answer.status_code == 400 and b"max_completion_tokens" in answer.content and "max_tokens" in body:
            # Newer models of OpenAI know the bound by another name only.
            body = {**{key: value for key, value in body.items() if key != "max_tokens"}}
            body["max_completion_tokens"] = _TOKENS
            answer = await services.http.post(url, json=body, headers=headers, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        return Asked(who, False, f"{type(error).__name__}: {error}"[:200], ms=_since(began))
    by = answer.headers.get("x-reanimate-target", "")
    if answer.status_code != 200:
        said = answer.text[:200].replace("\n", " ")
        told, attempts = answer.headers.get("x-reanimate-attempts", ""), 0
        if told.isascii() and told.isdigit():
            attempts = int(told)
        return Asked(
            who, False, f"HTTP {answer.status_code}: {said}", "", _since(began), by, answer.status_code, attempts
        )
    if (cache := answer.headers.get("x-reanimate-cache", "")) not in _DIRECT_CACHE:
        return Asked(who, False, f"not a model answered, but the cache ({cache})", "", _since(began), by, 200)
    try:
        text, finish = _read(answer.json())
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return Asked(who, False, f"no answer of a model: {type(error).__name__}", "", _since(began), by, 200)
    ok = finish is not None
    return Asked(who, ok, f"finish: {finish}" if ok else "the answer has no end", text, _since(began), by, 200)


def _read(answer: dict[str, Any]) -> tuple[str, str | None]:
    """Return the text of an answer and why it ended."""
    if "choices" in answer:
        choice = answer["choices"][0]
        return str(choice["message"].get("content") or ""), choice["finish_reason"]
    if "content" in answer:
        text = "".join(block.get("text", "") for block in answer["content"])
        return text, answer["stop_reason"]
    if answer["data"][0]["embedding"]:
        return "", "embedding"
    raise ValueError("no vector")


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def checks_for(services: Services, target: str) -> list[CheckSettings]:
    """Return the questions with known answers that a target is to be asked."""
    settings = services.settings.llm
    routes = {
        route.name
        for route in settings.routes
        if any(choice.target == target for choice in (*route.targets, *route.cheaper))
    }
    return [check for check in settings.checks if check.route is None or check.route in routes]


def judge_answer(check: CheckSettings, text: str) -> str | None:
    """Say what is wrong with an answer; None when it is as expected. Pure."""
    if check.contains is not None and check.contains.casefold() not in text.casefold():
        return f"does not say {check.contains!r}"
    if check.matches is not None and re.search(check.matches, text) is None:
        return f"does not match {check.matches!r}"
    if check.json_schema is not None:
        try:
            jsonschema.validate(json.loads(text), check.json_schema)
        except ValueError:
            return "is not JSON"
        except jsonschema.ValidationError as error:
            return f"is JSON of another shape: {error.message[:120]}"
    return None


async def run_checks(services: Services, target: str) -> list[dict[str, Any]]:
    """Ask a target every question with a known answer; return how each went."""
    results = []
    for check in checks_for(services, target):
        asked = await ask_target(services, target, check.prompt, check.system, check.max_tokens)
        if asked is None:
            results.append({"check": check.name, "passed": False, "found": "only callers have keys for it"})
            continue
        wrong = judge_answer(check, asked.text) if asked.ok else asked.detail
        results.append({"check": check.name, "passed": wrong is None, "found": wrong or "as expected", "ms": asked.ms})
    return results
