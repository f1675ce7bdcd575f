"""The settings of the LLM plane's policies: when to degrade by itself, and which questions have known answers."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reanimate.section import Name, Seconds, Section

__all__ = ["RULES", "SIGNALS", "CheckSettings", "RuleSettings", "Signal", "rules_in_force", "with_shipped"]

Signal = Literal[
    "quota_used", "failures_in_a_row", "error_rate", "p50_s", "p95_s", "p99_s", "first_token_p99_s", "waiting"
]
SIGNALS: dict[Signal, str] = {
    "quota_used": "share of the tightest quota that is used, by tenant",
    "failures_in_a_row": "calls, one after another, that no provider answered",
    "error_rate": "share of the calls, of those for which a provider was asked, that none answered",
    "p50_s": "half of the calls took longer, in seconds at the providers",
    "p95_s": "one of twenty calls took longer",
    "p99_s": "one of a hundred calls took longer",
    "first_token_p99_s": "one of a hundred streams began later",
    "waiting": "calls that wait for their turn",
}


class RuleSettings(Section):
    """When a signal passes a bound, the gateway holds switches by itself; it lets go step by step."""

    name: Name
    enabled: bool = True
    signal: Signal
    above: Annotated[float, Field(ge=0)]
    """The rule begins to hold when the signal is above this …"""
    clear_below: Annotated[float, Field(ge=0)]
    """… and lets go when it is below this."""
    min_samples: Annotated[int, Field(ge=1)] = 20
    """With fewer calls in the window the signal says nothing."""
    window_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    hold_s: Seconds = 30.0
    """How long it holds at least; longer each time that letting go went wrong."""
    step_s: Seconds = 10.0
    """How long each step of letting go is watched."""
    per: Literal["route", "all"] = "route"
    """Judge and hold each route for itself, or all calls together."""
    tier: Literal["cheaper"] | None = None
    cache: Literal["first", "only"] | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    static: Annotated[int, Field(ge=1, le=100)] | None = None
    """Percent of the calls that get the static answer; of routes that have one."""

    @model_validator(mode="after")
    def _makes_sense(self) -> "RuleSettings":
        if self.clear_below > self.above:
            raise ValueError(f"rule {self.name!r} lets go below {self.clear_below:g}, above where it begins")
        if not any((self.tier, self.cache, self.concurrency, self.static)):
            raise ValueError(f"rule {self.name!r} holds nothing: give it tier, cache, concurrency or static")
        if self.signal == "quota_used" and self.concurrency is not None:
            raise ValueError(f"rule {self.name!r} is about tenants, and concurrency is bounded by route only")
        return self


RULES: tuple[RuleSettings, ...] = (
    RuleSettings(
        name="quota_low", signal="quota_used", above=0.9, clear_below=0.85, min_samples=1, hold_s=60, tier="cheaper"
    ),
    RuleSettings(
        name="failures_in_a_row",
        signal="failures_in_a_row",
        above=5,
        clear_below=1,
        min_samples=1,
        hold_s=10,
        step_s=5,
        cache="first",
    ),
    RuleSettings(
        name="slow", signal="p99_s", above=30, clear_below=20, window_s=120, hold_s=60, step_s=20, concurrency=5
    ),
    RuleSettings(name="errors", signal="error_rate", above=0.1, clear_below=0.05, static=100),
)
"""Those that are shipped. A rule of the settings with the name of one of these changes it."""


def with_shipped(given: Iterable[Any]) -> list[Any]:
    """Fill what a rule does not say from the shipped one of its name."""
    shipped = {rule.name: rule for rule in RULES}
    filled: list[Any] = []
    for item in given:
        if isinstance(item, Mapping) and (known := shipped.get(str(item.get("name")))) is not None:
            filled.append(known.model_dump() | dict(item))
        else:
            filled.append(item)
    return filled


def rules_in_force(given: Iterable[RuleSettings]) -> tuple[RuleSettings, ...]:
    """Return the shipped rules as the settings change them, and further ones, without those that are off."""
    rules = {rule.name: rule for rule in RULES} | {rule.name: rule for rule in given}
    return tuple(rule for rule in rules.values() if rule.enabled)


class CheckSettings(Section):
    """A question with a known answer, asked of each model when the quality of answers is in doubt."""

    name: Name
    route: str | None = None
    """Only the models of this route are asked; without one, those of all."""
    system: str | None = None
    prompt: Annotated[str, Field(min_length=1)]
    contains: str | None = None
    """The answer has this in it, whatever the case."""
    matches: str | None = None
    """A regular expression that is found in the answer."""
    json_schema: dict[str, Any] | None = None
    """The answer is JSON of this schema."""
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 64

    @model_validator(mode="after")
    def _expects_something(self) -> "CheckSettings":
        if self.contains is None and self.matches is None and self.json_schema is None:
            raise ValueError(f"check {self.name!r} expects nothing: give it contains, matches or json_schema")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise ValueError(f"check {self.name!r}: {self.matches!r} is no regular expression: {error}") from None
        return self
