"""What is watched, made from the settings and the addresses: targets, other dependencies, our own parts."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import urlsplit

from reanimate.addresses import Addresses
from reanimate.config import DependencySettings, Settings, WatchSettings
from reanimate.incidents.faults import Fault
from reanimate.watch.judge import Rules

__all__ = ["Dependency", "Kind", "dependencies_of"]

PULSES_PER_INTERVAL = 5
"""Vector targets are asked this often per interval: silence is judged `timeout_s` after the first unanswered probe,
so the wait for that first probe adds to every hang. Other dependencies may be strangers' servers; they are not."""
PART_PATIENCE_S = 60.0
"""Our own parts are restarted by their supervisor; only one that stays away is worth an alert."""


class Kind(StrEnum):
    VECTOR = "vector"
    LLM_PROVIDER = "llm_provider"
    TOOL = "tool"
    DATABASE = "database"
    PART = "part"


COMPONENT_PREFIX = {Kind.VECTOR: "vector", Kind.LLM_PROVIDER: "llm", Kind.TOOL: "tool", Kind.DATABASE: "database"}
FAULT = {
    Kind.VECTOR: Fault.VECTOR_DATABASE_DOWN,
    Kind.LLM_PROVIDER: Fault.LLM_API_UNAVAILABLE,
    Kind.TOOL: Fault.EXTERNAL_TOOL_DOWN,
    Kind.DATABASE: Fault.UNKNOWN,
    Kind.PART: Fault.UNKNOWN,
}


@dataclass(frozen=True)
class Dependency:
    """One watched thing. `url` is what is asked; a `tcp://` one must only accept a connection."""

    kind: Kind
    name: str
    url: str
    rules: Rules
    healthy_below: int = 500
    """An HTTP status below this is a healthy answer."""
    role: str | None = None
    """primary or replica, of a vector target."""
    extra_labels: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Unique among everything watched: `vector:primary`, `llm:openai`, `part:web`."""
        return f"{COMPONENT_PREFIX.get(self.kind, 'part')}:{self.name}"

    @property
    def component(self) -> str:
        """The component an alert names; our own parts are none of the agent's components."""
        return Fault.UNKNOWN if self.kind is Kind.PART else self.key

    @property
    def labels(self) -> dict[str, str]:
        """Labels of an alert that says this dependency is down."""
        return {"fault": FAULT[self.kind], "component": self.component, **self.extra_labels}

    @property
    def shown_url(self) -> str:
        """The URL without credentials or query, fit for a page and a log."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def rules_of(settings: WatchSettings) -> Rules:
    return Rules(
        samples=settings.samples,
        recovered_after=settings.recovered_after,
        timeout_s=settings.timeout_s,
        interval_s=settings.interval_s,
    )


def dependencies_of(settings: Settings, addresses: Addresses) -> tuple[Dependency, ...]:
    """List everything to watch, in the order it is shown."""
    rules = rules_of(settings.watch)
    return (
        *vector_targets(settings, addresses, rules),
        *(other(dependency, rules) for dependency in settings.dependencies),
        *own_parts(addresses, rules),
    )


def vector_targets(settings: Settings, addresses: Addresses, rules: Rules) -> list[Dependency]:
    rules = replace(rules, interval_s=rules.interval_s / PULSES_PER_INTERVAL)
    found = []
    for target in settings.vector.serving:  # the rest is asked only when these are out, or never by the agent
        url = target.url or addresses.vector.get(target.name)
        if url is not None:
            found.append(
                Dependency(
                    kind=Kind.VECTOR,
                    name=target.name,
                    url=f"{url.rstrip('/')}/healthz",
                    rules=rules,
                    healthy_below=300,
                    role=target.role,
                    extra_labels={"target": target.name, "role": target.role},
                )
            )
    return found


def other(settings: DependencySettings, rules: Rules) -> Dependency:
    return Dependency(kind=Kind(settings.kind), name=settings.name, url=settings.url, rules=rules)


def own_parts(addresses: Addresses, rules: Rules) -> list[Dependency]:
    rules = replace(rules, patience_s=max(PART_PATIENCE_S, rules.patience_s), first_sight_s=60.0)
    urls = {
        "web": f"{addresses.web}/healthz",
        "prefect": f"{addresses.prefect_api}/ready",
        "gateway": f"{addresses.gateway_control}/healthz",
    }
    return [Dependency(Kind.PART, name, url, rules, extra_labels={"part": name}) for name, url in urls.items()]
