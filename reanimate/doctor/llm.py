"""Findings about the LLM plane's settings: what would only show in an outage, or to somebody who should not see it."""

import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from reanimate.doctor.finding import Finding, fail, ok, warn
from reanimate.llm_settings import LlmSettings, ModelSettings, ProviderSettings, RouteSettings

__all__ = ["llm_findings"]

Choices = list[tuple[ProviderSettings, ModelSettings]]


def llm_findings(settings: LlmSettings, gateway_host: str, file: Path) -> Iterator[Finding]:
    """Yield findings about providers, keys and routes; `file` is where the settings are."""
    if not settings.providers:
        return
    yield from _key_findings(settings, gateway_host, file)
    for provider in settings.providers:
        yield from _provider_findings(provider)
    known = {
        f"{provider.name}/{model.name}": (provider, model)
        for provider in settings.providers
        for model in provider.models
    }
    if not settings.routes:
        yield warn("LLM routes", "there is none", "add [[llm.routes]]: without one the gateway takes no model's name")
    for route in settings.routes:
        found = list(_route_findings(route, [known[choice.target] for choice in route.targets]))
        yield from found or [ok(f"LLM route {route.name}", f"{len(route.targets)} targets, each can stand in")]


def _key_findings(settings: LlmSettings, gateway_host: str, file: Path) -> Iterator[Finding]:
    has_keys = any(item.keys or item.headers for item in settings.providers) or bool(settings.tenants)
    mode = stat.S_IMODE(file.stat().st_mode) if has_keys and file.exists() else 0
    if mode & 0o007:
        yield fail("LLM keys", f"everybody here can read {file}", f"chmod 600 {file}; then change the keys")
    elif mode & 0o070:
        yield warn("LLM keys", f"the group can read {file}", f"chmod 600 {file}, unless that is meant so")
    if has_keys and not settings.tenants and not _is_local(gateway_host):
        yield warn(
            "LLM callers",
            f"whoever reaches the gateway at {gateway_host} asks with its keys",
            "give each agent a key of its own ([[llm.tenants]]), or bind the gateway to 127.0.0.1",
        )


def _provider_findings(provider: ProviderSettings) -> Iterator[Finding]:
    about = f"LLM provider {provider.name}"
    parts = urlsplit(provider.url)
    is_local = _is_local(parts.hostname or "")
    if parts.scheme == "http" and not is_local and (provider.keys or provider.pass_key):
        yield warn(about, f"keys go to {provider.url} in the clear", "use https, or a tunnel")
    if not provider.keys and not provider.pass_key and not provider.headers and not is_local:
        yield warn(about, "it is asked without a key", "set its keys, or pass_key = true")
    if provider.wire == "anthropic" and parts.path.endswith("/v1"):
        yield fail(about, f"its base URL {provider.url} ends in /v1", "leave that out: Anthropic's client adds it")


def _route_findings(route: RouteSettings, choices: Choices) -> Iterator[Finding]:
    about = f"LLM route {route.name}"
    names = {provider.name for provider, _ in choices}
    if len(names) == 1:
        yield warn(
            about, f"only {choices[0][0].name} answers it", "add a target of another provider: there is no fall-back"
        )
        return
    if len({model.kind for _, model in choices}) > 1:
        yield fail(about, "it mixes chat and embedding models", "make two routes of it")
        return
    first_provider, first = choices[0]
    others = [(provider, model) for provider, model in choices if provider.name != first_provider.name]
    if first.kind == "embedding":
        if any(model.name != first.name for _, model in others):
            yield warn(
                about,
                "its models are not the same: vectors of one mean nothing to the index of another",
                "name the same model at each provider",
            )
        if any(provider.wire == "anthropic" for provider, _ in choices):
            yield fail(about, "there are no embeddings on Anthropic's wire", "take that target out")
        return
    yield from _weaker_fallbacks(about, first_provider.name, first, [model for _, model in others])
    hosts = {urlsplit(provider.url).netloc for provider, _ in choices}
    if len(hosts) == 1:
        yield warn(about, f"all its providers are at {hosts.pop()}", "add one elsewhere: they will be out together")
    has_openai = any(provider.wire == "openai" for provider, _ in choices)
    for provider, model in choices:
        if provider.wire == "anthropic" and has_openai and model.max_output_tokens is None:
            yield warn(
                about,
                f"{provider.name}/{model.name} gets 4096 tokens for callers of OpenAI's API who set no limit",
                "set its max_output_tokens",
            )


def _weaker_fallbacks(about: str, name: str, first: ModelSettings, others: list[ModelSettings]) -> Iterator[Finding]:
    """Yield what the first choice can do and nobody who would stand in for it."""
    for what, can in (
        ("calls with tools have", [model.tools for model in others] if first.tools else [True]),
        ("images have", [model.vision for model in others] if first.vision else [True]),
        (
            "structured answers have",
            [model.structured_output for model in others] if first.structured_output else [True],
        ),
    ):
        if not any(can):
            yield warn(about, f"{what} no fall-back when {name} is out", "add a target of another provider that can")
    largest = max(model.context_tokens for model in others)
    if largest < first.context_tokens:
        yield warn(
            about,
            f"prompts of more than {largest:,} tokens have no fall-back when {name} is out",
            "add a target with more room, if you have such prompts",
        )


def _is_local(host: str) -> bool:
    """Say whether a host is this machine. A name that is not localhost may be anywhere."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
