"""Which dependency an alert is about: `kind:name` from its labels, or `unknown`. Pure."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from reanimate.addresses import Addresses
from reanimate.config import Settings
from reanimate.incidents.faults import Fault

__all__ = ["KINDS", "UNKNOWN", "component_of", "is_component", "scope_of"]

KINDS = ("vector", "llm", "tool", "database", "tenant")
UNKNOWN = "unknown"
_KIND_OF_DEPENDENCY = {"llm_provider": "llm", "tool": "tool", "database": "database"}
_LLM_LABELS = ("provider", "model", "route", "tenant", "tool", "quota", "meter", "signal", "rule")
_PLACE_LABELS = ("target", "instance", "service", "job")
_LLM_FAULTS = (Fault.LLM_API_UNAVAILABLE, Fault.TOKEN_QUOTA_EXHAUSTED, Fault.OUTPUT_QUALITY_DROP)
_PORTS = {"http": 80, "https": 443}


def is_component(text: str) -> bool:
    """Say whether `text` has the form kind:name, with a kind that we know."""
    kind, _, name = text.partition(":")
    return kind in KINDS and bool(name)


def component_of(labels: Mapping[str, str], settings: Settings, addresses: Addresses) -> str:
    """Return the component that `labels` speak of.

    Its own `component` label wins; then target, instance, service and job are held against the addresses of what is
    configured, and then against the names; then provider, model and route. An alert that fits nothing is about LLM
    calls if its fault is one of theirs, else `unknown`. An attack is about the tenant
    who leads it: it is contained for itself, and is no part of an outage that goes on at the same time.
    """
    named, tenant = labels.get("component", ""), labels.get("tenant", "")
    if labels.get("fault") == Fault.MALICIOUS_PROMPT_ATTACK and tenant:
        return f"tenant:{tenant}"
    if is_component(named):
        return named
    values = [labels[label] for label in _PLACE_LABELS if labels.get(label)]
    places = {place: component for component, url in _known(settings, addresses) if (place := _place(url))}
    names = {component.partition(":")[2]: component for component, _ in _known(settings, addresses)}
    by_place = (places[place] for value in values if (place := _place(value)) in places)
    by_name = (names[value] for value in values if value in names)
    return next(by_place, None) or next(by_name, None) or _of_llm(labels, settings) or UNKNOWN


def _of_llm(labels: Mapping[str, str], settings: Settings) -> str | None:
    """Return what of LLM calls the labels name: a model, a provider, a route; `*` if only the fault says so."""
    llm, provider = settings.llm, labels.get("provider", "")
    targets = {f"{item.name}/{model.name}" for item in llm.providers for model in item.models}
    providers, routes = {item.name for item in llm.providers}, {item.name for item in llm.routes}
    for name, known in (
        (f"{provider}/{labels.get('model')}", targets),
        (labels.get("target", ""), targets),
        (provider, providers),
        (labels.get("route", ""), routes),
    ):
        if name in known:
            return f"llm:{name}"
    return "llm:*" if llm.providers and labels.get("fault") in _LLM_FAULTS else None


def scope_of(component: str, labels: Mapping[str, str]) -> dict[str, object]:
    """Return what exactly an incident about `component` concerns.

    Of a vector target its name and a collection that is named; of LLM calls whose, and where.
    """
    kind, _, name = component.partition(":")
    if kind in ("llm", "tenant"):
        return {label: labels[label] for label in _LLM_LABELS if labels.get(label)}
    scope: dict[str, object] = {"target": name} if kind == "vector" else {}
    if collection := labels.get("collection"):
        scope["collections"] = [collection]
    return scope


def _known(settings: Settings, addresses: Addresses) -> Iterator[tuple[str, str]]:
    """Yield (component, URL) of everything configured. Targets come last: their name wins over a dependency's."""
    for dependency in settings.dependencies:
        yield f"{_KIND_OF_DEPENDENCY[dependency.kind]}:{dependency.name}", dependency.url
    for provider in settings.llm.providers:
        yield f"llm:{provider.name}", provider.url
    for target in settings.vector.serving:
        yield f"vector:{target.name}", target.url or addresses.vector.get(target.name, "")


def _place(text: str) -> tuple[str, int] | None:
    """Return (host, port) of a URL or of host:port; None for what is neither."""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or port is None:
        return None
    return ("127.0.0.1" if parts.hostname == "localhost" else parts.hostname), port
