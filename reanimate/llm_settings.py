"""The settings of the LLM plane: providers with their models, routes over them, tenants."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from reanimate.llm_policies import CheckSettings, RuleSettings, with_shipped
from reanimate.section import Name, Seconds, Section, Share, Zone, is_glob

__all__ = [
    "LlmSettings",
    "ModelSettings",
    "ProviderSettings",
    "QuotaSettings",
    "RouteSettings",
    "RouteTarget",
    "TenantSettings",
]

_KEY = re.compile(r"[!-~]+")
_VARIABLE = re.compile(r"\$\w+|\$?\{.*\}|env:.*", re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_VALUE = re.compile(r"[ -~]+")

Count = Annotated[int, Field(ge=1)]
Price = Annotated[float, Field(ge=0)]


def _check_key(key: SecretStr, number: int) -> None:
    """Look whether something can be a key at all.

    Raises:
        ValueError: it cannot; what it holds is not said.
    """
    said = key.get_secret_value()
    if not _KEY.fullmatch(said):
        raise ValueError(
            f"key {number} holds what no key does (nothing, a space, a line break, …): is it pasted whole?"
        )
    if _VARIABLE.fullmatch(said):
        raise ValueError(
            f"key {number} is the name of an environment variable, and this file looks none up: put the key itself "
            "here, or everything of this list as JSON into REANIMATE_LLM__PROVIDERS or REANIMATE_LLM__TENANTS"
        )


def _check_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    for number, key in enumerate(keys, start=1):
        _check_key(key, number)
    return keys


_WHOLE_KEYS = AfterValidator(_check_keys)


class ModelSettings(Section):
    """One model of a provider: what it can do, what it costs, how much of it there is."""

    name: Annotated[str, Field(min_length=1)]
    """As the provider calls it."""
    kind: Literal["chat", "embedding"] = "chat"
    context_tokens: Count = 128_000
    """Input and output together."""
    max_output_tokens: Count | None = None
    tools: bool = True
    vision: bool = False
    structured_output: bool = True
    prefill: bool = False
    """Goes on where an assistant message at the end of the conversation stops."""
    input_price: Price = 0.0
    """Of a million tokens, in the one currency of these settings."""
    output_price: Price = 0.0
    requests_per_min: Count | None = None
    tokens_per_min: Count | None = None
    concurrency: Count | None = None


class ProviderSettings(Section):
    """A server that speaks one of the two wires."""

    name: Name
    wire: Literal["openai", "anthropic"] = "openai"
    url: str
    """The base URL as the vendor's SDK takes it: https://api.openai.com/v1, https://api.anthropic.com"""
    keys: Annotated[tuple[SecretStr, ...], _WHOLE_KEYS] = ()
    """One is used until it is out of quota or refused, then the next."""
    pass_key: bool = False
    """Pass on the key that the caller sent, to this provider only; for when the gateway has none of its own."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    usage_in_streams: bool = True
    """Ask for usage in streams; false for a server that does not know `stream_options`."""
    responses: bool = True
    """Whether an OpenAI server has /responses; false: such calls are carried to its /chat/completions."""
    connect_timeout_s: Seconds = 1.0
    status_page: str | None = None
    """Where the provider says how it is, for the incident's evidence."""
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the http(s) address of a server")
        return url.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _headers_can_be_sent(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"{name!r} is no header that can be sent: a name, or a value of one line, is wanted")
        return headers


class RouteTarget(Section):
    """One choice of a route."""

    target: str
    """provider/model"""
    weight: Annotated[int, Field(ge=0)] = 1
    """Only with `order = "weighted"`; 0: asked when the others have failed."""


