"""Who can be asked: providers, their models, and the routes over them; made anew from the settings at each reload."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from reanimate.llm_settings import LlmSettings, ModelSettings, ProviderSettings, RouteSettings, RouteTarget
from reanimate.section import is_glob

__all__ = ["Catalogue", "Choice", "Key", "Provider", "Route", "Target", "Wire"]

Wire = Literal["openai", "anthropic"]

_NAMES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Key:
    """One of a provider's keys. `name` may be shown, the value may not."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Provider:
    """A server that speaks one of the two wires. Without keys it is asked without one."""

    name: str
    wire: Wire
    url: str
    keys: tuple[Key, ...]
    pass_key: bool
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    usage_in_streams: bool
    connect_timeout_s: float
    responses: bool = True
    """Whether it has `/responses`, where it speaks OpenAI's wire."""


@dataclass(frozen=True, slots=True)
class Target:
    """One model of one provider: what a call is sent to. `name` is provider/model."""

    name: str
    provider: Provider
    model: str
    can: ModelSettings
    """Its capabilities, prices and limits."""

    def price(self, input_tokens: int, output_tokens: int) -> float:
        """Return what these tokens cost, in the currency of the settings."""
        return (input_tokens * self.can.input_price + output_tokens * self.can.output_price) / 1_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """A target of a route, with its weight there."""

    target: Target
    weight: int


@dataclass(frozen=True, slots=True)
class Route:
    """What an agent asks for, and who may answer. The limits are in `settings`."""

    name: str
    targets: tuple[Choice, ...]
    cheaper: tuple[Choice, ...]
    settings: RouteSettings


class Catalogue:
    """Immutable: a call keeps the one it began with, so that a reload changes nothing for what is underway."""

    def __init__(self, settings: LlmSettings) -> None:
        self.settings = settings
        self.providers = {item.name: _provider(item) for item in settings.providers}
        self.targets = {
            f"{item.name}/{model.name}": Target(
                f"{item.name}/{model.name}", self.providers[item.name], model.name, model
            )
            for item in settings.providers
            for model in item.models
        }
        self.routes = {item.name: self._route(item) for item in settings.routes}
        self._exact = {name: self.routes[item.name] for item in settings.routes for name in (item.name, *item.also)}
        self._globs = [(name, route) for name, route in self._exact.items() if is_glob(name)]
        self._default = self.routes.get(settings.default_route or "")
        self._found: dict[str, Route | None] = {}

    def route(self, model: str) -> Route | None:
        """Return the route for the model that a caller asks for: by name, by glob, else the default."""
        if (exact := self._exact.get(model)) is not None:
            return exact
        if model not in self._found:
            found = next((route for glob, route in self._globs if fnmatchcase(model, glob)), self._default)
            if len(self._found) >= _NAMES_KEPT:
                return found
            self._found[model] = found
        return self._found[model]

    def _choices(self, items: Iterable[RouteTarget]) -> tuple[Choice, ...]:
        return tuple(Choice(self.targets[item.target], item.weight) for item in items)

    def _route(self, item: RouteSettings) -> Route:
        return Route(item.name, self._choices(item.targets), self._choices(item.cheaper), item)


def _provider(item: ProviderSettings) -> Provider:
    keys = tuple(Key(f"{item.name}#{n}", key.get_secret_value()) for n, key in enumerate(item.keys, start=1))
    headers = tuple((name.lower().encode(), value.get_secret_value().encode()) for name, value in item.headers.items())
    return Provider(
        item.name,
        item.wire,
        item.url,
        keys,
        item.pass_key,
        headers,
        item.usage_in_streams,
        item.connect_timeout_s,
        item.responses,
    )
