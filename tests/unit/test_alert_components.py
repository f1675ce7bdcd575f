"""Which dependency an alert is about."""

import pytest

from reanimate.addresses import Addresses
from reanimate.alerts.components import component_of, scope_of
from reanimate.config import DependencySettings, Settings, VectorSettings, VectorTarget
from reanimate.llm_settings import LlmSettings

ADDRESSES = Addresses(
    web="http://127.0.0.1:8700",
    prefect_api="http://127.0.0.1:8704/api",
    prefect_ui="http://127.0.0.1:8704",
    gateway="http://127.0.0.1:8710",
    gateway_control="http://127.0.0.1:8711",
    watch="http://127.0.0.1:8712",
    database="postgresql+psycopg://reanimate@127.0.0.1:8705/reanimate",
    vector={"primary": "http://127.0.0.1:6333"},
)
SETTINGS = Settings(
    vector=VectorSettings(
        targets=(
            VectorTarget(name="primary", role="primary"),
            VectorTarget(name="replica", role="replica", url="https://qdrant.example:443/"),
        )
    ),
    dependencies=(
        DependencySettings(name="openai", kind="llm_provider", url="https://api.openai.example/v1"),
        DependencySettings(name="orders", kind="database", url="tcp://db.example:5432"),
        DependencySettings(name="search", kind="tool", url="http://search.example/health"),
    ),
)


@pytest.mark.parametrize(
    ("labels", "component"),
    [
        ({"component": "vector:other"}, "vector:other"),
        ({"component": "llm:openai", "instance": "127.0.0.1:6333"}, "llm:openai"),
        ({"component": "nonsense", "instance": "127.0.0.1:6333"}, "vector:primary"),
        ({"component": "vector:", "target": "replica"}, "vector:replica"),
        ({"instance": "127.0.0.1:6333", "job": "qdrant"}, "vector:primary"),
        ({"instance": "localhost:6333"}, "vector:primary"),
        ({"instance": "http://127.0.0.1:6333/metrics"}, "vector:primary"),
        ({"instance": "qdrant.example:443"}, "vector:replica"),
        ({"target": "https://qdrant.example/healthz"}, "vector:replica"),
        ({"instance": "api.openai.example:443"}, "llm:openai"),
        ({"instance": "db.example:5432"}, "database:orders"),
        ({"instance": "search.example:80"}, "tool:search"),
        ({"service": "search"}, "tool:search"),
        ({"job": "openai", "instance": "somewhere:1"}, "llm:openai"),
        ({"target": "primary", "service": "search"}, "vector:primary"),
        ({"job": "search", "instance": "127.0.0.1:6333"}, "vector:primary"),
        ({"instance": "127.0.0.1:9999"}, "unknown"),
        ({"instance": "http://[::1"}, "unknown"),
        ({"instance": "host:notaport", "service": ""}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_component__from_labels(labels: dict[str, str], component: str) -> None:
    """The alert's own word comes first, then addresses, then names; what fits nothing is unknown, never a guess."""
    assert component_of(labels, SETTINGS, ADDRESSES) == component


def test_scope__target_and_collection() -> None:
    """A vector component names its target; a collection is kept if the alert names one."""
    assert scope_of("vector:primary", {"collection": "kb"}) == {"target": "primary", "collections": ["kb"]}
    assert scope_of("vector:primary", {}) == {"target": "primary"}
    assert scope_of("llm:openai", {}) == {}


def test_component_of__attack_is_about_the_tenant() -> None:
    """An attack is no part of an outage: it is about who leads it, whatever component its sender names."""
    labels = {"fault": "malicious_prompt_attack", "component": "llm:main", "tenant": "bad"}
    assert component_of(labels, SETTINGS, ADDRESSES) == "tenant:bad"
    assert component_of({**labels, "fault": "llm_api_unavailable"}, SETTINGS, ADDRESSES) == "llm:main"
    assert scope_of("tenant:bad", labels) == {"tenant": "bad"}


LLM = SETTINGS.model_copy(
    update={
        "llm": LlmSettings.model_validate(
            {
                "providers": [
                    {"name": "main", "url": "https://m.example/v1", "models": [{"name": "a"}, {"name": "b"}]}
                ],
                "routes": [{"name": "chat", "targets": ["main/a"]}],
            }
        )
    }
)


@pytest.mark.parametrize(
    ("labels", "component"),
    [
        ({"provider": "main"}, "llm:main"),
        ({"provider": "main", "model": "a"}, "llm:main/a"),
        ({"provider": "main", "model": "unheard-of"}, "llm:main"),
        ({"target": "main/b", "instance": "127.0.0.1:8711"}, "llm:main/b"),
        ({"route": "chat"}, "llm:chat"),
        ({"fault": "llm_api_unavailable"}, "llm:*"),
        ({"fault": "token_quota_exhausted", "provider": "somebody"}, "llm:*"),
        ({"fault": "vector_database_down", "provider": "somebody"}, "unknown"),
        ({"target": "primary", "provider": "main"}, "vector:primary"),
    ],
)
def test_component__of_llm_calls(labels: dict[str, str], component: str) -> None:
    """What any sender says of a provider, a model or a route is of the one outage that the watch sees too."""
    assert component_of(labels, LLM, ADDRESSES) == component


def test_component__of_llm_calls_where_there_are_none() -> None:
    assert component_of({"fault": "llm_api_unavailable", "provider": "main"}, SETTINGS, ADDRESSES) == "unknown"