class RouteSettings(Section):
    """What the agent asks for as `model`, and who may answer."""

    name: Annotated[str, Field(min_length=1)]
    also: tuple[str, ...] = ()
    """Other names, or globs, that the agent asks by."""
    targets: Annotated[tuple[RouteTarget, ...], Field(min_length=1)]
    order: Literal["listed", "weighted"] = "listed"
    cheaper: tuple[RouteTarget, ...] = ()
    """Who answers while quota is low or the switch `llm_tier` says so."""
    deadline_s: Seconds = 120.0
    """For the whole answer, all attempts together."""
    first_token_s: Seconds = 20.0
    """A provider that has not brought the first token (of a stream) or the answer's head by then is left."""
    answer_s: Seconds = 60.0
    """The same for the whole of an answer that is not streamed."""
    idle_s: Seconds = 10.0
    """Between two pieces of a stream."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 4
    hedge: bool = True
    """Ask a second provider when the first is later than it is in 95 of 100 cases."""
    hedge_min_s: Seconds = 0.05
    hedge_max_s: Seconds = 0.4
    """Also what a provider gets of which nothing is known yet."""
    hedge_share: Share = 0.1
    """At most this share of the requests may be asked twice while the first provider is healthy."""
    continue_streams: bool = True
    """Have another provider go on with an answer that broke off."""
    cache_ttl_s: Annotated[float, Field(ge=0)] = 0.0
    """How long an answer is given again to the same question; 0: only in cache mode or when nobody answers."""
    stale_s: Annotated[float, Field(ge=0)] = 86_400.0
    """How old an answer may be that is given when nobody answers; 0: none is."""
    static_answer: str | None = None
    """The last resort, marked as such."""

    @field_validator("targets", "cheaper", mode="before")
    @classmethod
    def _may_be_names(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return tuple({"target": item} if isinstance(item, str) else item for item in given)
        return given

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "RouteSettings":
        if self.hedge_min_s > self.hedge_max_s:
            raise ValueError(f"hedge_min_s {self.hedge_min_s:g} is above hedge_max_s {self.hedge_max_s:g}")
        return self


class TenantSettings(Section):
    """Someone who asks, known by a key of the gateway's. With any tenant configured, a key is wanted of all."""

    name: Name
    keys: Annotated[tuple[SecretStr, ...], Field(min_length=1), _WHOLE_KEYS]
    weight: Count = 1
    """Of its turn in the queue, when calls have to wait."""


class QuotaSettings(Section):
    """How much may be used in a window of time: of tokens, requests, money, or several of them. 0 means none at all."""

    name: Name
    tenant: str = "*"
    """Whose calls count, as a name or a glob."""
    per_tenant: bool = False
    """Each tenant has all of it for itself; without it they share."""
    model: str = "*"
    """Which calls count: a route, or provider/model, as a name or a glob."""
    window: Literal["minute", "hour", "day", "month"] = "day"
    timezone: Zone = "UTC"
    """Where the window begins and ends: midnight, the first of the month."""
    tokens: Annotated[int, Field(ge=0)] | None = None
    """Input and output together."""
    requests: Annotated[int, Field(ge=0)] | None = None
    money: Annotated[float, Field(ge=0, le=1e9)] | None = None
    alert_at: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.8, 1.0)
    """Shares of the limit at each of which one alert a window is raised."""
    low_at: Share = 0.9
    """From this share on the quota counts as low, which the degradation rules may look at."""
    reserve: Share = 0.0
    """Share of the limit that only the recovery of a P0 incident, or who breaks the glass, may use."""
    lease: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the limit that one gateway holds at most, to give out without asking."""
    away: Share = 0.05
    """Share of the limit that one gateway gives out at most after the control plane was last heard."""
    lease_s: Annotated[float, Field(ge=0.5)] = 10.0
    """How long a gateway holds a lease without a word; twice in this time it says what was used."""

    @model_validator(mode="after")
    def _limits_something(self) -> "QuotaSettings":
        if self.tokens is None and self.requests is None and self.money is None:
            raise ValueError(f"the quota {self.name!r} limits nothing: give it tokens, requests or money")
        return self


class LlmSettings(Section):
    """The LLM plane. Without a provider there is none."""

    providers: tuple[ProviderSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    tenants: tuple[TenantSettings, ...] = ()
    quotas: tuple[QuotaSettings, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
    """When to degrade: further rules, and changes of those that are shipped."""
    checks: tuple[CheckSettings, ...] = ()
    """Questions with known answers."""
    default_route: str | None = None
    """For a model that no route names; without it such a call is refused."""
    currency: str = "USD"
    max_body_mb: Annotated[float, Field(gt=0)] = 32.0
    probe_tokens_per_hour: Annotated[int, Field(ge=0)] = 20_000
    """At most this many tokens an hour, for each provider, go into the gateway's own shadow calls."""
    return_max_s: Seconds = 12.0
    """How long the way back to all calls takes at most for a provider that was out. It gets its first calls as soon as
    a probe is good, and all of them 0.75 s later; each time that it falls again within 30 s it takes twice as long."""
    cache_memory_mb: Annotated[float, Field(ge=0)] = 16.0
    cache_disk_mb: Annotated[float, Field(ge=0)] = 256.0
    queue_wait_s: Seconds = 10.0
    """How long a call waits for its turn while the number of calls underway is bounded."""
    queue_max: Count = 200
    """How many may wait; then the tenant with most calls in the queue is refused first."""
    log_bodies: bool = False
    """Write prompts and answers to the log. They hold what your users say."""

    @field_validator("rules", mode="before")
    @classmethod
    def _rules_may_change_shipped_ones(cls, given: Any) -> Any:
        return tuple(with_shipped(given)) if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _tenants_fit(self) -> "LlmSettings":
        owners: dict[str, str] = {}
        for tenant in self.tenants:
            for key in tenant.keys:
                other = owners.setdefault(key.get_secret_value(), tenant.name)
                if other != tenant.name:
                    raise ValueError(f"tenants {other!r} and {tenant.name!r} have a key in common: who asks with it?")
        names = {tenant.name for tenant in self.tenants}
        for quota in self.quotas:
            if names and not is_glob(quota.tenant) and quota.tenant not in names:
                raise ValueError(f"quota {quota.name!r} is for the tenant {quota.tenant!r}, whom there is not")
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> "LlmSettings":
        for what, names in (
            ("providers", [provider.name for provider in self.providers]),
            ("routes", [name for route in self.routes for name in (route.name, *route.also)]),
            ("tenants", [tenant.name for tenant in self.tenants]),
            ("quotas", [quota.name for quota in self.quotas]),
            ("rules", [rule.name for rule in self.rules]),
            ("checks", [check.name for check in self.checks]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"two {what} share the name {twice[0]!r}")
        for provider in self.providers:
            models = [model.name for model in provider.models]
            if twice := sorted({name for name in models if models.count(name) > 1}):
                raise ValueError(f"provider {provider.name!r} has two models called {twice[0]!r}")
        known = {f"{provider.name}/{model.name}" for provider in self.providers for model in provider.models}
        for route in self.routes:
            for choice in (*route.targets, *route.cheaper):
                if choice.target not in known:
                    raise ValueError(
                        f"route {route.name!r} names {choice.target!r}, which no provider has; "
                        f"there are {', '.join(sorted(known)) or 'none'}"
                    )
        asked = known | {name for route in self.routes for name in (route.name, *route.also)}
        for quota in self.quotas:
            if not is_glob(quota.model) and quota.model not in asked:
                raise ValueError(f"quota {quota.name!r} is for {quota.model!r}, which is neither a route nor a target")
        routes = {route.name for route in self.routes}
        for check in self.checks:
            if check.route is not None and check.route not in routes:
                raise ValueError(f"check {check.name!r} is for {check.route!r}, which is no route")
        if self.default_route is not None and self.default_route not in routes:
            raise ValueError(f"default_route {self.default_route!r} is no route")
        return self
